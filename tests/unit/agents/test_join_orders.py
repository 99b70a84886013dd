"""Whatever the strategy, the order and the repetitions of its records, a request ends once."""

from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_joins import (
    OutcomesTopic,
    chain_of,
    delegating,
    ensemble_of,
    first_calls,
    make_member,
    racing,
    strategy_plan,
)
from pipeline_records import at, make_job, make_outcome

from millrace.schemas.call import Call, CascadeRule, Job, Plan, VoteRule
from millrace.schemas.outcome import AttemptOutcome, JoinOpened, JoinTimeout
from millrace.schemas.request import OutputSpec

PARTS = '{"parts": [{"title": "a", "instructions": "b"}, {"title": "c", "instructions": "d"}]}'
ANSWERS = ["yes", "no", "Yes!", "", "{}", '{"best": 1}', '{"confidence": 0.5}', PARTS]
SAID = st.sampled_from([*ANSWERS, "failed", "expired", "stopped"])
KINDS = (
    "single", "vote", "embedded", "best_of", "merge", "chain", "race", "climb", "agree", "delegate",
)  # fmt: skip
CONFIDENCE = st.sampled_from(["score", "logprobs", "self_rating"])
TIERS = st.lists(st.integers(0, 2), min_size=1, max_size=3).map(sorted)


@st.composite
def plans(draw: st.DrawFn) -> tuple[Job, Plan]:
    """A plan of any strategy, with up to five members and up to three candidates each."""
    kind = draw(st.sampled_from(KINDS))
    count = draw(st.integers(2, 4))
    rest = {
        "quorum": draw(st.integers(1, count)),
        "max_repairs": draw(st.integers(0, 1)),
        "member_timeout_s": draw(st.sampled_from([None, 20.0])),
    }
    match kind:
        case "single":
            tiers = [0] * draw(st.integers(1, 3))
            plan = strategy_plan("auto", make_member(0, tiers=tiers), **rest)
        case "vote":
            members = [make_member(each, tiers=[0] * draw(st.integers(1, 3))) for each in range(5)]
            plan = strategy_plan("ensemble", *members[:count], mode="vote", **rest)
        case "embedded":
            rule = VoteRule(by="embedding", similarity=0.5)
            plan = ensemble_of(count, "vote", last="embed", vote=rule, **rest)
        case "best_of":
            plan = ensemble_of(count, "best_of", last="judge", **rest)
        case "merge":
            plan = ensemble_of(count, "merge", last="merge", **rest)
        case "chain":
            plan = chain_of(count, **rest)
        case "race":
            plan = racing(count, **rest)
        case "climb":
            rule = CascadeRule(confidence=draw(CONFIDENCE), thresholds=(0.6,))
            member = make_member(0, tiers=draw(TIERS))
            plan = strategy_plan("cascade", member, cascade=rule, **rest)
        case "agree":
            members = [make_member(0), make_member(1), make_member(2, stage=1, tiers=(1,))]
            rule = CascadeRule(confidence="agreement")
            plan = strategy_plan("cascade", *members, cascade=rule, **rest)
        case _:
            plan = delegating(count, **rest)
    output = OutputSpec(format=draw(st.sampled_from(["text", "json"])))
    return make_job(output=output), plan


def vectors(texts: int) -> st.SearchStrategy[tuple[tuple[float, ...], ...]]:
    """As many as there are texts, or one fewer."""
    one = st.tuples(st.floats(-1, 1), st.floats(-1, 1))
    return st.lists(one, min_size=texts - 1, max_size=texts).map(tuple)


def ending(data: st.DataObject, call: Call, step: int, invocation: str) -> AttemptOutcome:
    """How a call might end."""
    said = data.draw(SAID, "answer")
    status = {"failed": "failed", "expired": "expired", "stopped": "cancelled"}.get(said)
    return make_outcome(
        call,
        text=said,
        status=status or "completed",  # type: ignore[arg-type]
        seconds=min(step, 59),
        invocation=invocation,
        cancelled="member" if said == "stopped" else None,
        token_probability=data.draw(st.sampled_from([None, 0.3, 0.9]), "probability"),
        embeddings=data.draw(vectors(len(call.inputs)), "vectors") if call.inputs else (),
        chunks=data.draw(st.integers(0, 2), "chunks"),
    )


def run(data: st.DataObject, job: Job, plan: Plan, *, with_timeout: bool) -> OutcomesTopic:
    """Let calls end in any order, some twice and some not at all, until time is up."""
    world = OutcomesTopic()
    pending = first_calls(job, plan)
    asked = list(pending)
    announced = not plan.joined
    step = 0
    while pending or not announced:
        step += 1
        if not announced and (not pending or data.draw(st.booleans(), "announce")):
            announced = True
            world.write(JoinOpened(job=job, plan=plan, opened_at=at(1)))
            continue
        call = pending.pop(data.draw(st.integers(0, len(pending) - 1), "which"))
        if plan.joined and data.draw(st.integers(0, 9), "lost") == 0:
            continue
        before = len(world.calls)
        for again in range(1 + data.draw(st.integers(0, 1), "twice")):
            world.write(ending(data, call, step, f"i{step}.{again}"))
        if data.draw(st.integers(0, 9), "old record") == 0:
            world.read(data.draw(st.integers(0, len(world.log) - 1), "offset"))
        if with_timeout and plan.joined and data.draw(st.integers(0, 4), "timeout") == 0:
            due = data.draw(st.sampled_from([21.0, 60.0]), "due")
            world.write(JoinTimeout(request_id=job.request_id, due=at(due)))
        pending += world.calls[before:]
        asked += world.calls[before:]
    if plan.joined:
        world.write(JoinTimeout(request_id=job.request_id, due=at(60)))
    assert len({call.attempt_id for call in asked}) == len(asked)
    return world


@given(data=st.data(), plan=plans(), with_timeout=st.booleans())
@settings(max_examples=150, deadline=None)
def test_exactly_one_terminal_record(
    data: st.DataObject, plan: tuple[Job, Plan], with_timeout: bool
) -> None:
    """Duplicates, late and lost outcomes, time-outs; no attempt is asked for twice.

    Only members that somebody waits for are ever stopped, and each at most once.
    """
    world = run(data, *plan, with_timeout=with_timeout)

    assert len(world.responses) == 1
    assert world.state is not None
    assert world.state.ended
    stopped = [member for each in world.cancellations for member in each.members or ()]
    assert len(set(stopped)) == len(stopped)
    verdict = world.responses[0].ensemble
    if verdict is not None:
        counted = (*verdict.missing, *verdict.skipped)
        assert verdict.answered + len(counted) == verdict.members + len(verdict.skipped)


@given(data=st.data(), plan=plans(), with_timeout=st.booleans(), crash=st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_a_reader_that_starts_anew_decides_the_same(
    data: st.DataObject, plan: tuple[Job, Plan], with_timeout: bool, crash: int
) -> None:
    """From the first record, or from any stored state with records read again."""
    world = run(data, *plan, with_timeout=with_timeout)
    second = OutcomesTopic(log=world.log)
    for offset in range(min(crash, len(world.log))):
        second.read(offset)
    # A crash: the state is what was stored, and some records are read again.
    back = data.draw(st.integers(0, min(crash, len(world.log))), "committed")
    for offset in range(back, len(world.log)):
        second.read(offset)

    assert second.responses == world.responses
    assert second.calls == world.calls
    assert second.cancellations == world.cancellations
    assert second.restarts == world.restarts
    assert second.state == world.state
