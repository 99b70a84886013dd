"""Where ClickHouse is, and how rows are brought there."""

import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from millrace.schemas.record import Frozen

DEFAULT_DATABASE = "millrace"
_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
_FORMS = "'chdb:///path' or 'http(s)://user:password@host:port/database'"


class ClickHouseSettings(Frozen):
    """A ClickHouse server, or the embedded engine on a path of this machine."""

    # A message about a wrong URL must not show the password in it.
    model_config = ConfigDict(hide_input_in_errors=True)

    url: SecretStr
    """`chdb:///path` (the third slash begins an absolute path; one process at a time may have
    a path open) or `http(s)://user:password@host:port/database`. A query string sets settings
    of the server for every request, such as `?insert_quorum=2`."""
    database: Annotated[str, Field(pattern=_NAME)] | None = None
    """Made if it does not exist; the one in the URL when unset, else `millrace`."""
    batch_rows: int = Field(default=5_000, ge=1, le=1_000_000)
    """Write as soon as so many records wait: ClickHouse wants thousands of rows an insert."""
    batch_seconds: float = Field(default=1.0, gt=0, le=60)
    """Write at the latest when the oldest record has waited so long: about an insert a second
    is what a table merges with ease."""
    verify_tls: bool = True
    """Check the server's certificate (https only)."""
    ca_file: Path | None = None
    """Certificates to trust (PEM) in place of the operating system's."""
    client_certificate: Path | None = None
    """For mutual TLS (PEM), with the key in the same file or in `client_key`."""
    client_key: Path | None = None
    connect_timeout_seconds: int = Field(default=10, ge=1)
    request_timeout_seconds: int = Field(default=120, ge=1)
    """How long one insert or query may take; longer than any merge stall to be borne."""
    ttl_days: int | None = Field(default=None, ge=1, le=36_500)
    """Rows older than this are deleted when the server merges; kept for ever when unset."""
    store_text: bool = True
    """Whether prompts, answers and the bytes of dead letters are stored. Sizes, counts, costs
    and ids always are."""
    engine_memory_bytes: int = Field(default=1 << 30, ge=512 << 20)
    """What the process may hold, all in all, before the embedded engine refuses work."""
    engine_min_free_bytes: int = Field(default=256 << 20, ge=0)
    """The embedded engine writes and merges nothing while its disk has less space left: a merge
    that runs out of space destroys what it merges."""

    @field_validator("url")
    @classmethod
    def _known_form(cls, url: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(url.get_secret_value())
            _ = parts.port
        except ValueError:
            raise ValueError(f"not a URL of the form {_FORMS}") from None
        if parts.scheme == "chdb":
            if parts.netloc or parts.path in ("", "/"):
                raise ValueError("an embedded engine needs an absolute path: 'chdb:///path'")
        elif parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not a URL of the form {_FORMS}")
        return url

    @model_validator(mode="after")
    def _usable_database(self) -> Self:
        if not re.fullmatch(_NAME, self.database_name):
            raise ValueError(
                f"the URL names the database {self.database_name!r}; use letters, digits and '_'"
            )
        return self

    @property
    def database_name(self) -> str:
        """The database all tables are in: the given one, else the URL's, else `millrace`."""
        in_url = "" if self.embedded else unquote(self.parts.path.strip("/"))
        return self.database or in_url or DEFAULT_DATABASE

    @property
    def parts(self) -> SplitResult:
        """The URL, taken apart; holds the password."""
        return urlsplit(self.url.get_secret_value())

    @property
    def embedded(self) -> bool:
        """Whether the engine runs in this process."""
        return self.parts.scheme == "chdb"

    @property
    def folder(self) -> Path:
        """Where the embedded engine keeps its data."""
        return Path(unquote(self.parts.path))

    @property
    def server_settings(self) -> dict[str, str]:
        """What the URL's query string sets."""
        return dict(parse_qsl(self.parts.query, keep_blank_values=True))

    @property
    def location(self) -> str:
        """The URL as messages may show it: without user, password and query string."""
        parts = self.parts
        if self.embedded:
            return f"chdb://{unquote(parts.path)}"
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}/{self.database_name}"
