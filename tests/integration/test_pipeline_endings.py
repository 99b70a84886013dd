"""Requests that do not go well: fallback, deadline, cancellation, members that fail or hang."""

from datetime import UTC, datetime, timedelta

import pytest
from machine_pauses import MachinePauses
from pipeline_under_test import PROVIDERS, Pipeline, fresh_id, request_body

from millrace.providers.simulator.behaviour import ScriptedBehaviour
from millrace.streams.topics import TopicNames

pytestmark = pytest.mark.asyncio(loop_scope="module")


def soon(seconds: float) -> str:
    """A deadline so many seconds from now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("http=500", "provider_unavailable"),
        ("http=529", "provider_unavailable"),
        ("http=429 retry_after=1", "rate_limited"),
        ("http=401", "authentication_failed"),
        ("cut after=5", "stream_truncated"),
        ("cut_cleanly after=5", "stream_truncated"),
        ("malformed after=5", "reply_invalid"),
        ("error_in_stream after=5", "provider_unavailable"),
        ("empty", "empty_reply"),
        ("wrong_json", "output_invalid"),
    ],
)
@pytest.mark.parametrize("first", ["openai", "anthropic"])
async def test_a_failure_goes_to_the_next_candidate(
    pipeline: Pipeline, first: str, fault: str, code: str
) -> None:
    """The requester sees one good end, and which attempt failed of what."""
    request_id = await pipeline.ask(
        "fallback",
        simulate=f"{fault} only={first}",
        stream=True,
        output={"format": "json"} if fault == "wrong_json" else {},
        route={"strategy": "cloud_only", "prefer_providers": [first]},
    )
    response = await pipeline.topics.response(request_id)
    chunks = await pipeline.topics.stream(request_id)

    assert (response.status, response.error) == ("completed", None)
    assert [each.status for each in response.attempts] == ["failed", "completed"]
    assert response.attempts[0].provider == first
    error = response.attempts[0].error
    assert error is not None
    assert error.code == code
    good = [each for each in chunks if each.attempt == 2]
    assert "".join(each.delta for each in good) == response.text
    for attempt in (1, 2):
        numbers = [each.sequence for each in chunks if each.attempt == attempt]
        assert numbers == list(range(len(numbers)))


async def test_every_attempt_of_a_request_is_in_the_books(pipeline: Pipeline) -> None:
    """Failed ones too; what a cut stream cost is an estimate."""
    request_id = await pipeline.ask(
        "books",
        simulate="cut after=5 only=openai",
        stream=True,
        route={"prefer_providers": ["openai"]},
    )
    response = await pipeline.topics.response(request_id)
    events = pipeline.topics.ledger[request_id]
    await pipeline.topics.until(lambda: len(events) == 4, "two events for each attempt")

    spent = [each for each in events if each.event == "spent"]
    assert [(each.attempt, each.usage.source) for each in spent] == [
        (1, "estimated"),
        (2, "reported"),
    ]
    assert spent[0].usage.input_tokens > 0
    assert spent[0].usage.output_tokens > 0
    assert response.usage == spent[0].usage + spent[1].usage


async def test_when_all_candidates_fail_so_does_the_request(pipeline: Pipeline) -> None:
    """With every attempt listed."""
    request_id = await pipeline.ask(
        "all-fail", simulate="http=500", route={"providers": ["openai", "gemini"]}
    )
    response = await pipeline.topics.response(request_id)

    assert response.status == "failed"
    assert response.error is not None
    assert response.error.code == "provider_unavailable"
    assert {each.provider for each in response.attempts} == {"openai", "gemini"}


@pytest.mark.parametrize("fault", ["hang", "hang_mid after=3"])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_provider_that_hangs_expires_the_request_at_its_deadline(
    pipeline: Pipeline, machine: MachinePauses, provider: str, fault: str
) -> None:
    """Within a second; what was shown of it is booked as an estimate."""
    deadline = datetime.now(UTC) + timedelta(seconds=2.5)
    request_id = await pipeline.ask(
        "hang",
        simulate=fault,
        stream=True,
        deadline=deadline.isoformat(),
        route={"providers": [provider]},
    )
    response = await pipeline.topics.response(request_id)
    chunks = await pipeline.topics.stream(request_id)

    assert response.error is not None
    assert (response.status, response.error.code) == ("expired", "deadline_exceeded")
    assert abs(response.completed_at - deadline) < timedelta(seconds=1) + machine.longest
    assert chunks[-1].end == "error"
    assert response.usage is not None
    assert response.usage.source == "estimated"
    assert response.usage.input_tokens > 0


async def test_a_request_whose_deadline_has_passed_is_not_paid(pipeline: Pipeline) -> None:
    """It ends as expired."""
    request_id = await pipeline.ask("late", deadline=soon(-1))
    response = await pipeline.topics.response(request_id)

    assert response.status == "expired"
    assert pipeline.paid(request_id) == []


@pytest.mark.parametrize("twice", [False, True])
async def test_a_cancellation_ends_a_stream(pipeline: Pipeline, twice: bool) -> None:
    """Mid-stream; a second one changes nothing, and what came is booked."""
    request_id = await pipeline.ask(
        "cancel", simulate="hang_mid after=5", stream=True, route={"providers": ["openai"]}
    )
    await pipeline.topics.until(lambda: pipeline.topics.chunks[request_id], "the first token")
    for _ in range(1 + twice):
        await pipeline.cancel(request_id)

    response = await pipeline.topics.response(request_id)
    chunks = await pipeline.topics.stream(request_id)
    assert response.status == "cancelled"
    assert chunks[-1].end == "cancelled"
    assert response.text == "".join(each.delta for each in chunks)
    assert response.usage is not None
    assert response.usage.output_tokens > 0
    await pipeline.simulator.ledger.until(lambda _: pipeline.paid(request_id)[0].ended != "open")


async def test_a_request_cancelled_before_it_starts_is_not_paid(pipeline: Pipeline) -> None:
    """The cancellation may come before the request."""
    request_id = fresh_id("cancelled-first")
    await pipeline.cancel(request_id)
    # When the end of this one is known, the cancellation before it has been read.
    marker = await pipeline.ask("marker", simulate="hang", route={"providers": ["openai"]})
    await pipeline.simulator.ledger.until(lambda _: bool(pipeline.paid(marker)))
    await pipeline.cancel(marker)
    await pipeline.topics.response(marker)

    await pipeline.send(request_body(request_id))
    response = await pipeline.topics.response(request_id)

    assert response.status == "cancelled"
    assert pipeline.paid(request_id) == []


async def test_a_cancellation_that_makes_no_sense_harms_nobody(pipeline: Pipeline) -> None:
    """It is set aside, and the next one works."""
    topic = TopicNames(pipeline.settings.kafka.topic_prefix).cancellations
    at = await pipeline.producer.send_and_wait(topic, b'{"request": 1}', key=b"k")
    letter = await pipeline.topics.dead_letter((at.topic, at.partition, at.offset))

    assert letter.value is not None
    assert letter.value.bytes() == b'{"request": 1}'


# --- Ensembles

ENSEMBLE = {"strategy": "ensemble", "members": 3, "providers": ["openai", "anthropic", "gemini"]}


async def test_an_ensemble_votes(pipeline: Pipeline) -> None:
    """Each member on another provider, each in the books."""
    request_id = await pipeline.ask("vote", simulate='answer="Yes."', route=ENSEMBLE)
    response = await pipeline.topics.response(request_id)

    assert (response.status, response.text) == ("completed", "Yes.")
    assert response.ensemble is not None
    assert response.ensemble.agreeing == (0, 1, 2)
    assert {each.provider for each in response.attempts} == {"openai", "anthropic", "gemini"}
    lines = pipeline.paid(request_id)
    assert len(lines) == 3
    assert response.usage is not None
    assert response.usage.output_tokens == sum(line.generated_tokens for line in lines)


async def test_an_ensemble_outlives_a_failing_member(pipeline: Pipeline) -> None:
    """The member is missing, the others decide."""
    pipeline.simulator.script(ScriptedBehaviour(instance="gemini", http=500, times=4))
    request_id = await pipeline.ask(
        "one-fails", simulate='answer="No"', route={**ENSEMBLE, "quorum": 2}
    )
    response = await pipeline.topics.response(request_id)

    assert (response.status, response.text) == ("completed", "No")
    assert response.ensemble is not None
    assert (response.ensemble.answered, len(response.ensemble.missing)) == (2, 1)


@pytest.mark.parametrize(("quorum", "status"), [(2, "completed"), (3, "expired")])
async def test_a_hung_member_is_waited_for_until_the_deadline_and_no_longer(
    pipeline: Pipeline, machine: MachinePauses, quorum: int, status: str
) -> None:
    """The others decide if they are enough."""
    deadline = datetime.now(UTC) + timedelta(seconds=3)
    request_id = await pipeline.ask(
        "one-hangs",
        simulate="hang only=gemini",
        deadline=deadline.isoformat(),
        route={**ENSEMBLE, "quorum": quorum},
    )
    response = await pipeline.topics.response(request_id)

    assert response.status == status
    assert abs(response.completed_at - deadline) < timedelta(seconds=1) + machine.longest
    assert response.ensemble is not None
    assert response.ensemble.answered == 2
    # Its late outcome ends nothing a second time.
    marker = await pipeline.ask("after-hang")
    await pipeline.topics.response(marker)
    assert len(pipeline.topics.responses[request_id]) == 1
