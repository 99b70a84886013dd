"""Whatever the order and the repetitions of its records, a request ends once."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_joins import make_join
from pipeline_records import at, make_call, make_job, make_outcome, make_plan

from millrace.agents.joins.state import JoinState
from millrace.schemas.call import Call, Job, Plan
from millrace.schemas.outcome import JoinOpened, JoinTimeout, OutcomeRecord
from millrace.schemas.response import Response

JOIN = make_join()


@dataclass
class World:
    """A topic of outcomes, and what a reader of it made of the records."""

    log: list[OutcomeRecord] = field(default_factory=list)
    state: JoinState | None = None
    calls: list[Call] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)

    def read(self, offset: int) -> None:
        """Read the record at an offset."""
        # The state goes through its stored form each time, as it does in the table.
        state = self.state
        if state is not None:
            state = JoinState.model_validate(state.model_dump(mode="json", exclude_defaults=True))
        decision = JOIN.decide(state, self.log[offset], offset)
        self.state = decision.state or state
        self.calls += decision.calls
        self.responses += [decision.response] if decision.response is not None else []

    def write(self, record: OutcomeRecord) -> None:
        """Append a record and read it."""
        self.log.append(record)
        self.read(len(self.log) - 1)


ANSWERS = st.sampled_from(["yes", "no", "Yes!", "", "failed", "expired"])


@st.composite
def plans(draw: st.DrawFn) -> tuple[Job, Plan]:
    """Up to four members with up to three candidates each."""
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    quorum = draw(st.integers(1, len(counts)))
    return make_job(), make_plan(*counts, quorum=quorum)


def run(data: st.DataObject, job: Job, plan: Plan, *, with_timeout: bool) -> World:
    """Let calls end in any order, some of them twice, until nothing is open."""
    world = World()
    several = len(plan.members) > 1
    pending = [make_call(job, plan, member=number) for number in range(len(plan.members))]
    asked = list(pending)
    announced = not several
    step = 0
    while pending or not announced:
        step += 1
        if not announced and (not pending or data.draw(st.booleans(), "announce")):
            announced = True
            world.write(JoinOpened(job=job, plan=plan))
            continue
        call = pending.pop(data.draw(st.integers(0, len(pending) - 1), "which"))
        before = len(world.calls)
        for again in range(1 + data.draw(st.integers(0, 1), "twice")):
            said = data.draw(ANSWERS, "answer")
            status = said if said in ("failed", "expired") else "completed"
            world.write(
                make_outcome(
                    call,
                    text=said,
                    status=status,  # type: ignore[arg-type]
                    seconds=min(step, 59),
                    invocation=f"i{step}.{again}",
                )
            )
        pending += world.calls[before:]
        asked += world.calls[before:]
        if data.draw(st.integers(0, 9), "old record") == 0:
            world.read(data.draw(st.integers(0, len(world.log) - 1), "offset"))
        if with_timeout and several and data.draw(st.integers(0, 4), "timeout") == 0:
            world.write(JoinTimeout(request_id=job.request_id, due=at(60)))
    assert len({call.attempt_id for call in asked}) == len(asked)
    return world


@given(data=st.data(), plan=plans(), with_timeout=st.booleans())
@settings(max_examples=150, deadline=None)
def test_exactly_one_terminal_record(
    data: st.DataObject, plan: tuple[Job, Plan], with_timeout: bool
) -> None:
    """Duplicates, late outcomes and timeouts in between; no attempt is asked for twice."""
    world = run(data, *plan, with_timeout=with_timeout)

    assert len(world.responses) == 1
    assert world.state is not None
    assert world.state.ended


@given(data=st.data(), plan=plans(), with_timeout=st.booleans(), crash=st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_a_reader_that_starts_anew_decides_the_same(
    data: st.DataObject, plan: tuple[Job, Plan], with_timeout: bool, crash: int
) -> None:
    """From the first record, or from any stored state with records read again."""
    world = run(data, *plan, with_timeout=with_timeout)
    second = World(log=world.log)
    for offset in range(min(crash, len(world.log))):
        second.read(offset)
    # A crash: the state is what was stored, and some records are read again.
    back = data.draw(st.integers(0, min(crash, len(world.log))), "committed")
    for offset in range(back, len(world.log)):
        second.read(offset)

    assert second.responses == world.responses
    assert second.calls == world.calls
    assert second.state == world.state
