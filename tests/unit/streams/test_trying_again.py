"""Calls whose model is asked again after a failure."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

import pytest
from pipeline_doubles import Published, RecordingPublisher, until
from pipeline_records import at, make_call, make_job, make_plan

from millrace.providers.backoff import Backoff, BackoffSettings
from millrace.providers.circuit import Circuits, CircuitSettings
from millrace.providers.protocol import Completion, ModelRequest, ProviderEvent, TextDelta
from millrace.schemas.call import AttemptSummary, Call
from millrace.schemas.cancellation import Cancellation
from millrace.schemas.errors import (
    BrokerError,
    PipelineError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    RequestRefusedError,
)
from millrace.schemas.retry import Retry
from millrace.schemas.usage import Usage
from millrace.streams.cancellations import Cancellations
from millrace.streams.exchange import Exchange, ExchangeTopics
from millrace.streams.retrying import Retrying
from millrace.streams.trying_again import tries

WHOLE = Completion(text="Yes", finish_reason="stop", usage=Usage(input_tokens=5, output_tokens=1))
DOWN = ProviderUnavailableError("it is down")
SLOW = ProviderUnavailableError("it is slow", code="provider_timeout")
BUSY = RateLimitedError("slow down", retry_after=30)


Reply = ProviderError | tuple[str, ProviderError] | Completion


@dataclass
class Provider:
    """Each call meets the next of these: a failure, perhaps after a token, or an answer."""

    replies: list[Reply]
    name: str = "p00"
    asked: int = 0

    async def ask(self, _: ModelRequest) -> AsyncGenerator[ProviderEvent, None]:
        self.asked += 1
        reply = self.replies.pop(0)
        if isinstance(reply, tuple):
            yield TextDelta(reply[0])
            raise reply[1]
        if isinstance(reply, ProviderError):
            raise reply
        yield reply

    async def check(self) -> None: ...

    async def aclose(self) -> None: ...


@dataclass
class NarrowPublisher(RecordingPublisher):
    """Takes no record on the retries topic."""

    refusal: PipelineError = field(default_factory=lambda: BrokerError("", code="too_large"))

    async def _take(self, published: Published) -> "asyncio.Future[None]":
        if published.topic == "retries":
            raise self.refusal
        return await super()._take(published)


@dataclass
class Bench:
    """An exchange at one second past the request's acceptance; waits are the base, undrawn."""

    provider: Provider
    publisher: RecordingPublisher = field(default_factory=RecordingPublisher)
    settings: BackoffSettings = field(default_factory=BackoffSettings)
    circuit: CircuitSettings = field(default_factory=CircuitSettings)
    draw: Callable[[], float] = lambda: 0.0
    now: datetime = field(default_factory=lambda: at(1))
    answered: int = 0
    seconds: float = 0.0
    """Of the clock that circuits go by."""

    def __post_init__(self) -> None:
        self.cancellations = Cancellations(window=timedelta(hours=1), clock=lambda: self.now)
        self.circuits = Circuits(settings=self.circuit, now=lambda: self.seconds)

    async def run(self, call: Call) -> bool:
        ids = count(1)
        exchange = Exchange(
            provider=self.provider,
            price=lambda _model, _usage, _reported: (None, "unknown"),
            count_tokens=OneToken(),
            publisher=self.publisher,  # type: ignore[arg-type]
            patient=self.publisher,  # type: ignore[arg-type]
            topics=ExchangeTopics(chunks="chunks", outcomes="outcomes", usage="usage"),
            retrying=Retrying(
                backoff=Backoff(settings=self.settings, draw=self.draw),
                circuits=self.circuits,
                cancellations=self.cancellations,
                publisher=self.publisher,  # type: ignore[arg-type]
                topic="retries",
                clock=lambda: self.now,
            ),
            cancellations=self.cancellations,
            flush_seconds=0.0,
            clock=lambda: self.now,
            new_id=lambda: f"i{next(ids)}",
        )
        return await exchange.run(call, answered=self._answered)

    def _answered(self) -> None:
        self.answered += 1

    @property
    def put_off(self) -> list[Published]:
        return [each for each in self.publisher.written if each.topic == "retries"]


class OneToken:
    """Every text is one token long."""

    def request(self, _: Call) -> int:
        return 1

    def text(self, text: str) -> int:
        return int(bool(text))


def rows(bench: Bench) -> list[tuple[str, str, str | None]]:
    """The ledger as it was written."""
    return [(each.row_id, each.event, each.error_code) for each in bench.publisher.ledger]


async def test_a_passing_failure_is_tried_again_and_each_try_is_booked() -> None:
    """As attempts of their own; there is one outcome, and it lists the earlier ones."""
    bench = Bench(Provider([DOWN, SLOW, WHOLE]))
    await bench.run(make_call(make_job(stream=True)))

    assert rows(bench) == [
        ("r1/0/1/i1", "reserved", None),
        ("r1/0/1/i1", "spent", "provider_unavailable"),
        ("r1/0/2/i2", "reserved", None),
        ("r1/0/2/i2", "spent", "provider_timeout"),
        ("r1/0/3/i3", "reserved", None),
        ("r1/0/3/i3", "spent", None),
    ]
    (outcome,) = bench.publisher.outcomes
    assert (outcome.status, outcome.call.attempt) == ("completed", 3)
    history = outcome.call.history
    assert [(each.attempt, each.status) for each in history] == [(1, "failed"), (2, "failed")]
    assert history[1].usage == bench.publisher.ledger[3].usage
    assert [(each.attempt, each.end) for each in bench.publisher.chunks] == [
        (1, "restarted"),
        (2, "restarted"),
        (3, "stop"),
    ]
    assert bench.answered == 1


async def test_after_the_last_try_the_failure_is_the_outcome() -> None:
    """The first try counts."""
    bench = Bench(Provider([DOWN] * 9), settings=BackoffSettings(max_tries=3))
    await bench.run(make_call())

    (outcome,) = bench.publisher.outcomes
    assert (outcome.status, outcome.call.attempt, bench.provider.asked) == ("failed", 3, 3)


async def test_another_candidate_is_not_kept_waiting() -> None:
    """The failure is the outcome at once, and the join asks the other one."""
    bench = Bench(Provider([DOWN, WHOLE]))
    await bench.run(make_call(plan=make_plan(2)))

    assert [each.status for each in bench.publisher.outcomes] == ["failed"]


@pytest.mark.parametrize(
    "reply",
    [("A", ProviderUnavailableError("cut", code="stream_truncated")), RequestRefusedError("no")],
    ids=["begun", "refused"],
)
async def test_what_is_not_worth_another_try_ends_the_attempt(
    reply: ProviderError | tuple[str, ProviderError],
) -> None:
    """What was shown cannot be taken back."""
    bench = Bench(Provider([reply, WHOLE]))
    await bench.run(make_call())

    assert [each.status for each in bench.publisher.outcomes] == ["failed"]
    assert bench.put_off == []


async def test_a_long_wait_goes_to_the_retries_topic() -> None:
    """Under the call's key and trace, as the next attempt; there is no outcome."""
    bench = Bench(Provider([BUSY]))
    job = make_job(conversation_id="c1", traceparent="00-ab-cd-01")
    await bench.run(make_call(job))

    (written,) = bench.put_off
    assert (written.key, written.headers) == (b"c1", job.trace_headers())
    retry = written.record
    assert isinstance(retry, Retry)
    assert retry.not_before == at(31)
    assert retry.reason.code == "rate_limited"
    assert (retry.call.attempt, retry.call.candidate) == (2, 0)
    assert retry.call.history[0].error == retry.reason
    assert bench.publisher.outcomes == []
    assert rows(bench)[-1] == ("r1/0/1/i1", "spent", "rate_limited")
    assert bench.answered == 1


async def test_a_put_off_call_is_done_only_when_the_broker_holds_it() -> None:
    """Its offset may be committed then, and no sooner."""
    bench = Bench(Provider([BUSY]))
    bench.publisher.hold = True
    run = asyncio.create_task(bench.run(make_call()))
    await until(lambda: len(bench.publisher.pending) == 1)
    bench.publisher.acknowledge()
    await until(lambda: len(bench.publisher.pending) == 3)
    of_retry = [each.topic for each in bench.publisher.written].index("retries")
    for index, delivery in enumerate(bench.publisher.pending):
        if index != of_retry and not delivery.done():
            delivery.set_result(None)
    await asyncio.sleep(0)
    assert not run.done()

    bench.publisher.acknowledge()
    await run


async def test_a_call_that_outgrew_the_retries_topic_fails() -> None:
    """It must not stop the calls behind it."""
    bench = Bench(Provider([BUSY]), publisher=NarrowPublisher())
    await bench.run(make_call())

    (outcome,) = bench.publisher.outcomes
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == ("failed", "rate_limited")


async def test_a_broker_that_refuses_leaves_the_call_undone() -> None:
    """Any other refusal is the process's end."""
    bench = Bench(Provider([BUSY]), publisher=NarrowPublisher(refusal=BrokerError("no")))

    with pytest.raises(BrokerError):
        await bench.run(make_call())
    assert bench.publisher.outcomes == []


async def test_a_cancellation_ends_the_wait() -> None:
    """At once, and the model is not asked again."""
    bench = Bench(
        Provider([RateLimitedError("slow", retry_after=1000), WHOLE]),
        settings=BackoffSettings(max_inline_seconds=2000, max_wait_seconds=2000),
    )
    run = asyncio.create_task(bench.run(make_call(make_job(seconds=3600))))
    await until(lambda: len(bench.publisher.ledger) == 2)
    bench.cancellations.add(Cancellation(request_id="r1"))
    await run

    (outcome,) = bench.publisher.outcomes
    assert (outcome.status, outcome.call.attempt, bench.provider.asked) == ("cancelled", 2, 1)


async def test_a_process_that_stops_during_the_wait_leaves_the_call_to_the_next() -> None:
    """Nothing is reserved then, and no outcome is written."""
    bench = Bench(
        Provider([RateLimitedError("slow", retry_after=1000)]),
        settings=BackoffSettings(max_inline_seconds=2000, max_wait_seconds=2000),
    )
    run = asyncio.create_task(bench.run(make_call(make_job(seconds=3600))))
    await until(lambda: len(bench.publisher.ledger) == 2)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    assert bench.publisher.outcomes == []
    assert [event for _, event, _ in rows(bench)] == ["reserved", "spent"]


# --- Circuits

ONCE = BackoffSettings(max_tries=1)
FRAGILE = CircuitSettings(consecutive_failures=2, open_seconds=10, probes=1)


async def opened(*replies: Reply) -> Bench:
    """A bench whose circuit two calls have opened; these replies come after them."""
    bench = Bench(Provider([DOWN, DOWN, *replies]), settings=ONCE, circuit=FRAGILE)
    for name in ("a", "b"):
        await bench.run(make_call(make_job(name)))
    bench.publisher.written.clear()
    return bench


async def test_an_open_circuit_sends_a_call_to_the_next_candidate() -> None:
    """Nobody is asked and nothing is booked; the stream says that another attempt follows."""
    bench = await opened()
    over = await bench.run(make_call(make_job(stream=True), make_plan(2)))

    (outcome,) = bench.publisher.outcomes
    assert outcome.error is not None
    assert (over, outcome.status, outcome.error.code) == (True, "failed", "provider_unavailable")
    assert "circuit is open" in outcome.error.message
    assert (outcome.usage, bench.provider.asked, bench.publisher.ledger) == (None, 2, [])
    assert [each.end for each in bench.publisher.chunks] == ["restarted"]


async def test_where_no_candidate_is_left_the_call_waits_for_the_circuit() -> None:
    """As the attempt that it is, until probes are let through."""
    bench = await opened()
    over = await bench.run(make_call())

    (written,) = bench.put_off
    assert isinstance(written.record, Retry)
    assert (over, written.record.call) == (False, make_call())
    assert written.record.not_before == at(1 + 10 + 0.5)
    assert bench.publisher.outcomes == []


async def test_a_call_that_cannot_outwait_the_circuit_fails() -> None:
    """At once, so that its requester need not wait in vain."""
    bench = await opened()
    await bench.run(make_call(make_job(seconds=11)))

    assert [each.status for each in bench.publisher.outcomes] == ["failed"]
    assert bench.put_off == []


async def test_a_circuit_closes_when_a_probe_is_answered() -> None:
    """And calls are made as before."""
    bench = await opened(WHOLE, WHOLE)
    bench.seconds = 10.0
    for name in ("c", "d"):
        await bench.run(make_call(make_job(name)))

    assert [each.status for each in bench.publisher.outcomes] == ["completed", "completed"]
    assert bench.circuits.of("m0").state == "closed"


async def test_a_probe_that_is_broken_off_leaves_its_place_to_another() -> None:
    """Also before the provider has heard of it."""
    bench = await opened(WHOLE)
    bench.seconds = 10.0
    bench.publisher.hold = True
    probe = asyncio.create_task(bench.run(make_call(make_job("c"))))
    await until(lambda: len(bench.publisher.ledger) == 1)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    bench.publisher.hold = False

    await bench.run(make_call(make_job("d")))
    assert [each.status for each in bench.publisher.outcomes] == ["completed"]


async def test_a_circuit_that_opens_between_tries_stops_them() -> None:
    """The call waits then, as the try that it had come to."""
    bench = Bench(Provider([DOWN, DOWN]), circuit=FRAGILE)
    over = await bench.run(make_call())

    (written,) = bench.put_off
    assert isinstance(written.record, Retry)
    assert (over, written.record.call.attempt, bench.provider.asked) == (True, 3, 2)


def test_only_tries_of_the_same_model_in_a_row_are_counted() -> None:
    """An earlier candidate's are its own."""

    def failed(attempt: int, provider: str) -> AttemptSummary:
        return AttemptSummary(attempt=attempt, provider=provider, model="m0", status="failed")

    call = make_call()
    assert tries(call) == 1
    for number, provider in enumerate(("p00", "other", "p00", "p00"), start=1):
        call = call.following(candidate=0, failed=failed(number, provider))
    assert tries(call) == 3
