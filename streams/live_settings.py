"""The settings in force, and what of them can be changed while the process runs."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from millrace.providers.entry import ProviderEntry
from millrace.streams.settings import Settings

log = structlog.get_logger(__name__)

Commit = Callable[[], Awaitable[None]]
"""Puts something prepared in force; must not fail."""
Prepare = Callable[[Settings, Mapping[str, str]], Commit]
"""Makes ready for other settings and another environment, without changing anything yet.

Raises:
    ConfigurationError: They cannot be used.
"""

_LIVE = frozenset({"providers", "routes", "classification", "budgets", "requests"})
"""The sections that take effect at once."""


class LiveSettings:
    """Hands new settings to those who follow them: to all of them, or to none.

    `running` are the settings that the process runs with; `loaded` are those that the file and
    the environment gave, before an embedded broker's address and the like were filled in.
    """

    def __init__(self, *, running: Settings, loaded: Settings) -> None:
        self.current = running
        self._loaded = loaded
        self._started = frozenset(running.enabled_providers)
        self._followers: list[Prepare] = []

    def follow(self, prepare: Prepare) -> None:
        """Have `prepare` called for new settings."""
        self._followers.append(prepare)

    async def apply(self, loaded: Settings, environ: Mapping[str, str]) -> tuple[str, ...]:
        """Put in force what can be; returns, in words, what takes a restart.

        Raises:
            ConfigurationError: They cannot be used; all is as it was.
        """
        kept = [
            f"{path}: takes a restart"
            for name in type(loaded).model_fields
            if name not in _LIVE
            for path in _differing(name, getattr(self._loaded, name), getattr(loaded, name))
        ]
        providers, waiting = self._providers(loaded)
        budgets = loaded.budgets
        if bool(self.current.budgets.root) != bool(budgets.root):
            waiting.append("budgets: the first one, and the end of the last one, take a restart")
            budgets = self.current.budgets
        settings = self.current.model_copy(
            update={
                "providers": providers,
                "routes": loaded.routes,
                "classification": loaded.classification,
                "budgets": budgets,
                "requests": loaded.requests,
            }
        )
        commits = [prepare(settings, environ) for prepare in self._followers]
        for commit in commits:
            await commit()
        self.current = settings
        return (*kept, *waiting)

    def _providers(self, loaded: Settings) -> tuple[dict[str, ProviderEntry], list[str]]:
        """The entries to run with, and what of them takes a restart.

        A new one has no topic and no caller yet. One that was taken out or switched off gets no
        new requests, and what lies on its topic is still worked off.
        """
        providers: dict[str, ProviderEntry] = {}
        waiting = [
            f"providers.{name}: new; takes a restart"
            for name, entry in loaded.enabled_providers.items()
            if name not in self._started
        ]
        for name, entry in self.current.providers.items():
            after = loaded.providers.get(name)
            if name not in self._started:
                providers[name] = entry
            elif after is None or not after.enabled:
                providers[name] = entry.model_copy(update={"enabled": False})
                waiting.append(f"providers.{name}: no new calls; its caller ends with a restart")
            else:
                # Models that the server listed at the start stand in no file.
                listed = {} if after.models else {"models": entry.models}
                providers[name] = after.model_copy(update=listed)
        return providers, waiting


def _differing(path: str, before: Any, after: Any) -> list[str]:
    """Where two settings differ, as the config file names it."""
    fields = getattr(type(before), "model_fields", None)
    if fields is None or type(before) is not type(after):
        return [] if before == after else [path]
    return [
        each
        for name in fields
        for each in _differing(f"{path}.{name}", getattr(before, name), getattr(after, name))
    ]
