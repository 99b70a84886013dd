"""API keys, from the environment variables that an entry names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import cycle
from typing import Self

from millrace.providers.entry import ProviderEntry
from millrace.schemas.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key and the name under which it may be spoken of."""

    alias: str
    """The environment variable it came from."""
    secret: str = field(repr=False)

    def __str__(self) -> str:
        return self.alias


class ApiKeys:
    """The keys of one provider entry, handed out in turn."""

    def __init__(self, keys: tuple[ApiKey, ...]) -> None:
        self._keys = keys
        self._turn = cycle(keys)

    @classmethod
    def from_environment(cls, names: tuple[str, ...], environ: Mapping[str, str]) -> Self:
        """Read the variables; those unset or blank are left out if another one is set.

        Raises:
            ConfigurationError: None of the names is set, or a value cannot be a key. The
                message names variables, never values.
        """
        once = dict.fromkeys(names)
        keys = tuple(ApiKey(name, environ[name].strip()) for name in once if environ.get(name))
        keys = tuple(key for key in keys if key.secret)
        if names and not keys:
            raise ConfigurationError(f"no API key: set {' or '.join(names)} in the environment")
        # What is not visible ASCII would end up as a broken, or a second, HTTP header.
        broken = [key.alias for key in keys if not _is_visible_ascii(key.secret)]
        if broken:
            raise ConfigurationError(
                f"{', '.join(broken)}: a key is made of visible ASCII characters without spaces; "
                "this value has others"
            )
        return cls(keys)

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def all(self) -> tuple[ApiKey, ...]:
        """Every key, in the order given."""
        return self._keys

    @property
    def aliases(self) -> tuple[str, ...]:
        """The names of the variables that hold the keys."""
        return tuple(key.alias for key in self._keys)

    def next(self) -> ApiKey | None:
        """The key whose turn it is; None when the entry needs none."""
        return next(self._turn, None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.aliases)})"


def _is_visible_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def key_values(entry: ProviderEntry, environ: Mapping[str, str]) -> dict[str, str]:
    """What the variables hold that an entry names for its keys, to see whether one was changed."""
    names = (*entry.api_key_env, *(name for each in entry.instances for name in each.api_key_env))
    return {name: environ[name] for name in names if name in environ}
