"""Which past requests are sent again, as what, and how fast."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.agents.accept_request import AcceptRequest
from millrace.agents.policy import RequestPolicy
from millrace.prompts.library import PACKAGED, PromptLibrary
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.ids import replayed_request_id, request_id_at
from millrace.streams.cli.replay_costs import cost_estimate
from millrace.streams.dead_letters import RawRecord
from millrace.streams.replay import (
    Again,
    Pace,
    Replay,
    Selection,
    Tally,
    Variation,
    run_replay,
)
from millrace.streams.routing_key import ORIGIN_HEADER
from millrace.streams.settings import load_settings

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ACCEPT = AcceptRequest(
    library=PromptLibrary.load((PACKAGED,)), policy=RequestPolicy(), own_topics=("llm.*",)
)


def _record(value: dict[str, Any] | bytes, *, at: datetime = NOON, offset: int = 0) -> RawRecord:
    raw = value if isinstance(value, bytes) else orjson.dumps(value)
    return RawRecord(
        topic="llm.requests", partition=1, offset=offset, timestamp=at, key=None, value=raw
    )


def _replay(
    *, variation: Variation | None = None, sent: frozenset[str] = frozenset(), **selection: Any
) -> Replay:
    return Replay(
        replay_id="try",
        selection=Selection(
            start=NOON - timedelta(hours=1), end=NOON + timedelta(hours=1), **selection
        ),
        variation=variation or Variation(),
        accept=ACCEPT.accept,
        sent=sent,
    )


def _again(replay: Replay, value: dict[str, Any]) -> Again:
    decision = replay.consider(_record(value))
    assert isinstance(decision, Again)
    return decision


def test_a_replayed_request_is_the_same_under_an_id_of_its_own() -> None:
    """It names replay and original, and never goes to the original's reply topic."""
    value = {"request_id": "1", "prompt": "x", "team": "a", "reply_to": "a.replies"}

    request = _again(_replay(), value).request

    assert replayed_request_id("try", "1") == request.request_id
    assert request.replay is not None
    assert (request.replay.replay_id, request.replay.original_request_id) == ("try", "1")
    assert request.reply_to is None
    assert (request.prompt, request.team) == ("x", "a")


def test_a_request_without_id_has_the_one_of_its_place() -> None:
    """As the pipeline gave it one."""
    again = _again(_replay(), {"prompt": "x"})

    assert request_id_at("llm.requests", 1, 0) == again.original_request_id


def test_models_and_providers_bind_in_place_of_those_asked_for() -> None:
    """The rest of the route stays."""
    variation = Variation(models=("m",), providers=("p",))
    value = {"prompt": "x", "route": {"models": ["old"], "sensitivity": "private"}}

    route = _again(_replay(variation=variation), value).request.route

    assert (route.models, route.providers, route.sensitivity) == (("m",), ("p",), "private")


def test_texts_to_be_embedded_are_sent_again_as_they_were() -> None:
    """To another model, if that is asked."""
    value = {"request_id": "1", "inputs": ["a", "b"], "dimensions": 8}
    again = _again(_replay(variation=Variation(models=("m",))), value)

    assert (again.request.inputs, again.request.dimensions) == (("a", "b"), 8)
    assert again.job.inputs == ("a", "b")
    assert again.request.route.models == ("m",)


def test_a_prompt_replaces_the_template_only() -> None:
    """Requests without a template, or whose variables do not fit, are left out."""
    replay = _replay(variation=Variation(prompt="general@1"))
    fitting = {"request_id": "3", "template": "code_review", "variables": {"code": "x"}}

    assert replay.consider(_record({"request_id": "1", "prompt": "x"})) == "no template"
    assert replay.consider(_record({**fitting, "request_id": "2"})) == "does not fit"
    same = _again(_replay(variation=Variation(prompt="code_review@1")), fitting)
    assert same.request.template == "code_review@1"


def test_a_deadline_keeps_its_length_from_the_sending_on() -> None:
    """One that had passed on arrival is dropped."""
    later = NOON + timedelta(days=1)

    bounded = _again(
        _replay(), {"prompt": "x", "deadline": (NOON + timedelta(minutes=2)).isoformat()}
    )
    passed = _again(_replay(), {"prompt": "x", "deadline": (NOON - timedelta(1)).isoformat()})
    free = _again(_replay(), {"prompt": "x"})

    assert later + timedelta(minutes=2) == bounded.at(later).deadline
    assert passed.at(later).deadline is None
    assert free.at(later).deadline is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"not json", "never accepted"),
        ({"prompt": ""}, "never accepted"),
        ({"prompt": "x", "reply_to": "llm.requests"}, "never accepted"),
        ({"template": "weather@1"}, "never accepted"),
        ({"prompt": "x", "replay": {"replay_id": "r", "original_request_id": "o"}}, "replay"),
    ],
)
def test_what_was_never_accepted_or_is_a_replay_is_left_out(
    value: dict[str, Any] | bytes, expected: str
) -> None:
    """And counted with its reason."""
    assert expected == _replay().consider(_record(value))


def test_an_id_that_comes_again_is_sent_once() -> None:
    """The pipeline took the first one only."""
    replay = _replay()

    first, second = (
        replay.consider(_record({"request_id": "1", "prompt": "x"}, offset=n)) for n in (0, 1)
    )

    assert isinstance(first, Again)
    assert second == "same id again"


def test_what_this_replay_sent_before_is_not_sent_again() -> None:
    """So it can be gone on with."""
    replay = _replay(sent=frozenset({replayed_request_id("try", "1")}))

    assert replay.consider(_record({"request_id": "1", "prompt": "x"})) == "sent before"


def test_a_copy_moved_to_the_partition_of_its_key_does_not_count() -> None:
    """Its original does."""
    record = _record({"request_id": "1", "prompt": "x"})
    moved = RawRecord(
        record.topic,
        0,
        9,
        NOON,
        None,
        record.value,
        ((ORIGIN_HEADER, b"llm.requests/1/0/1772366400000"),),
    )

    assert _replay().consider(moved) is None


def test_the_range_includes_its_start_and_not_its_end() -> None:
    """Whatever order the records lie in."""
    value = {"request_id": "1", "prompt": "x"}

    assert isinstance(_replay().consider(_record(value, at=NOON - timedelta(hours=1))), Again)
    assert _replay().consider(_record(value, at=NOON + timedelta(hours=1))) is None
    assert _replay().consider(_record(value, at=NOON - timedelta(hours=2))) is None


def test_filters_are_by_task_team_and_all_tags() -> None:
    """What does not pass is not counted."""
    value = {"prompt": "x", "task": "reasoning", "team": "a", "tags": {"pr": "1", "by": "ci"}}

    for passing in ({"tasks": {"reasoning"}}, {"teams": {"a", "b"}}, {"tags": {"pr": "1"}}):
        assert isinstance(_replay(**passing).consider(_record(value)), Again)
    for stopping in ({"tasks": {"general"}}, {"teams": {"b"}}, {"tags": {"pr": "2"}}):
        assert _replay(**stopping).consider(_record(value)) is None


async def _records(values: Sequence[dict[str, Any] | bytes]) -> AsyncIterator[RawRecord]:
    for offset, value in enumerate(values):
        yield _record(value, offset=offset)


class _Sent(list[str]):
    async def __call__(self, again: Again) -> None:
        self.append(again.original_request_id)


def _pace() -> Pace:
    return Pace(per_second=1e9, clock=lambda: 0.0)


async def test_a_run_counts_by_task_and_sends_up_to_the_limit() -> None:
    """Unknown prices are counted apart, never as nothing."""
    values: list[dict[str, Any] | bytes] = [
        {"request_id": "1", "prompt": "x", "task": "reasoning"},
        b"bad",
        {"request_id": "2", "prompt": "x"},
        {"request_id": "3", "prompt": "x"},
        {"request_id": "4", "prompt": "x"},
    ]
    sent = _Sent()

    tally = await run_replay(
        _records(values),
        replay=_replay(),
        estimate=lambda again: None if again.original_request_id == "2" else Decimal("0.5"),
        send=sent,
        pace=_pace(),
        limit=3,
    )

    assert sent == ["1", "2", "3"]
    assert (3, Decimal("1.0"), 1) == (tally.requests, tally.cost_usd, tally.unpriced)
    assert {"reasoning", "general"} == set(tally.tasks)
    assert tally.skipped == {"never accepted": 1}


async def test_a_request_that_fits_no_model_is_left_out() -> None:
    """It would only be refused."""
    sent = _Sent()

    def estimate(again: Again) -> Decimal:
        raise InvalidEventError(f"no route for {again.original_request_id}", code="no_route")

    tally: Tally = await run_replay(
        _records([{"request_id": "1", "prompt": "x"}, {"request_id": "2", "prompt": "x"}]),
        replay=_replay(),
        estimate=estimate,
        send=sent,
        pace=_pace(),
        limit=None,
    )

    assert sent == []
    assert tally.skipped == {"no route": 2}
    assert tally.reasons == {"no route": "no route for 1"}


async def test_a_dry_run_sends_nothing_and_waits_for_nothing() -> None:
    """It only counts."""

    async def refuse(seconds: float) -> None:
        pytest.fail(f"waited {seconds}")

    tally = await run_replay(
        _records([{"request_id": str(n), "prompt": "x"} for n in range(5)]),
        replay=_replay(),
        estimate=lambda _: Decimal(1),
        send=None,
        pace=Pace(per_second=1, clock=lambda: 0.0, sleep=refuse),
        limit=None,
    )

    assert tally.requests == 5


@given(
    per_second=st.floats(min_value=0.5, max_value=1000),
    works=st.lists(st.floats(min_value=0, max_value=3), min_size=2, max_size=40),
)
@settings(max_examples=50)
async def test_a_pace_never_lets_more_pass_than_its_rate(
    per_second: float, works: list[float]
) -> None:
    """Over any stretch, one more than the rate allows at most, however long each takes."""
    now = 0.0
    passed: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    pace = Pace(per_second=per_second, clock=lambda: now, sleep=sleep)
    for work in works:
        await pace.turn()
        passed.append(now)
        now += work

    for first in range(len(passed)):
        for last in range(first + 1, len(passed)):
            allowed = (passed[last] - passed[first]) * per_second + 1
            assert last - first <= allowed + 1e-6


def test_vectors_for_a_vote_add_their_reading_of_the_answers() -> None:
    """And no answer of their own, for which such models have no price."""
    simulated = load_settings(Path(__file__).parents[3] / "examples" / "simulated.toml", {})
    estimate = cost_estimate(simulated, output_tokens=400)

    def about(**vote: str) -> Decimal:
        route = {"strategy": "ensemble", "members": 3, **vote}
        value = {"request_id": "1", "prompt": "x", "route": route}
        cost = estimate(_again(_replay(), value))
        assert cost is not None
        return cost

    plain = about()
    vectors = about(vote_by="embedding", embedder="text-embedding-3-small")
    assert vectors - plain == 3 * 400 * Decimal("0.02") / 1_000_000
