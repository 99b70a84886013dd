"""How a request ends: a deterministic state machine over the records about it.

Given the same records in the same order it decides the same, so that a partition read again
after a crash ends each request as before. It looks at no clock: every time it uses stands in a
record. It keeps a state only for requests that need one, and remembers those that ended.

The first record that ends a request wins. An attempt is decided once: a second outcome of it
(its call was read again after a crash, made again and paid again) changes nothing here; the
ledger has its own row for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import Field

from millrace.agents.check_embeddings import check_embeddings
from millrace.agents.respond import (
    ended_by_attempt,
    ended_by_refusal,
    ended_by_vote,
    ended_without_quorum,
)
from millrace.agents.validate_output import InvalidOutput, ValidOutput
from millrace.schemas.call import AttemptSummary, Call, Job, Plan
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.message import ToolCall
from millrace.schemas.outcome import (
    AttemptOutcome,
    JoinOpened,
    JoinTimeout,
    OutcomeRecord,
    Refusal,
)
from millrace.schemas.record import Frozen, Instant
from millrace.schemas.request import OutputSpec
from millrace.schemas.response import Response
from millrace.schemas.usage import Timing
from millrace.schemas.vocabulary import FinishReason


class Answer(Frozen):
    """A member's valid answer."""

    text: str
    data: Any = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    timing: Timing = Timing()


class Member(Frozen):
    """What is known of one member."""

    decided: int = 0
    """The last attempt that was decided; 0 before any."""
    done: bool = False
    answer: Answer | None = None
    attempts: tuple[AttemptSummary, ...] = ()


class JoinState(Frozen):
    """What is known of one request."""

    applied: int
    """Offset of the last record that changed this state."""
    ended: bool = False
    touched_at: Instant
    members: dict[int, Member] = Field(default_factory=dict)
    job: Job | None = None
    """Kept for ensembles that are open."""
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a record: the state to keep, and what to send."""

    state: JoinState | None
    """None: the record changed nothing."""
    calls: tuple[Call, ...] = ()
    response: Response | None = None
    reply_to: str | None = None
    ignored: str | None = None
    """Why nothing follows, for the log."""


class Validate(Protocol):
    """Checks an answer against what was asked; must be deterministic."""

    def __call__(
        self, output: OutputSpec, text: str, finish_reason: FinishReason | None, *, tool_calls: int
    ) -> ValidOutput | InvalidOutput:
        """Accept the answer, or say what is wrong with it."""
        ...


class Ballot(Protocol):
    """How a vote came out."""

    @property
    def winner(self) -> int:
        """The member whose words stand for the winning answer."""
        ...

    @property
    def agreeing(self) -> Sequence[int]:
        """The members that gave it."""
        ...

    @property
    def dissenting(self) -> Sequence[int]:
        """The members that gave another."""
        ...


Vote = Callable[..., Ballot]


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Decides what each record about a request leads to."""

    validate: Validate
    vote: Vote

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
        member = members.get(call.member, Member())
        if member.done or call.attempt <= member.decided:
            return Decision(None, ignored="the attempt was decided before")
        if outcome.status == "cancelled":
            others = _attempts_of(members, without=call.member)
            response = ended_by_attempt(outcome, others=others)
            return _end(offset, response, call.job.reply_to)
        checked = self._check(outcome)
        if len(call.plan.members) > 1:
            return self._member(
                state or _open(call.job, call.plan, offset), outcome, checked, offset
            )
        if isinstance(checked, ValidOutput):
            response = ended_by_attempt(outcome, valid=checked)
            return _end(offset, response, call.job.reply_to)
        follow = _next_call(outcome, checked)
        if follow is None:
            response = ended_by_attempt(outcome, invalid=checked)
            return _end(offset, response, call.job.reply_to)
        waiting = JoinState(
            applied=offset,
            touched_at=outcome.finished_at,
            members={call.member: Member(decided=call.attempt)},
        )
        return Decision(waiting, calls=(follow,))

    def _check(self, outcome: AttemptOutcome) -> ValidOutput | ErrorInfo:
        if outcome.status != "completed":
            return outcome.error or ErrorInfo(code="internal_error", message="failed unexplained")
        if outcome.call.job.inputs:
            return check_embeddings(outcome.call.job, outcome.embeddings)
        if outcome.refusal and not outcome.text and not outcome.tool_calls:
            return ErrorInfo(code="content_filtered", message="the model declined to answer")
        checked = self.validate(
            outcome.call.job.output,
            outcome.text,
            outcome.finish_reason,
            tool_calls=len(outcome.tool_calls),
        )
        return checked if isinstance(checked, ValidOutput) else checked.error

    def _member(
        self,
        state: JoinState,
        outcome: AttemptOutcome,
        checked: ValidOutput | ErrorInfo,
        offset: int,
    ) -> Decision:
        call = outcome.call
        follow = None if isinstance(checked, ValidOutput) else _next_call(outcome, checked)
        error = None if isinstance(checked, ValidOutput) else checked
        member = Member(
            decided=call.attempt,
            done=follow is None,
            answer=_answer(outcome, checked) if isinstance(checked, ValidOutput) else None,
            # Those before it may have had no outcome: the same model was asked again.
            attempts=(*call.history, outcome.summary(error)),
        )
        open_state = state.model_copy(
            update={
                "applied": offset,
                "touched_at": outcome.finished_at,
                "members": {**state.members, call.member: member},
            }
        )
        if follow is not None:
            return Decision(open_state, calls=(follow,))
        done = sum(each.done for each in open_state.members.values())
        if done < len(call.plan.members):
            return Decision(open_state)
        return self._conclude(open_state, offset, outcome.finished_at)

    def _timeout(self, state: JoinState | None, record: JoinTimeout, offset: int) -> Decision:
        if state is None or state.plan is None:
            return Decision(None, ignored="no join is open")
        return self._conclude(state, offset, record.due)

    def _conclude(self, state: JoinState, offset: int, at: Instant) -> Decision:
        """End an ensemble with what its members have given."""
        job, plan = state.job, state.plan
        if job is None or plan is None:
            raise RuntimeError("only an open join can be concluded")
        answers = {
            number: member.answer
            for number, member in sorted(state.members.items())
            if member.answer is not None
        }
        attempts = _attempts_of(state.members)
        if not answers or len(answers) < plan.quorum:
            response = ended_without_quorum(job, plan, answers.keys(), attempts, at)
        else:
            ballot = self.vote(
                {number: answer.text for number, answer in answers.items()},
                data={number: _comparable(answer) for number, answer in answers.items()},
            )
            response = ended_by_vote(job, plan, answers, ballot, attempts=attempts, at=at)
        return _end(offset, response, job.reply_to)


def open_until(state: JoinState) -> Instant | None:
    """When the clock has to end the join; None when there is nothing to end."""
    return state.job.deadline if state.job is not None and not state.ended else None


def _attempts_of(
    members: Mapping[int, Member], *, without: int | None = None
) -> tuple[AttemptSummary, ...]:
    return tuple(
        attempt
        for number, member in sorted(members.items())
        if number != without
        for attempt in member.attempts
    )


def _open(job: Job, plan: Plan, offset: int) -> JoinState:
    return JoinState(applied=offset, touched_at=job.accepted_at, job=job, plan=plan)


def _end(offset: int, response: Response, reply_to: str | None) -> Decision:
    ended = JoinState(applied=offset, ended=True, touched_at=response.completed_at)
    return Decision(ended, response=response, reply_to=reply_to)


def _announce(state: JoinState | None, opened: JoinOpened, offset: int) -> Decision:
    if state is not None:
        # A member was quicker than the announcement, and its outcome opened the join.
        return Decision(None, ignored="the join is open already")
    return Decision(_open(opened.job, opened.plan, offset))


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


def _answer(outcome: AttemptOutcome, valid: ValidOutput) -> Answer:
    return Answer(
        text=valid.text,
        data=valid.data,
        tool_calls=outcome.tool_calls,
        finish_reason=outcome.finish_reason,
        timing=outcome.timing,
    )


def _comparable(answer: Answer) -> Any:
    """What a vote compares where it is not the text: parsed JSON, or the tools to be called."""
    if answer.data is None and answer.tool_calls:
        return [[call.name, call.arguments] for call in answer.tool_calls]
    return answer.data


def _next_call(outcome: AttemptOutcome, error: ErrorInfo) -> Call | None:
    """The call to the next candidate, unless time is up or there is none."""
    call = outcome.call
    if outcome.status == "expired" or outcome.finished_at >= call.job.deadline:
        return None
    candidate = call.next_candidate
    if candidate is None:
        return None
    return call.following(candidate=candidate, failed=outcome.summary(error))
