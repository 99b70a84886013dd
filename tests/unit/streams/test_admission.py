"""Which call is begun next, and which has to wait for a rate limit."""

from dataclasses import dataclass, field

import pytest
from pipeline_records import make_call, make_job, make_raw
from structlog.testing import capture_logs

from millrace.providers.rate_limit import RateLimiter, RateLimits
from millrace.schemas.call import Call
from millrace.schemas.record import SCHEMA_HEADER, VERSION_HEADER, Headers
from millrace.streams.admission import Admission
from millrace.streams.dead_letters import RawRecord
from millrace.streams.lanes import LaneSettings


@dataclass
class Bench:
    """Calls that wait, with a clock that a test sets."""

    limits: RateLimits = field(default_factory=RateLimits)
    now: float = 0.0
    over: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.limiter = RateLimiter(limits=self.limits, now=self.time)
        self.decoded = 0
        self.admission = Admission(
            provider="openai",
            limiter=self.limiter,
            settings=LaneSettings(),
            records=100,
            content_bytes=10**9,
            count_tokens=self.count,
            is_over=lambda call: call.job.request_id in self.over,
            is_turned_away=lambda call: call.job.request_id == "circuit",
            now=self.time,
        )

    def time(self) -> float:
        return self.now

    def count(self, _: Call) -> int:
        self.decoded += 1
        return 10

    def put(self, *request_ids: str, partition: int = 0, **fields: object) -> None:
        for offset, request_id in enumerate(request_ids):
            call = make_call(make_job(request_id, **fields))
            self.admission.put(record(call, offset=offset, partition=partition))

    def begun(self) -> list[str]:
        """The ids of all that may begin now."""
        found = []
        while (admitted := self.admission.next()) is not None:
            assert admitted.arrival.call is not None
            found.append(admitted.arrival.call.job.request_id)
        return found


def record(call: Call, *, offset: int, partition: int = 0) -> RawRecord:
    """A call as it lies on the topic."""
    return make_raw(
        call.encode(), offset=offset, partition=partition, key=b"k", topic="llm.calls.openai"
    )


@pytest.mark.parametrize(
    ("headers", "known"),
    [
        (Call.kafka_headers(), True),
        ((), False),
        (((SCHEMA_HEADER, b"call"), (VERSION_HEADER, b"2")), False),
    ],
)
def test_a_call_is_written_on_as_it_was_read_where_all_of_it_is_known(
    headers: Headers, known: bool
) -> None:
    """A newer version's call may hold fields that no outcome of ours may."""
    source = record(make_call(), offset=0)._replace(headers=headers)
    bench = Bench(RateLimits())
    bench.admission.put(source)
    admitted = bench.admission.next()

    assert admitted is not None
    assert admitted.arrival.call == make_call()
    assert admitted.arrival.call_json == (source.value if known else None)


def test_calls_wait_for_the_limit_and_say_for_how_long() -> None:
    """None of them is lost or reserved for meanwhile."""
    bench = Bench(RateLimits(requests_per_minute=60))
    bench.put("a", "b", "c")

    assert (bench.begun(), bench.admission.retry_in) == (["a"], pytest.approx(1.0))
    assert (len(bench.admission), bench.admission.held) == (2, ("openai",))
    bench.now = 1.0
    assert bench.begun() == ["b"]


def test_it_is_logged_once_when_waiting_begins_and_once_when_it_has_ended() -> None:
    """Not for each call."""
    bench = Bench(RateLimits(requests_per_minute=60))
    bench.put(*map(str, range(4)))
    with capture_logs() as logs:
        for _ in range(6):
            bench.begun()
            bench.admission.report()
            bench.now += 1
        bench.now += 10
        bench.admission.report()
        bench.admission.report()

    assert [each["event"] for each in logs] == ["rate_limit.waiting", "rate_limit.free"]
    assert bench.admission.held == ()


def test_what_will_not_be_made_waits_for_no_limit() -> None:
    """A cancelled call, and one whose circuit is open, take nothing of it."""
    bench = Bench(RateLimits(requests_per_minute=60))
    bench.limiter.reserve("m0", 1)
    bench.over = {"cancelled"}
    bench.put("cancelled", "circuit", "waits")

    assert bench.begun() == ["cancelled", "circuit"]


def test_what_is_over_is_found_wherever_it_stands() -> None:
    """Behind others that wait, too; those whose circuit is open are for those with a place."""
    bench = Bench(RateLimits(requests_per_minute=60))
    bench.limiter.reserve("m0", 1)
    bench.put("a", "circuit", "late", "b")
    bench.over = {"late"}

    found = [each.call.job.request_id for each in bench.admission.over() if each.call]

    assert (found, len(bench.admission)) == (["late"], 3)


def test_a_record_that_is_no_call_waits_in_line_and_for_no_limit() -> None:
    """It goes on to be a dead letter."""
    bench = Bench(RateLimits(requests_per_minute=60))
    bench.limiter.reserve("m0", 1)
    bench.admission.put(make_raw(b"{", topic="llm.calls.openai"))

    admitted = bench.admission.next()

    assert admitted is not None
    assert admitted.arrival.problem is not None
    assert admitted.arrival.problem.code == "internal_record_invalid"
    assert admitted.reservation is None


def test_a_call_is_read_and_counted_once() -> None:
    """However long it waits."""
    bench = Bench(RateLimits(requests_per_minute=60))
    bench.put("a", "b")
    for _ in range(10):
        bench.begun()

    assert bench.decoded == 2
