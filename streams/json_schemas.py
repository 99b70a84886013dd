"""JSON Schema (2020-12) for every record that crosses a public topic."""

from typing import Any, Literal

from pydantic.json_schema import models_json_schema

from millrace.schemas.budget import BudgetAlert, BudgetClaim, BudgetRelease, BudgetSettlement
from millrace.schemas.call import Call
from millrace.schemas.cancellation import Cancellation
from millrace.schemas.chunk import Chunk
from millrace.schemas.dead_letter import DeadLetter
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.outcome import AttemptOutcome, JoinOpened, JoinTimeout, Refusal
from millrace.schemas.provider_health import ProviderHealth
from millrace.schemas.record import Record
from millrace.schemas.request import EMBEDDING_STRATEGIES, OF_JOINS, Request
from millrace.schemas.response import Response
from millrace.schemas.retry import Retry

DIALECT = "https://json-schema.org/draft/2020-12/schema"

WRITTEN_BY_CLIENTS: tuple[type[Record], ...] = (Request, Cancellation)
"""Described as they are accepted: an unknown field is an error."""

WRITTEN_BY_MILLRACE: tuple[type[Record], ...] = (
    Chunk,
    Response,
    DeadLetter,
    UsageEvent,
    BudgetClaim,
    BudgetSettlement,
    BudgetRelease,
    BudgetAlert,
    Call,
    AttemptOutcome,
    Refusal,
    JoinOpened,
    JoinTimeout,
    Retry,
    ProviderHealth,
)
"""Described as they are written. Fields may be added in time, so unknown ones are allowed."""

PUBLIC_RECORDS = (*WRITTEN_BY_CLIENTS, *WRITTEN_BY_MILLRACE)


def json_schema(record: type[Record]) -> dict[str, Any]:
    """One record's schema, whole: every reference points within it."""
    definitions, roots = _generate([record], "#/$defs/{model}")
    root = definitions.pop(roots[record])
    return {
        "$schema": DIALECT,
        "$id": f"urn:millrace:{record.schema_name}:{record.schema_version}",
        **root,
        **({"$defs": definitions} if definitions else {}),
    }


def shared_definitions(template: str) -> tuple[dict[str, Any], dict[type[Record], str]]:
    """All records' schemas side by side, and each record's name among them.

    `template` is a reference with `{model}` where the name goes.
    """
    return _generate(PUBLIC_RECORDS, template)


def _generate(
    records: tuple[type[Record], ...] | list[type[Record]], template: str
) -> tuple[dict[str, Any], dict[type[Record], str]]:
    references, document = models_json_schema(
        [(record, _mode(record)) for record in records],
        ref_template=template,
    )
    definitions: dict[str, Any] = document["$defs"]
    prefix = template.removesuffix("{model}")
    names = {
        record: references[(record, _mode(record))]["$ref"].removeprefix(prefix)
        for record in records
    }
    for record in records:
        definitions[names[record]]["title"] = record.schema_name
    for name in _reachable(definitions, names, prefix):
        definitions[name].pop("additionalProperties", None)
    if Request in names:
        definitions[names[Request]].update(_REQUEST_RULES)
        definitions[_output_name(definitions[names[Request]], prefix)].update(_OUTPUT_RULES)
    return {name: _clean(schema) for name, schema in definitions.items()}, names


def _mode(record: type[Record]) -> Literal["validation", "serialization"]:
    return "validation" if record in WRITTEN_BY_CLIENTS else "serialization"


def _reachable(
    definitions: dict[str, Any], names: dict[type[Record], str], prefix: str
) -> set[str]:
    """Definitions that records of Millrace use and records of clients do not."""

    def spread(roots: list[str]) -> set[str]:
        seen: set[str] = set()
        while roots:
            name = roots.pop()
            if name not in seen:
                seen.add(name)
                roots.extend(ref.removeprefix(prefix) for ref in references_in(definitions[name]))
        return seen

    ours = spread([name for record, name in names.items() if record in WRITTEN_BY_MILLRACE])
    return ours - spread([name for record, name in names.items() if record in WRITTEN_BY_CLIENTS])


def references_in(node: Any) -> list[str]:
    """Every `$ref` below a node."""
    if isinstance(node, list):
        return [ref for item in node for ref in references_in(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [ref for value in node.values() for ref in references_in(value)]


def _clean(node: Any) -> Any:
    # `discriminator` is OpenAPI's; AsyncAPI gives the word another meaning, and the `const`
    # in each variant says the same.
    if isinstance(node, list):
        return [_clean(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _clean(value)
        for key, value in node.items()
        if not (key == "discriminator" and isinstance(value, dict) and "propertyName" in value)
    }


def _output_name(request: dict[str, Any], prefix: str) -> str:
    reference: str = references_in(request["properties"]["output"])[0]
    return reference.removeprefix(prefix)


def _given(name: str, kind: str) -> dict[str, Any]:
    return {"required": [name], "properties": {name: {"type": kind}}}


_ONLY_VECTORS: dict[str, Any] = {
    "properties": {
        "stream": {"const": False},
        "tools": {"maxItems": 0},
        "parameters": {"additionalProperties": {"enum": [None, []]}},
        "output": {"properties": {"format": {"const": "text"}, "schema": {"type": "null"}}},
        "route": {
            "properties": {
                "strategy": {"enum": sorted(EMBEDDING_STRATEGIES)},
                **{name: {"enum": [None, [], {}]} for name in OF_JOINS},
            }
        },
    }
}

_REQUEST_RULES: dict[str, Any] = {
    "oneOf": [
        _given("prompt", "string"),
        _given("messages", "array"),
        _given("template", "string"),
        _given("inputs", "array"),
    ],
    "if": {"required": ["variables"], "properties": {"variables": {"minProperties": 1}}},
    "then": _given("template", "string"),
    "allOf": [
        {
            "if": _given("inputs", "array"),
            "then": _ONLY_VECTORS,
            "else": {
                "properties": {
                    "dimensions": {"type": "null"},
                    "route": {
                        "properties": {
                            "capabilities": {"not": {"contains": {"const": "embeddings"}}}
                        }
                    },
                }
            },
        }
    ],
}
"""What `Request` checks across fields: one source of text, variables only for a template, and
nothing about answers beside inputs."""

_OUTPUT_RULES: dict[str, Any] = {
    "if": _given("schema", "object"),
    "then": {"required": ["format"], "properties": {"format": {"const": "json"}}},
}
