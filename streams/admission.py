"""Which of the calls that were read is begun next, and which have to wait for a rate limit."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from millrace.providers.rate_limit import RateLimiter, Reservation
from millrace.schemas.call import Call
from millrace.schemas.errors import InvalidEventError, PipelineError
from millrace.streams.dead_letters import RawRecord
from millrace.streams.lanes import Lanes, LaneSettings, Verdict
from millrace.streams.offsets import Partition
from millrace.streams.places import Place
from millrace.streams.quotas import expected_tokens

log = structlog.get_logger(__name__)

_OVERHEAD_BYTES = 2048
"""What a call takes in memory besides its content."""
_CALL_VERSION = Call.kafka_headers()[1]
_QUIET_SECONDS = 10.0
"""A limit that nobody has waited for during this time is not worth speaking of any more."""
_FRESH_SECONDS = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A record of the calls topic, read once."""

    source: RawRecord
    partition: Partition
    call: Call | None
    """None when it is no call; `problem` says why."""
    input_tokens: int = 0
    tokens: int = 0
    """Input and the answer that is expected."""
    problem: PipelineError | None = None

    @property
    def call_json(self) -> bytes | None:
        """The call as it was read, to be written on; None where a newer version may say more."""
        source = self.source
        return source.value if _CALL_VERSION in source.headers else None

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        return len(self.source.value or b"") + _OVERHEAD_BYTES


class Admitted(NamedTuple):
    """A call that may be made now; without reservation it ends without being made."""

    arrival: Arrival
    reservation: Reservation | None = None


class Begun(NamedTuple):
    """A call that is being worked on; without a place where it asks nobody."""

    arrival: Arrival
    place: Place | None


class Admission:
    """The calls of one provider entry that were read and not begun, and the order of their starts.

    What waits here may be dropped when its partition is given up, and is read again by whoever
    has the partition next.
    """

    def __init__(
        self,
        *,
        provider: str,
        limiter: RateLimiter,
        settings: LaneSettings,
        records: int,
        content_bytes: int,
        count_tokens: Callable[[Call], int],
        is_over: Callable[[Call], bool],
        is_turned_away: Callable[[Call], bool],
        now: Callable[[], float],
    ) -> None:
        self._provider = provider
        self._limiter = limiter
        self._lanes: Lanes[Arrival] = Lanes(
            settings=settings, records=records, content_bytes=content_bytes
        )
        self._count_tokens = count_tokens
        self._is_over = is_over
        self._is_turned_away = is_turned_away
        self._now = now
        self._retry_in: float | None = None
        self._held: dict[str, float] = {}
        """When a limit made a call wait for the last time, by who waits."""

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def room(self) -> int:
        """How many more records it takes."""
        return self._lanes.room

    @property
    def low(self) -> bool:
        """Whether it is time to read on."""
        return self._lanes.low

    @property
    def retry_in(self) -> float | None:
        """Seconds until a call may go that the last `next` held back; None if it held none."""
        return self._retry_in

    @property
    def held(self) -> tuple[str, ...]:
        """Who waits for a rate limit now: the entry's name, or `entry/model`."""
        since = self._now() - _FRESH_SECONDS
        return tuple(name for name, last in self._held.items() if last >= since)

    @property
    def share(self) -> float:
        """The fraction of the entry's limits that this process may use."""
        return self._limiter.share

    @share.setter
    def share(self, fraction: float) -> None:
        self._limiter.share = fraction

    def put(self, source: RawRecord) -> None:
        """Take up a record; what was read is taken even when there is no room."""
        partition = Partition(source.topic, source.partition)
        value = source.value or b""
        size = len(value) + _OVERHEAD_BYTES
        try:
            call = Call.decode(value, source.headers)
        except InvalidEventError as error:
            problem = PipelineError(error.message, code="internal_record_invalid")
            self._lanes.put(Arrival(source, partition, None, problem=problem), size=size)
            return
        job = call.job
        input_tokens = self._count_tokens(call)
        tokens = expected_tokens(call, input_tokens)
        self._lanes.put(
            Arrival(source, partition, call, input_tokens, tokens),
            lane=job.lane,
            team=job.team or "",
            model=call.target.model,
            cost=tokens,
            size=size,
            sequence_key=job.conversation_id,
        )

    def next(self) -> Admitted | None:
        """Take the next call that may be made; None when none may, or nothing waits."""
        self._retry_in = None
        arrival = self._lanes.take(self._may_go)
        if arrival is None:
            return None
        call = arrival.call
        if call is None or self._is_needless(call):
            return Admitted(arrival)
        return Admitted(arrival, self._limiter.reserve(call.target.model, arrival.tokens))

    def release(self, reservation: Reservation | None) -> None:
        """Give back the reservation of a call that is not made after all."""
        if reservation is not None:
            self._limiter.release(reservation)

    def over(self) -> list[Arrival]:
        """Take out what has expired, or was cancelled, while it waited."""
        is_over = self._is_over
        return self._lanes.withdraw(
            lambda arrival: arrival.call is not None and is_over(arrival.call)
        )

    def withdraw(self, partitions: Iterable[Partition]) -> list[Arrival]:
        """Take out the records of these partitions, in the order in which they were read."""
        given_up = frozenset(partitions)
        return self._lanes.withdraw(lambda arrival: arrival.partition in given_up)

    def report(self) -> None:
        """Say so when nobody has waited for a limit for a while; to be called now and then."""
        before = self._now() - _QUIET_SECONDS
        for name in [name for name, last in self._held.items() if last < before]:
            del self._held[name]
            log.info("rate_limit.free", provider=self._provider, limit=name)

    def _may_go(self, arrival: Arrival) -> Verdict:
        call = arrival.call
        if call is None:
            return Verdict.GO
        model, limiter = call.target.model, self._limiter
        if (wait := limiter.entry_delay(arrival.tokens)) > 0:
            if self._is_needless(call):
                return Verdict.GO
            self._hold(self._provider, wait)
            return Verdict.ALL_WAIT
        if (wait := limiter.model_delay(model, arrival.tokens)) > 0:
            if self._is_needless(call):
                return Verdict.GO
            self._hold(f"{self._provider}/{model}", wait)
            return Verdict.ITS_MODEL_WAITS
        return Verdict.GO

    def _is_needless(self, call: Call) -> bool:
        """Whether it would end without being made, so that it need not wait."""
        return self._is_turned_away(call) or self._is_over(call)

    def _hold(self, name: str, wait: float) -> None:
        self._retry_in = wait if self._retry_in is None else min(wait, self._retry_in)
        if name not in self._held:
            log.warning("rate_limit.waiting", provider=self._provider, limit=name, seconds=wait)
        self._held[name] = self._now()
