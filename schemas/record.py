"""The base of everything that crosses a topic, and how it is written and read.

Values are JSON. The schema's name and version travel in the headers `schema` and
`schema-version`, so that the body of a request stays as small as `{"prompt": "…"}`.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Self

import orjson
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationError,
)
from pydantic_core import core_schema

from millrace.schemas.errors import InvalidEventError

SCHEMA_HEADER = "schema"
VERSION_HEADER = "schema-version"
TRACE_HEADER = "traceparent"

Headers = tuple[tuple[str, bytes], ...]
"""As we write them."""

ForeignHeaders = tuple[tuple[str, bytes | None], ...]
"""As they may be read: Kafka lets a header have no value."""

_VERSION_DIGITS = 9


def _as_utc(value: Any) -> Any:
    if not isinstance(value, datetime) or value.tzinfo is None:
        return value
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is not within the years 1 to 9999 in UTC") from error


class InPython:
    """A step before a field's validation that JSON has no need of.

    For values of types that JSON does not know. As plain `BeforeValidator`s they would be called
    for each field of each record that is read.
    """

    def __init__(self, step: Callable[[Any], Any]) -> None:
        self._step = step

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """The field's own schema, for Python values behind the step."""
        schema = handler(source)
        stepped = core_schema.no_info_before_validator_function(self._step, schema)
        return core_schema.json_or_python_schema(json_schema=schema, python_schema=stepped)


Instant = Annotated[AwareDatetime, InPython(_as_utc)]
"""A moment with its time zone; written as ISO 8601."""


class Frozen(BaseModel):
    """An immutable value that accepts no field it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", serialize_by_alias=True, validate_by_name=True
    )

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """The value itself: it never changes.

        pydantic copies a default deeply wherever it is taken, if it cannot be hashed, as a value
        with a dict in it: 100 µs for a request that says nothing of its route.
        """
        return self


class Record(Frozen):
    """A value of a topic, with the name and version its headers carry."""

    schema_name: ClassVar[str]
    schema_version: ClassVar[int] = 1
    _own_headers: ClassVar[Headers]
    leaves_out_none: ClassVar[bool] = False
    """Whether fields that are None are not written, as for records that only the pipeline reads: a
    third of a call is fields that nobody has set. Each such field must be None by default."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Know a record's headers from the start: they go with each one that is written."""
        name = getattr(cls, "schema_name", None)
        if name is not None:
            version = str(cls.schema_version).encode()
            cls._own_headers = ((SCHEMA_HEADER, name.encode()), (VERSION_HEADER, version))

    def encode(self) -> bytes:
        """Write the record as UTF-8 JSON."""
        return self.__pydantic_serializer__.to_json(self, exclude_none=self.leaves_out_none)

    @classmethod
    def kafka_headers(cls) -> Headers:
        """The headers that say what the value is."""
        return cls._own_headers

    @classmethod
    def decode(cls, value: bytes, headers: Iterable[tuple[str, bytes | None]] = ()) -> Self:
        """Read a record, tolerating new fields only of a version newer than this one.

        Raises:
            InvalidEventError: The bytes are not JSON, or do not fit the schema; the message
                names each field that is wrong, never its value.
        """
        newer = any(
            name == VERSION_HEADER and _version(raw) > cls.schema_version for name, raw in headers
        )
        try:
            return cls.model_validate_json(value, extra="ignore" if newer else "forbid")
        except ValidationError as error:
            raise InvalidEventError(
                f"not a valid {cls.schema_name}: {describe(error)}", code="invalid_request"
            ) from error


def _version(raw: bytes | None) -> int:
    """The version that a header tells; 0 where it tells none."""
    return int(raw) if raw and len(raw) <= _VERSION_DIGITS and raw.isdigit() else 0


def describe(error: ValidationError) -> str:
    """Name every field that is wrong and why, without quoting any value."""
    lines = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in item["loc"])
        said = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            said = "there is no such field"
        lines.append(f"{place}: {said}" if place else said)
    return "; ".join(lines)


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, so that equal content gives equal bytes."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
