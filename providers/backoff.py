"""Whether a failed call is asked again at the same provider, and when.

Pure: it draws no chance and reads no clock but what it is given, and it waits for nobody.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from millrace.schemas.errors import ErrorCode, ProviderError
from millrace.schemas.record import Frozen

_NOT_HERE: frozenset[ErrorCode] = frozenset({"reply_invalid", "empty_reply"})
"""Worth another try, but elsewhere: what one server cannot say well once, it cannot say twice."""


class BackoffSettings(Frozen):
    """When a failed call is asked again at the same provider."""

    max_tries: int = Field(default=4, ge=1)
    """How often one candidate is asked for one answer, the first time included."""
    tries_before_fallback: int = Field(default=1, ge=1)
    """The same while another candidate is left, which can begin at once."""
    base_seconds: float = Field(default=0.25, gt=0)
    """The longest wait before the second try; it doubles with each further one."""
    max_seconds: float = Field(default=60.0, gt=0)
    """Where the doubling ends."""
    max_inline_seconds: float = Field(default=2.0, ge=0)
    """Longer waits go through the retries topic, so that they keep no place and survive."""
    max_wait_seconds: float = Field(default=900.0, gt=0)
    """A provider that asks for a longer wait than this has given the call up."""


Reason = Literal["not_retryable", "reply_begun", "tries_used_up", "other_candidate", "no_time"]


@dataclass(frozen=True, slots=True)
class RetryHere:
    """Wait so many seconds, keeping the call's place, and ask again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Hand the call to the retries topic, to be asked again after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The failure is this attempt's end."""

    reason: Reason


Verdict = RetryHere | RetryLater | GiveUp


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with full jitter, which never undercuts what the provider asks for.

    `draw` gives a number from 0 up to 1.
    """

    settings: BackoffSettings
    draw: Callable[[], float]

    def decide(
        self,
        error: ProviderError,
        *,
        tries: int,
        begun: bool,
        remaining_seconds: float,
        other_candidate: bool,
    ) -> Verdict:
        """Say what follows from a failure.

        Args:
            error: How the last try failed.
            tries: How often this candidate has been asked by now, at least 1.
            begun: Whether any part of an answer came. It has been shown then, and was paid.
            remaining_seconds: Until the request's deadline. A wait always ends before it.
            other_candidate: Whether the call may go to another model. It is asked sooner then,
                and never kept for a long wait: the other one can begin at once. Where only the
                key failed and there is another one, the same model is asked again all the same.
        """
        final = self._final(error, tries=tries, begun=begun)
        if final is not None:
            return GiveUp(final)
        if error.other_key:
            return RetryHere(0.0)
        settings = self.settings
        if other_candidate and tries >= settings.tries_before_fallback:
            return GiveUp("other_candidate")
        seconds = self._wait(tries, error.retry_after)
        if seconds >= remaining_seconds or seconds > settings.max_wait_seconds:
            return GiveUp("no_time")
        if seconds <= settings.max_inline_seconds:
            return RetryHere(seconds)
        return GiveUp("other_candidate") if other_candidate else RetryLater(seconds)

    def _final(self, error: ProviderError, *, tries: int, begun: bool) -> Reason | None:
        if begun:
            return "reply_begun"
        if not error.retryable or error.code in _NOT_HERE:
            return "not_retryable"
        return "tries_used_up" if tries >= self.settings.max_tries else None

    def _wait(self, tries: int, retry_after: float | None) -> float:
        """Seconds: up to the doubled base, by chance, on top of what the provider asks for.

        The chance keeps the calls that failed together from coming back together.
        """
        settings = self.settings
        # Beyond this exponent every base is over every limit, and a float would overflow.
        ceiling = min(settings.max_seconds, settings.base_seconds * 2.0 ** min(tries - 1, 64))
        if retry_after is None:
            return ceiling * self.draw()
        return max(0.0, retry_after) + min(ceiling, settings.base_seconds) * self.draw()
