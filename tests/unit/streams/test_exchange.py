"""One call, from its record to everything that is said about it."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, timedelta
from decimal import Decimal

import pytest
from exchange_bench import (
    ANSWER,
    REPORTED,
    WHOLE,
    bench,
    delay,
    granted,
    limited,
    settled,
    some_places,
    streamed,
)
from pipeline_doubles import never, until
from pipeline_records import EPOCH, at, make_call, make_job, make_plan

from millrace.providers.backoff import BackoffSettings
from millrace.providers.protocol import (
    Completion,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    UsageSoFar,
)
from millrace.schemas.budget import BudgetSettlement
from millrace.schemas.call import Brief, CascadeRule
from millrace.schemas.cancellation import Cancellation
from millrace.schemas.errors import (
    BrokerError,
    ErrorCode,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    ReplyInvalidError,
    RequestRefusedError,
)
from millrace.schemas.message import Message, ToolDefinition
from millrace.schemas.outcome import AttemptOutcome
from millrace.schemas.request import OutputSpec, Parameters
from millrace.schemas.usage import Usage


async def test_a_whole_answer_is_chunked_booked_and_told() -> None:
    """The ledger's reservation comes before everything else."""
    at_bench = bench(*ANSWER, WHOLE)
    await at_bench.exchange().run(streamed(team="payments"))

    written = at_bench.publisher
    outcome = written.outcomes[0]
    assert (outcome.status, outcome.text, outcome.usage) == ("completed", "Because", REPORTED)
    assert (outcome.cost_usd, outcome.finish_reason, outcome.error) == (
        Decimal("0.15"),
        "stop",
        None,
    )
    assert [(each.delta, each.end) for each in written.chunks] == [("Because", "stop")]
    assert written.written[0].record == written.ledger[0]
    assert [each.event for each in written.ledger] == ["reserved", "spent"]
    assert {each.row_id for each in written.ledger} == {"r1/0/1/i1"}
    assert written.ledger[0].usage == Usage(input_tokens=100, source="estimated")
    assert written.ledger[1].usage == REPORTED
    assert {each.key for each in written.written if each.topic == "usage"} == {b"payments"}
    assert at_bench.spent == [written.ledger[1]]


async def test_an_outcome_holds_its_call_as_it_was_read() -> None:
    """Byte for byte; a call that was made here is written anew."""
    call = streamed(team="payments")
    read = call.encode().replace(b'"member":0', b'"member" : 0')
    at_bench = bench(*ANSWER, WHOLE)
    await at_bench.exchange().run(call, call_json=read)
    await at_bench.exchange().run(call.model_copy(update={"attempt": 2}))

    [held], [anew] = (
        [each for each in at_bench.publisher.written if each.record is outcome]
        for outcome in at_bench.publisher.outcomes
    )
    assert read in (held.value or b"")
    assert AttemptOutcome.decode(held.value or b"") == held.record
    assert anew.record is not None
    assert anew.value == anew.record.encode()


async def test_the_provider_hears_of_the_call_only_after_the_reservation_is_safe() -> None:
    """Until the broker has acknowledged it, nothing is asked."""
    at_bench = bench(WHOLE)
    at_bench.publisher.hold = True
    run = asyncio.create_task(at_bench.exchange().run(make_call()))
    await until(lambda: bool(at_bench.publisher.ledger))
    assert at_bench.provider.asked == []

    at_bench.publisher.acknowledge()
    await until(lambda: bool(at_bench.publisher.outcomes))

    assert len(at_bench.provider.asked) == 1
    assert not run.done()
    at_bench.publisher.acknowledge()
    await run


async def test_run_returns_only_when_every_record_is_acknowledged() -> None:
    """The call's offset may be committed then, and no sooner."""
    at_bench = bench()

    async def hold() -> None:
        at_bench.publisher.hold = True

    at_bench.provider.steps = (hold, *ANSWER, WHOLE)
    run = asyncio.create_task(at_bench.exchange().run(streamed()))
    await until(lambda: bool(at_bench.publisher.outcomes))
    held = [each for each in at_bench.publisher.pending if not each.done()]
    assert held
    for delivery in held[:-1]:
        delivery.set_result(None)
    await asyncio.sleep(0)
    assert not run.done()

    held[-1].set_result(None)
    await run


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (ProviderUnavailableError("down"), "provider_unavailable", True),
        (ProviderUnavailableError("cut", code="stream_truncated"), "stream_truncated", True),
        (ProviderUnavailableError("slow", code="provider_timeout"), "provider_timeout", True),
        (RateLimitedError("wait", retry_after=3), "rate_limited", True),
        (RequestRefusedError("no"), "request_refused", False),
        (RequestRefusedError("key", code="authentication_failed"), "authentication_failed", False),
        (ReplyInvalidError("odd"), "reply_invalid", True),
    ],
)
async def test_a_provider_s_failure_ends_the_attempt(
    error: ProviderError, code: ErrorCode, retryable: bool
) -> None:
    """The error travels in the outcome and its code in the ledger; the stream says `error`."""
    at_bench = bench(TextDelta("two words"), error)
    await at_bench.exchange().run(streamed())

    written = at_bench.publisher
    outcome = written.outcomes[0]
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.retryable) == (code, retryable)
    assert written.ledger[1].error_code == code
    assert written.chunks[-1].end == "error"
    assert written.ledger[1].usage == Usage(input_tokens=100, output_tokens=2, source="estimated")


async def test_the_stream_says_restarted_where_another_candidate_follows() -> None:
    """A reader knows that what came is void."""
    at_bench = bench(TextDelta("x"), ProviderUnavailableError("down"))
    await at_bench.exchange().run(make_call(make_job(stream=True), make_plan(2)))

    assert at_bench.publisher.chunks[-1].end == "restarted"


@pytest.mark.parametrize(
    ("error", "spent"),
    [
        (RateLimitedError("wait"), 0),
        (ProviderUnavailableError("refused"), 0),
        (RequestRefusedError("no"), 0),
        (ProviderUnavailableError("slow", code="provider_timeout"), 100),
        (ProviderUnavailableError("cut", code="stream_truncated"), 100),
        (ReplyInvalidError("odd"), 100),
    ],
)
async def test_only_failures_that_cost_nothing_are_booked_as_nothing(
    error: ProviderError, spent: int
) -> None:
    """A call that may have been worked on is booked with its prompt."""
    at_bench = bench(error)
    await at_bench.exchange().run(make_call())

    assert at_bench.publisher.ledger[1].usage.input_tokens == spent


async def test_a_deadline_breaks_the_call_off() -> None:
    """What came is booked as an estimate, and the provider's stream is closed."""
    at_bench = bench(TextDelta("one two three"), never)
    at_bench.now = at(59.99)
    async with asyncio.timeout(10):
        await at_bench.exchange().run(streamed())

    outcome = at_bench.publisher.outcomes[0]
    assert outcome.status == "expired"
    assert outcome.error is not None
    assert outcome.error.code == "deadline_exceeded"
    assert at_bench.provider.closed == 1
    assert outcome.usage == Usage(input_tokens=100, output_tokens=3, source="estimated")
    assert at_bench.publisher.chunks[-1].end == "error"


async def test_a_call_past_its_deadline_is_not_made() -> None:
    """Nothing is asked and nothing is booked."""
    at_bench = bench(WHOLE)
    at_bench.now = at(60)
    await at_bench.exchange().run(streamed())

    outcome = at_bench.publisher.outcomes[0]
    assert (outcome.status, outcome.usage, at_bench.provider.asked) == ("expired", None, [])
    assert at_bench.publisher.ledger == []
    assert [(each.sequence, each.end) for each in at_bench.publisher.chunks] == [(0, "error")]


async def test_a_cancelled_call_is_not_made() -> None:
    """It was cancelled before it came."""
    at_bench = bench(WHOLE)
    at_bench.cancellations.add(Cancellation(request_id="r1"))
    await at_bench.exchange().run(streamed())

    assert at_bench.publisher.outcomes[0].status == "cancelled"
    assert (at_bench.provider.asked, at_bench.publisher.ledger) == ([], [])
    assert at_bench.publisher.chunks[0].end == "cancelled"


async def test_a_cancellation_breaks_the_call_off() -> None:
    """Mid-stream, with what came booked."""
    at_bench = bench(TextDelta("one two"), never)
    run = asyncio.create_task(at_bench.exchange().run(streamed()))
    await until(lambda: bool(at_bench.publisher.chunks))

    at_bench.cancellations.add(Cancellation(request_id="r1"))
    await run

    outcome = at_bench.publisher.outcomes[0]
    assert (outcome.status, outcome.text) == ("cancelled", "one two")
    assert at_bench.publisher.chunks[-1].end == "cancelled"
    assert at_bench.publisher.ledger[1].usage.output_tokens == 2
    assert at_bench.provider.closed == 1


@pytest.mark.parametrize(("members", "scope"), [(None, "request"), ((0, 3), "member")])
@pytest.mark.parametrize("begun", [True, False])
async def test_an_outcome_says_what_was_cancelled(
    members: tuple[int, ...] | None, scope: str, begun: bool
) -> None:
    """The request, or this member alone: the join goes on without it."""
    at_bench = bench(TextDelta("one two"), never)
    cancellation = Cancellation(request_id="r1", members=members)
    if not begun:
        at_bench.cancellations.add(cancellation)
    run = asyncio.create_task(at_bench.exchange().run(streamed()))
    if begun:
        await until(lambda: bool(at_bench.publisher.chunks))
        at_bench.cancellations.add(cancellation)
    await run

    outcome = at_bench.publisher.outcomes[0]
    assert (outcome.status, outcome.cancelled) == ("cancelled", scope)


async def test_a_brief_is_asked_in_the_job_s_place() -> None:
    """With its own messages, form and parameters; what only the pipeline reads is not streamed."""
    brief = Brief(
        role="judge",
        messages=(Message(role="user", content="Which?"),),
        continues=True,
        output=OutputSpec(format="json"),
        tools=False,
        parameters=Parameters(temperature=0.0),
    )
    at_bench = bench(*ANSWER, WHOLE)
    call = streamed(tools=(ToolDefinition(name="f"),)).asking(brief)
    await at_bench.exchange().run(call)

    (asked,) = at_bench.provider.asked
    assert [each.content for each in asked.messages] == ["Why?", "Which?"]
    assert (asked.output.format, asked.tools, asked.parameters.temperature) == ("json", (), 0.0)
    assert (asked.stream, asked.token_probabilities) == (False, False)
    assert at_bench.publisher.chunks == []


async def test_a_cascade_by_probabilities_asks_for_them_and_tells() -> None:
    """And how many chunks there were, so that they can be said to be void."""
    rule = CascadeRule(confidence="logprobs", thresholds=(0.5,))
    at_bench = bench(*ANSWER, replace(WHOLE, token_probability=0.7))
    plan = make_plan().model_copy(update={"strategy": "cascade", "cascade": rule})
    await at_bench.exchange().run(make_call(make_job(stream=True), plan))

    assert at_bench.provider.asked[0].token_probabilities
    outcome = at_bench.publisher.outcomes[0]
    assert (outcome.token_probability, outcome.chunks) == (0.7, len(at_bench.publisher.chunks))


async def test_a_second_cancellation_while_the_call_winds_down_does_no_harm() -> None:
    """Clients cancel twice."""
    at_bench = bench(TextDelta("x"), never)
    closing = asyncio.Event()
    at_bench.provider.on_close = closing.wait  # type: ignore[assignment]
    run = asyncio.create_task(at_bench.exchange().run(streamed()))
    await until(lambda: bool(at_bench.publisher.chunks))
    at_bench.cancellations.add(Cancellation(request_id="r1"))
    await until(lambda: at_bench.provider.closed == 1)

    at_bench.cancellations.add(Cancellation(request_id="r1"))
    closing.set()
    await run

    assert [each.status for each in at_bench.publisher.outcomes] == ["cancelled"]


async def test_an_interrupted_call_is_booked_and_left_for_the_next_process() -> None:
    """Shutdown: no outcome, an estimate in the ledger, and the stream says that it restarts."""
    at_bench = bench(TextDelta("one two"), never)
    run = asyncio.create_task(at_bench.exchange().run(streamed()))
    await until(lambda: bool(at_bench.publisher.chunks))

    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    written = at_bench.publisher
    assert written.outcomes == []
    assert written.chunks[-1].end == "restarted"
    assert [(each.event, each.error_code) for each in written.ledger] == [
        ("reserved", None),
        ("spent", "interrupted"),
    ]
    assert written.ledger[1].usage == Usage(input_tokens=100, output_tokens=2, source="estimated")


async def test_a_fault_of_ours_ends_the_attempt_and_no_more() -> None:
    """The message names the class of the fault, never its text."""
    at_bench = bench(TextDelta("x"), ValueError("secret prompt"))
    await at_bench.exchange().run(make_call())

    error = at_bench.publisher.outcomes[0].error
    assert error is not None
    assert error.code == "internal_error"
    assert "ValueError" in error.message
    assert "secret" not in error.message


async def test_an_adapter_that_ends_without_a_completion_has_failed() -> None:
    """A truncated stream is never a short success."""
    at_bench = bench(*ANSWER)
    await at_bench.exchange().run(make_call())

    outcome = at_bench.publisher.outcomes[0]
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.retryable) == ("reply_invalid", True)


async def test_usage_that_was_not_reported_is_estimated_and_marked() -> None:
    """Reasoning and tool arguments count as output."""
    at_bench = bench(
        ReasoningDelta("let me think"),
        TextDelta("one two"),
        ToolArgumentsDelta(index=0, name="f", arguments=" {} {}"),
        Completion(text="one two", finish_reason="stop", usage=None),
    )
    await at_bench.exchange().run(make_call())

    assert at_bench.publisher.outcomes[0].usage == Usage(
        input_tokens=100, output_tokens=7, reasoning_tokens=3, source="estimated"
    )


async def test_what_the_provider_counted_before_the_break_is_kept() -> None:
    """Its own input count beats our estimate."""
    at_bench = bench(
        UsageSoFar(Usage(input_tokens=42, cached_tokens=40, output_tokens=1)),
        TextDelta("one two three"),
        ProviderUnavailableError("cut", code="stream_truncated"),
    )
    await at_bench.exchange().run(make_call())

    assert at_bench.publisher.ledger[1].usage == Usage(
        input_tokens=42, cached_tokens=40, output_tokens=3, source="estimated"
    )


async def test_a_cost_that_the_provider_reports_wins() -> None:
    """And says so."""
    at_bench = bench(
        Completion(text="x", usage=REPORTED, reported_cost_usd=Decimal("0.5")),
    )
    await at_bench.exchange().run(make_call())

    event = at_bench.publisher.ledger[1]
    assert (event.cost_usd, event.cost_source) == (Decimal("0.5"), "provider")


async def test_a_broker_that_refuses_leaves_the_call_undone() -> None:
    """Nobody is asked when the reservation cannot be written."""
    at_bench = bench(WHOLE)
    at_bench.publisher.failure = BrokerError("no")

    with pytest.raises(BrokerError):
        await at_bench.exchange().run(make_call())
    assert at_bench.provider.asked == []


async def test_a_broker_that_refuses_mid_stream_is_no_provider_s_failure() -> None:
    """The call stays undone and breaks its HTTP exchange off."""
    at_bench = bench(TextDelta("x"), never)
    # What a chunk met is raised when the stream is closed.
    at_bench.now = at(59.9)
    waiting = asyncio.Event()

    async def refuse() -> None:
        at_bench.publisher.failure = BrokerError("no")
        waiting.set()

    at_bench.provider.steps = (refuse, TextDelta("x"), never)

    with pytest.raises(BrokerError):
        await at_bench.exchange().run(streamed())
    assert (at_bench.provider.closed, at_bench.publisher.outcomes) == (1, [])


async def test_times_count_from_the_request_s_acceptance() -> None:
    """Milliseconds, up to when the provider was asked; the end is the clock's."""
    at_bench = bench(*ANSWER, WHOLE)
    at_bench.publisher.hold = True
    run = asyncio.create_task(at_bench.exchange().run(make_call()))
    await until(lambda: bool(at_bench.publisher.ledger))
    acknowledged_after = 0.02
    started = time.perf_counter()
    await until(lambda: time.perf_counter() - started >= acknowledged_after)
    at_bench.publisher.hold = False
    at_bench.publisher.acknowledge()
    await run

    outcome = at_bench.publisher.outcomes[0]
    assert outcome.timing.queued_ms is not None
    assert outcome.timing.queued_ms >= 1000 + acknowledged_after * 1e3
    assert outcome.timing.time_to_first_token_ms is not None
    assert outcome.timing.total_ms is not None
    assert outcome.timing.time_to_first_token_ms <= outcome.timing.total_ms
    assert outcome.finished_at == EPOCH.astimezone(UTC) + timedelta(seconds=1)


async def test_every_budget_that_granted_a_call_is_told_what_it_cost() -> None:
    """Under its name, before the call's offset may be committed."""
    at_bench = bench(*ANSWER, WHOLE)
    await at_bench.exchange().run(granted())

    told = settled(at_bench)
    written = at_bench.publisher.written
    keys = [each.key for each in written if isinstance(each.record, BudgetSettlement)]
    assert [each.budget for each in told] == ["all", "payments"]
    assert keys == [b"all", b"payments"]
    assert {(each.claim_id, each.invocation, each.final) for each in told} == {
        ("r1/0/1", "i1", True)
    }
    assert {(each.usd, each.tokens) for each in told} == {(Decimal("0.15"), 15)}


async def test_a_call_that_is_not_made_gives_back_what_it_had_reserved() -> None:
    """It cost nothing."""
    at_bench = bench(WHOLE)
    at_bench.now = at(60)
    await at_bench.exchange().run(granted())

    assert [(each.usd, each.tokens, each.final) for each in settled(at_bench)] == [
        (Decimal(0), 0, True)
    ] * 2


async def test_an_interrupted_call_keeps_its_reservation() -> None:
    """It is made again; what it has cost by now counts besides."""
    at_bench = bench(TextDelta("one two"), never)
    run = asyncio.create_task(at_bench.exchange().run(granted()))
    await until(lambda: bool(at_bench.publisher.chunks))
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    assert [(each.tokens, each.final) for each in settled(at_bench)] == [(102, False)] * 2


async def test_a_call_that_no_budget_granted_tells_none() -> None:
    """Nothing is written for budgets that are not there."""
    at_bench = bench(*ANSWER, WHOLE)
    await at_bench.exchange().run(streamed())

    assert settled(at_bench) == []


async def test_a_private_call_is_never_made_in_the_cloud() -> None:
    """Even where its plan, of another config, says that the entry is local."""
    at_work = bench()
    at_work.local = False

    await at_work.exchange().run(make_call(make_job(sensitivity="private")))

    [outcome] = at_work.publisher.outcomes
    assert (outcome.status, outcome.error and outcome.error.code) == ("failed", "no_route")
    assert at_work.publisher.ledger == []
    assert at_work.provider.asked == []


async def test_what_was_reserved_is_settled_by_what_the_call_took() -> None:
    """100 tokens of the prompt and 512 of the answer were reserved, 15 were taken."""
    at_bench = limited(*ANSWER, WHOLE, tokens_per_minute=600, burst_seconds=60)
    await at_bench.exchange().run(streamed())

    assert delay(at_bench, 585) == 0
    assert delay(at_bench, 586) == pytest.approx(0.1)


async def test_a_call_that_is_not_made_costs_nothing_of_the_limit() -> None:
    """It was cancelled while it waited, or has expired."""
    for past_deadline in (False, True):
        at_bench = limited(WHOLE, requests_per_minute=1)
        if past_deadline:
            at_bench.now = at(60)
        else:
            at_bench.cancellations.add(Cancellation(request_id="r1"))
        quota = at_bench.limiter.reserve("m0", 10)
        await at_bench.exchange().run(make_call(), place=some_places().begin(quota))

        assert delay(at_bench) == 0
        assert at_bench.provider.asked == []


async def test_a_call_that_could_not_be_sent_costs_nothing_of_the_limit() -> None:
    """Its provider was never told of the quota."""
    at_bench = limited(ProviderUnavailableError("every key is set aside"), requests_per_minute=1)
    await at_bench.exchange().run(make_call())

    assert delay(at_bench) == 0


async def test_a_refusal_rests_the_model_until_its_time() -> None:
    """As the provider said."""
    at_bench = limited(requests_per_minute=6000)

    async def send() -> None:
        quota = at_bench.provider.asked[-1].quota
        assert quota is not None
        quota.sent_to("")

    at_bench.provider.steps = (send, RateLimitedError("wait", retry_after=7))
    await at_bench.exchange().run(make_call())

    assert delay(at_bench) == pytest.approx(7)
    assert at_bench.limiter.delay("another model", 1) == 0


async def test_a_retry_in_place_reserves_anew_and_waits_its_turn() -> None:
    """Another call that wants to begin meanwhile stands behind it."""
    at_bench = limited(requests_per_minute=60_000, burst_seconds=0.001)
    at_bench.backoff = BackoffSettings(max_tries=2, base_seconds=0.001)
    tried = 0

    async def fail_once() -> None:
        nonlocal tried
        tried += 1
        quota = at_bench.provider.asked[-1].quota
        assert quota is not None
        quota.sent_to("")
        if tried == 1:
            raise ProviderUnavailableError("down")

    at_bench.provider.steps = (fail_once, WHOLE)
    await at_bench.exchange().run(make_call())

    assert [each.status for each in at_bench.publisher.outcomes] == ["completed"]
    quotas = [each.quota for each in at_bench.provider.asked]
    assert len(set(map(id, quotas))) == 2
    # Two requests of one a millisecond, on a clock that stands still.
    assert delay(at_bench) == pytest.approx(0.002)


async def test_a_retry_that_the_limit_keeps_waiting_goes_by_the_retries_topic() -> None:
    """A place is not held for a minute; what it had reserved is there for others."""
    at_bench = limited(requests_per_minute=1)
    at_bench.backoff = BackoffSettings(max_tries=2, base_seconds=0.001)

    async def send() -> None:
        quota = at_bench.provider.asked[-1].quota
        assert quota is not None
        quota.sent_to("")

    at_bench.provider.steps = (send, ProviderUnavailableError("down"))
    await at_bench.exchange().run(make_call(make_job(seconds=600.0)))

    assert [each.topic for each in at_bench.publisher.written].count("retries") == 1
    assert at_bench.publisher.outcomes == []
    assert delay(at_bench) == pytest.approx(60)
