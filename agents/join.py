"""How a request ends: a deterministic state machine over the records about it.

Given the same records in the same order it decides the same, so that a partition read again
after a crash ends each request as before. It looks at no clock: every time it uses stands in a
record. It keeps a state only for requests that need one, and remembers those that ended.

The first record that ends a request wins. An attempt is decided once: a second outcome of it
(its call was read again after a crash, made again and paid again) changes nothing here; the
ledger has its own row for it.
"""

from dataclasses import dataclass

from millrace.agents.joins.attempt import JudgeAttempt, restart
from millrace.agents.joins.begin_decided import PlanTask, begin_decided
from millrace.agents.joins.briefs import brief_of
from millrace.agents.joins.proceed import Proceed, stage_due, still_working, stop, table_of
from millrace.agents.joins.state import Decision, JoinState, Member
from millrace.agents.respond import attempts_of, ended_by_attempt, ended_by_refusal
from millrace.agents.validation.verdict import InvalidOutput, ValidOutput
from millrace.schemas.call import Job, Plan, Undecided
from millrace.schemas.outcome import (
    AttemptOutcome,
    JoinOpened,
    JoinTimeout,
    OutcomeRecord,
    Refusal,
)
from millrace.schemas.record import Instant
from millrace.schemas.response import Response
from millrace.schemas.unchecked import unchecked

_state = unchecked(JoinState)
_UNHEARD = Member()


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Decides what each record about a request leads to."""

    judge: JudgeAttempt
    plan: PlanTask
    """Makes the plan of a request whose task had to be asked for."""

    def decide(self, state: JoinState | None, record: OutcomeRecord, offset: int) -> Decision:
        """Apply a record, read at `offset`, to the state its request is in."""
        if state is not None and (state.ended or offset <= state.applied):
            return Decision(None, ignored="the request has ended" if state.ended else "read again")
        match record:
            case Refusal():
                return _refuse(state, record, offset)
            case JoinOpened():
                return _announce(state, record, offset)
            case JoinTimeout():
                return self._timeout(state, record, offset)
            case AttemptOutcome():
                return self._attempt(state, record, offset)

    def _attempt(self, state: JoinState | None, outcome: AttemptOutcome, offset: int) -> Decision:
        call = outcome.call
        members = state.members if state is not None else {}
        member = members.get(call.member, _UNHEARD)
        if member.done or call.attempt <= member.decided:
            return Decision(None, ignored="the attempt was decided before")
        if outcome.status == "cancelled" and (
            len(call.plan.members) == 1 or outcome.cancelled != "member"
        ):
            stopped = state or _open(call.job, call.plan, offset)
            response = ended_by_attempt(
                outcome,
                others=attempts_of(members, without=call.member),
                cost_final=not stopped.unsettled
                and still_working(stopped, call.plan) == (call.member,),
            )
            return _end(offset, response, call.job.reply_to)
        if call.undecided is not None and outcome.status != "expired":
            return self._classified(call.undecided, outcome, offset)
        if call.plan.joined:
            opened = state or _open(call.job, call.plan, offset)
            return self._joined(opened, member, outcome, offset)
        return self._single(member, outcome, offset)

    def _classified(self, undecided: Undecided, outcome: AttemptOutcome, offset: int) -> Decision:
        """Begin the request as what a model says that it is, else as what the rules said."""
        call, steps = outcome.call, self.judge.steps
        checked = self.judge.check(outcome)
        if not isinstance(checked, ValidOutput):
            follow = self.judge.follow(outcome, checked, lambda: steps.classify(call.job))
            if follow is not None:
                members = {call.member: Member(decided=call.attempt)}
                waiting = JoinState(applied=offset, touched_at=outcome.finished_at, members=members)
                return Decision(waiting, calls=(follow,))
        return begin_decided(
            undecided, outcome, checked, planning=self.plan, steps=steps, offset=offset
        )

    def _single(self, member: Member, outcome: AttemptOutcome, offset: int) -> Decision:
        """Decide about the only member of a request, of which no more is kept than must be."""
        call = outcome.call
        checked = self.judge.check(outcome)
        if isinstance(checked, ValidOutput):
            return _end(offset, ended_by_attempt(outcome, valid=checked), call.job.reply_to)
        follow = self.judge.follow(outcome, checked)
        invalid = checked if isinstance(checked, InvalidOutput) else None
        if follow is None:
            response = ended_by_attempt(outcome, invalid=invalid, rejected=member.rejected)
            return _end(offset, response, call.job.reply_to)
        said = outcome.text if invalid is not None else ""
        if len(said.encode(errors="replace")) > self.judge.max_answers_bytes:
            said = ""
        waiting = JoinState(
            applied=offset,
            touched_at=outcome.finished_at,
            members={call.member: Member(decided=call.attempt, rejected=said or member.rejected)},
        )
        return Decision(waiting, calls=(follow,), restarted=restart(outcome))

    def _joined(
        self, state: JoinState, member: Member, outcome: AttemptOutcome, offset: int
    ) -> Decision:
        """Decide about a member of a request with several members or tiers."""
        call = outcome.call
        job, plan = call.job, call.plan
        state = state.model_copy(update={"applied": offset, "touched_at": outcome.finished_at})
        table = table_of(state, job, plan, outcome.finished_at)
        step = self.judge.step(
            member,
            outcome,
            kept_bytes=_kept_bytes(state),
            brief=lambda: brief_of(self.judge.steps, table, call.member),
        )
        state = state.with_member(call.member, step.member)
        if step.follow is not None:
            # Should time be up before the next outcome, what was paid for is listed.
            asked = step.member.model_copy(update={"attempts": step.follow.history})
            state = state.with_member(call.member, asked)
            return Decision(state, calls=(step.follow,), restarted=step.restarted)
        return self._proceed(state, job, plan, outcome.finished_at)

    def _timeout(self, state: JoinState | None, record: JoinTimeout, offset: int) -> Decision:
        if state is None or state.job is None or state.plan is None:
            return Decision(None, ignored="no join is open")
        job, plan = state.job, state.plan
        state = state.model_copy(update={"applied": offset, "touched_at": record.due})
        if record.due >= job.deadline:
            return self._proceed(state, job, plan, record.due)
        due = stage_due(state)
        if due is None or record.due < due:
            return Decision(None, ignored="the members of that stage are done")
        late = tuple(
            number for number in plan.stage_members(state.stage) if not state.member(number).done
        )
        for number in late:
            state = state.with_member(number, _timed_out(state.member(number)))
        state = state.model_copy(update={"unsettled": state.unsettled or bool(late)})
        decision = self._proceed(state, job, plan, record.due)
        return decision._replace(
            cancellation=stop(job, late, "it took longer than a member may", record.due)
        )

    def _proceed(self, state: JoinState, job: Job, plan: Plan, at: Instant) -> Decision:
        return Proceed(steps=self.judge.steps, judge=self.judge).proceed(state, job, plan, at)


def open_until(state: JoinState) -> Instant | None:
    """When the clock has to say that time is up; None when there is nothing to end."""
    if state.job is None or state.ended:
        return None
    due = stage_due(state)
    return state.job.deadline if due is None else min(due, state.job.deadline)


def _kept_bytes(state: JoinState) -> int:
    """How much the answers take up that are kept of a request."""
    texts = [
        text
        for member in state.members.values()
        for text in (
            member.rejected,
            member.answer.text if member.answer else "",
            member.awaiting.text if member.awaiting else "",
        )
    ]
    return sum(len(text.encode(errors="surrogatepass")) for text in texts)


def _timed_out(member: Member) -> Member:
    """A member that is not waited for any more; one of a cascade may have given an answer."""
    answer = member.awaiting or member.answer
    return member.model_copy(
        update={
            "done": True,
            "answer": answer,
            "awaiting": None,
            "without": "timed_out" if answer is None else None,
        }
    )


def _open(job: Job, plan: Plan, offset: int) -> JoinState:
    return JoinState(applied=offset, touched_at=job.accepted_at, job=job, plan=plan)


def _end(offset: int, response: Response, reply_to: str | None) -> Decision:
    ended = _state(applied=offset, ended=True, touched_at=response.completed_at)
    return Decision(ended, response=response, reply_to=reply_to)


def _announce(state: JoinState | None, opened: JoinOpened, offset: int) -> Decision:
    if state is not None and (state.announced or state.stage > 0):
        return Decision(None, ignored="the join is open already")
    # A member may have been quicker than the announcement, and its outcome opened the join.
    known = state or _open(opened.job, opened.plan, offset)
    announced = {"applied": offset, "announced": True, "stage_since": opened.opened_at}
    return Decision(known.model_copy(update=announced))


def _refuse(state: JoinState | None, refusal: Refusal, offset: int) -> Decision:
    """End a request that never came to a call.

    A rejected one was not accepted, so its id is not remembered: it may be sent again, mended.
    """
    response = ended_by_refusal(refusal)
    if refusal.status == "expired":
        return _end(offset, response, refusal.reply_to)
    if state is not None:
        return Decision(None, ignored="a request of that id is being worked on")
    return Decision(None, response=response, reply_to=refusal.reply_to)
