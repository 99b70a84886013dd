"""Spreading the calls of one entry over several servers and keys."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

from millrace.providers.balance import Balancer
from millrace.providers.http_provider import HttpProvider
from millrace.providers.keys import ApiKey
from millrace.providers.protocol import (
    EmbeddingReply,
    EmbeddingRequest,
    ModelRequest,
    ProviderEvent,
    Quota,
)
from millrace.schemas.errors import (
    ErrorCode,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    RequestRefusedError,
)
from millrace.schemas.provider_health import KeyAside

_UNREACHABLE_SECONDS = 5.0
"""How long a server that did not answer is passed over while another one is there."""

_NO_ANSWER: frozenset[ErrorCode] = frozenset({"provider_unavailable", "provider_timeout"})
_FORBIDDEN = 403


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server together with one of the keys that it takes."""

    server: HttpProvider
    key: ApiKey | None
    weight: float

    @property
    def name(self) -> str:
        """What the balancer knows it by."""
        return self.server.address if self.key is None else f"{self.key} at {self.server.address}"


class BalancedProvider:
    """Implements `Provider` and `Embedder` over several targets of one entry.

    Each call goes to one target and is not repeated at another: that is for whoever retries, who
    will get another one then. A key that its server answers with 401, or whose quota is used up,
    gets no calls for a while; at other servers it is found out anew. While another target is left,
    the error of such a key says so (`other_key`) and is retryable. A server that does not answer is
    passed over for some seconds as long as another one is there.
    """

    def __init__(
        self,
        *,
        name: str,
        targets: Sequence[Target],
        balancer: Balancer,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self.name = name
        self._balancer = balancer
        self._now = now
        self._monotonic = monotonic
        self._targets = {target.name: target for target in targets}
        self._servers = tuple({id(each.server): each.server for each in targets}.values())

    async def ask(self, request: ModelRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Send the request to the target whose turn it is; see `Provider`.

        Raises:
            ProviderError: As the target's; or every key is set aside.
        """
        target = self._choose(request.quota)
        started = self._monotonic()
        seconds: float | None = None
        try:
            asked = target.server.ask(request, key=target.key, account=target.name)
            async with aclosing(asked) as events:
                async for event in events:
                    if seconds is None:
                        seconds = self._monotonic() - started
                    yield event
        except ProviderError as error:
            self._note(target, error, begun=seconds is not None)
            raise
        finally:
            self._balancer.give_back(target.name, seconds=seconds)

    async def embed(self, request: EmbeddingRequest) -> EmbeddingReply:
        """Send the batch to the target whose turn it is; see `Embedder`.

        Raises:
            ProviderError: As the target's; or every key is set aside.
        """
        target = self._choose(request.quota)
        try:
            return await target.server.embed(request, key=target.key, account=target.name)
        except ProviderError as error:
            self._note(target, error, begun=False)
            raise
        finally:
            # No latency: a batch takes as long as its texts are, a call until its first token.
            self._balancer.give_back(target.name)

    async def check(self) -> None:
        """Reach every server with every key; what works again gets calls again.

        Raises:
            ProviderError: None of them works; the first one's error.
        """
        targets = tuple(self._targets.values())
        errors = await asyncio.gather(*map(self._checked, targets))
        if errors[0] is not None and None not in errors:
            raise errors[0]

    async def aclose(self) -> None:
        """Close every connection; calls still running raise."""
        for server in self._servers:
            await server.aclose()

    @property
    def keys_set_aside(self) -> tuple[KeyAside, ...]:
        """The keys that are not used for now, at whichever server; each once, until the latest."""
        found: dict[str, tuple[float, ErrorCode]] = {}
        for aside in self._balancer.aside:
            key = self._targets[aside.name].key
            if key is None or aside.reason in _NO_ANSWER:
                continue
            known = found.get(key.alias)
            if known is None or known[0] < aside.until:
                found[key.alias] = (aside.until, aside.reason)
        now, moment = self._now(), self._monotonic()
        return tuple(
            KeyAside(alias=alias, reason=reason, until=now + timedelta(seconds=until - moment))
            for alias, (until, reason) in found.items()
        )

    @property
    def usable(self) -> bool:
        """Whether some server with some key gets calls."""
        return len(self._balancer.aside) < len(self._targets)

    @property
    def accounts(self) -> tuple[str, ...]:
        """Each server with each of its keys."""
        return tuple(self._targets)

    def _choose(self, quota: Quota | None) -> Target:
        name = self._balancer.choose(None if quota is None else quota.may_use)
        if name is None:
            raise self._none_left()
        return self._targets[name]

    def _note(self, target: Target, error: ProviderError, *, begun: bool) -> None:
        if error.code in _NO_ANSWER:
            if not begun:
                self._pass_over(target.server, error.code)
        elif error.http_status != _FORBIDDEN:
            # With 403 a key is good, but not for this model or request.
            self._balancer.note(target.name, error)
            if self.usable and any(each.name == target.name for each in self._balancer.aside):
                # The wait that was asked for is the key's, not that of the next one.
                error.other_key, error.retryable, error.retry_after = True, True, None

    def _pass_over(self, server: HttpProvider, reason: ErrorCode) -> None:
        aside = {each.name for each in self._balancer.aside}
        others = [
            target
            for target in self._targets.values()
            if target.server is not server and target.name not in aside
        ]
        if not others:
            return
        for target in self._targets.values():
            if target.server is server and target.name not in aside:
                self._balancer.set_aside(target.name, seconds=_UNREACHABLE_SECONDS, reason=reason)

    async def _checked(self, target: Target) -> ProviderError | None:
        try:
            await target.server.check(key=target.key)
        except ProviderError as error:
            self._note(target, error, begun=False)
            return error
        aside = {each.name: each.reason for each in self._balancer.aside}
        # A key without credit still lists models, so that says nothing.
        if aside.get(target.name) not in (None, "rate_limited"):
            self._balancer.restore(target.name)
        return None

    def _none_left(self) -> ProviderError:
        first = min(self._balancer.aside, key=lambda each: each.until)
        wait = max(0.0, first.until - self._monotonic())
        reasons = ", ".join(f"{each.name}: {each.reason}" for each in self._balancer.aside)
        what = f"every key of {self.name!r} is set aside ({reasons})"
        match first.reason:
            case "rate_limited":
                return RateLimitedError(
                    f"{what}: quota or credit is used up", retryable=False, retry_after=wait
                )
            case "authentication_failed":
                return RequestRefusedError(
                    f"{what}: check the keys in these environment variables", code=first.reason
                )
            case _:
                return ProviderUnavailableError(what, retry_after=wait)
