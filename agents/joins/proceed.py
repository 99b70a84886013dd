"""From the state of a join to what follows: calls of the next stage, or the end."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from millrace.agents.joins.attempt import JudgeAttempt
from millrace.agents.joins.briefs import brief_of
from millrace.agents.joins.cascade import cascade
from millrace.agents.joins.chain import chain
from millrace.agents.joins.delegate import delegate
from millrace.agents.joins.ensemble import ensemble
from millrace.agents.joins.moves import Finish, Launch, Move, Table, Wait
from millrace.agents.joins.race import race
from millrace.agents.joins.state import Decision, JoinState, Member
from millrace.agents.joins.steps import Steps
from millrace.agents.respond import ended_by_join
from millrace.schemas.call import Call, Job, Plan
from millrace.schemas.cancellation import Cancellation
from millrace.schemas.record import Instant


def table_of(state: JoinState, job: Job, plan: Plan, at: datetime) -> Table:
    """The join as it stands at a time."""
    return Table(state=state, job=job, plan=plan, final=at >= job.deadline)


def stage_due(state: JoinState) -> Instant | None:
    """When the members of the current stage have had their time; None: they have no such limit."""
    if state.job is None or state.plan is None or state.plan.member_timeout_s is None:
        return None
    since = state.stage_since or state.job.accepted_at
    return since + timedelta(seconds=state.plan.member_timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proceed:
    """Asks the request's strategy what follows, and makes records of it."""

    steps: Steps
    judge: JudgeAttempt

    def proceed(self, state: JoinState, job: Job, plan: Plan, at: datetime) -> Decision:
        """Decide what follows from a state that a record has just changed."""
        while True:
            table = table_of(state, job, plan, at)
            match _move(table):
                case Wait():
                    return Decision(state)
                case Finish() as finish:
                    return _end(state, job, plan, finish, at)
                case Launch() as launch:
                    state, calls = self._launch(table, launch, at)
                    if calls:
                        return Decision(state, calls=calls)

    def _launch(
        self, table: Table, launch: Launch, at: datetime
    ) -> tuple[JoinState, tuple[Call, ...]]:
        """Call the members of a stage; one whose call no topic takes has failed."""
        state = table.state.model_copy(
            update={
                "stage": launch.stage,
                "stage_since": at,
                "notes": (*table.state.notes, *launch.notes),
            }
        )
        for number in launch.skipped:
            state = state.with_member(number, Member(done=True, without="skipped"))
        table = table_of(state, table.job, table.plan, at)
        calls = []
        for number in launch.members:
            brief = brief_of(self.steps, table, number)
            call = Call(job=table.job, plan=table.plan, member=number, brief=brief)
            if self.judge.fits(call):
                calls.append(call)
                continue
            role = table.plan.members[number].role
            note = f"the call of the {role} member {number} would have been too large"
            state = state.with_member(number, Member(done=True, without="failed")).model_copy(
                update={"notes": (*state.notes, note)}
            )
        return state, tuple(calls)


def _move(table: Table) -> Move:
    match table.plan.strategy:
        case "parallel":
            return race(table)
        case "cascade":
            return cascade(table)
        case "delegate":
            return delegate(table)
        case _:
            return chain(table) if table.plan.mode == "chain" else ensemble(table)


def _end(state: JoinState, job: Job, plan: Plan, finish: Finish, at: datetime) -> Decision:
    """End the request, and stop those who are at work for it still."""
    ended = JoinState(applied=state.applied, ended=True, touched_at=at)
    working = still_working(state, plan)
    cancellation = None
    if working and at < job.deadline:
        cancellation = stop(job, working, "the request has its answer", at)
    return Decision(
        ended,
        response=ended_by_join(
            state, job, plan, finish, at, cost_final=not (working or state.unsettled)
        ),
        reply_to=job.reply_to,
        cancellation=cancellation,
    )


def still_working(state: JoinState, plan: Plan) -> tuple[int, ...]:
    """The members that have been called and are not done."""
    return tuple(
        number
        for number, member in enumerate(plan.members)
        if member.stage <= state.stage and not state.member(number).done
    )


def stop(job: Job, members: tuple[int, ...], reason: str, at: datetime) -> Cancellation:
    """Break off the calls of some members."""
    return Cancellation(request_id=job.request_id, members=members, reason=reason, cancelled_at=at)
