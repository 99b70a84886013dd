"""Where a process's settings come from: a config file, the environment, a file of variables."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from millrace.schemas.errors import ConfigurationError
from millrace.streams.settings import Settings, load_settings

_QUOTES = "\"'"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSource:
    """Reads settings, again and again if need be.

    A process's own environment cannot be changed from outside. So keys that are to be changed
    while it runs come from `env_file`, whose variables win over the environment's.
    """

    file: Path | None
    environ: Mapping[str, str]
    env_file: Path | None = None

    def environment(self) -> dict[str, str]:
        """The variables that count now.

        Raises:
            ConfigurationError: The file of variables cannot be read; names every bad line.
        """
        if self.env_file is None:
            return dict(self.environ)
        return {**self.environ, **read_env_file(self.env_file)}

    def load(self) -> tuple[Settings, dict[str, str]]:
        """The settings as they stand now, and the variables that they were made with.

        Raises:
            ConfigurationError: Names every problem found.
        """
        environ = self.environment()
        return load_settings(self.file, environ), environ

    def fingerprint(self) -> str:
        """Changes when the files' contents do; a file that cannot be read has none."""
        found = hashlib.blake2b(digest_size=16)
        for file in (self.file, self.env_file):
            try:
                found.update(b"" if file is None else b"+" + file.read_bytes())
            except OSError:
                found.update(b"-")
        return found.hexdigest()


def read_env_file(file: Path) -> dict[str, str]:
    """Read lines of the form `NAME=value`, as a shell or Docker would.

    `export ` before a name, empty lines and lines that begin with `#` are allowed, and quotes
    around a value. Nothing is expanded.

    Raises:
        ConfigurationError: The file cannot be read, or a line is no assignment; names lines by
            their numbers only, as they may hold keys.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the file of variables {str(file)!r} cannot be read: {type(error).__name__}"
        ) from error
    found: dict[str, str] = {}
    bad: list[str] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, assigned, value = text.removeprefix("export ").partition("=")
        name = name.strip()
        if not assigned or not name.replace("_", "a").isalnum() or name[0].isdigit():
            bad.append(str(number))
            continue
        found[name] = _unquoted(value.strip())
    if bad:
        raise ConfigurationError(
            f"{str(file)!r}: no NAME=value in line(s) {', '.join(bad)}; correct or remove them"
        )
    return found


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in _QUOTES
    return value[1:-1] if quoted else value
