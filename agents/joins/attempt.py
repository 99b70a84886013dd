"""What an attempt's outcome means for its member."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from millrace.agents.check_embeddings import check_embeddings
from millrace.agents.joins import reading
from millrace.agents.joins.cascade import assess, better, climbs, needs_rating, next_tier
from millrace.agents.joins.next_attempt import NextAttempt
from millrace.agents.joins.state import Answer, Member, Stream
from millrace.agents.joins.steps import Steps
from millrace.agents.validation.verdict import InvalidOutput, ValidOutput
from millrace.schemas.call import Brief, Call
from millrace.schemas.chunk import Chunk
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.outcome import AttemptOutcome
from millrace.schemas.request import OutputSpec
from millrace.schemas.response import Quality
from millrace.schemas.vocabulary import FinishReason, MemberRole, TaskType

_OF_THE_JOB: frozenset[MemberRole] = frozenset({"answer", "refine", "merge", "combine"})
"""Whose answer is one to the job, to which the rules of its task apply."""


class Validate(Protocol):
    """Checks an answer against what was asked; must be deterministic."""

    def __call__(
        self,
        output: OutputSpec,
        text: str,
        finish_reason: FinishReason | None,
        *,
        tool_calls: int,
        task: TaskType | None,
    ) -> ValidOutput | InvalidOutput:
        """Accept the answer, or say what is wrong with it; no `task`, no rules of a task."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """What became of a member, and what it does next."""

    member: Member
    follow: Call | None = None
    restarted: Chunk | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeAttempt:
    """Judges the outcomes of one member's attempts.

    `max_answers_bytes` bounds the answers that are kept of one request: they lie in a table's
    changelog, whose records are bounded. `max_call_bytes` bounds a call that quotes answers.
    """

    validate: Validate
    next_attempt: NextAttempt
    steps: Steps
    max_answers_bytes: int
    max_call_bytes: int

    def check(self, outcome: AttemptOutcome) -> ValidOutput | InvalidOutput | ErrorInfo:
        """Validate an answer; the error where there is none."""
        if outcome.status != "completed":
            return outcome.error or ErrorInfo(code="internal_error", message="failed unexplained")
        call = outcome.call
        if call.inputs:
            return check_embeddings(call, outcome.embeddings)
        if outcome.refusal and not outcome.text and not outcome.tool_calls:
            declined = "the model declined to answer"
            return InvalidOutput(ErrorInfo(code="content_filtered", message=declined))
        return self.validate(
            call.output,
            outcome.text,
            outcome.finish_reason,
            tool_calls=len(outcome.tool_calls),
            task=call.job.task if call.role in _OF_THE_JOB else None,
        )

    def follow(
        self,
        outcome: AttemptOutcome,
        checked: InvalidOutput | ErrorInfo,
        brief: Callable[[], Brief | None] = lambda: None,
    ) -> Call | None:
        """The call after one without a valid answer; None when that was the last."""
        after = self.next_attempt
        if isinstance(checked, ErrorInfo):
            return after.after_failure(outcome, brief)
        call = after.after_invalid(outcome, checked, brief)
        if call is not None and not self.fits(call):
            call = after.after_failure(outcome, brief, invalid=checked)
        return call

    def fits(self, call: Call) -> bool:
        """Whether a call with a brief is small enough for its topic."""
        return call.brief is None or len(call.encode()) <= self.max_call_bytes

    def step(
        self,
        member: Member,
        outcome: AttemptOutcome,
        *,
        kept_bytes: int,
        brief: Callable[[], Brief | None],
    ) -> Step:
        """Take an outcome of a member of a join; `kept_bytes` is what answers take up so far."""
        call = outcome.call
        member = member.model_copy(update={"decided": call.attempt})
        if outcome.status == "cancelled":
            return Step(_gone(member, outcome, None))
        checked = self.check(outcome)
        if call.role == "rate":
            rated = reading.confidence(checked.data) if isinstance(checked, ValidOutput) else None
            return self._rated(member, outcome, rated)
        if isinstance(checked, ValidOutput):
            size = len(checked.text.encode(errors="surrogatepass"))
            size += sum(len(each.arguments) for each in outcome.tool_calls)
            if kept_bytes + size <= self.max_answers_bytes:
                return self._valid(member, outcome, _answer(outcome, checked))
            checked = _too_large(size, self.max_answers_bytes)
        follow = self.follow(outcome, checked, brief)
        error = checked.error if isinstance(checked, InvalidOutput) else checked
        if isinstance(checked, InvalidOutput):
            room = self.max_answers_bytes - kept_bytes
            text = outcome.text if len(outcome.text.encode(errors="replace")) <= room else ""
            member = member.model_copy(update={"rejected": text})
        if follow is None:
            return Step(_gone(member, outcome, error))
        return Step(member, follow, restart(outcome))

    def _valid(self, member: Member, outcome: AttemptOutcome, answer: Answer) -> Step:
        call = outcome.call
        if not climbs(call.plan):
            return Step(_done(member, outcome, answer=answer))
        if needs_rating(call) and outcome.finished_at < call.job.deadline:
            rate = call.following(candidate=call.candidate, failed=outcome.summary()).asking(
                self.steps.rate(call.job, answer)
            )
            if self.fits(rate):
                return Step(member.model_copy(update={"awaiting": answer}), rate)
        rule = call.plan.cascade
        by_tokens = rule is not None and rule.confidence == "logprobs"
        sure = outcome.token_probability if by_tokens else answer.quality.score
        return self._assessed(member, outcome, answer, sure)

    def _rated(self, member: Member, outcome: AttemptOutcome, rated: float | None) -> Step:
        answer = member.awaiting
        if answer is None:
            return Step(_gone(member, outcome, None))
        member = member.model_copy(update={"awaiting": None})
        return self._assessed(member, outcome, answer, rated)

    def _assessed(
        self, member: Member, outcome: AttemptOutcome, answer: Answer, sure: float | None
    ) -> Step:
        """Take a tier's answer, or keep it to fall back on and climb."""
        call = outcome.call
        result = assess(call, answer, sure)
        kept = answer if result.sufficed else better(member, answer, result)
        member = member.model_copy(
            update={"answer": kept, "tiers": (*member.tiers, result), "rejected": ""}
        )
        higher = next_tier(call)
        if result.sufficed or higher is None or outcome.finished_at >= call.job.deadline:
            return Step(_done(member, outcome, answer=kept))
        follow = call.following(candidate=higher, failed=outcome.summary()).asking(None)
        return Step(member, follow, _void(answer.stream, outcome))


def restart(outcome: AttemptOutcome) -> Chunk | None:
    """Says of an answer's stream that another attempt follows, if its end did not say so."""
    if outcome.status != "completed":
        return None
    return _void(_stream(outcome), outcome)


def _void(stream: Stream | None, outcome: AttemptOutcome) -> Chunk | None:
    if stream is None:
        return None
    return Chunk(
        request_id=outcome.request_id,
        member=outcome.call.member,
        attempt=stream.attempt,
        invocation=stream.invocation,
        sequence=stream.chunks,
        provider=stream.provider,
        model=stream.model,
        end="restarted",
    )


def _stream(outcome: AttemptOutcome) -> Stream | None:
    call = outcome.call
    if not outcome.chunks:
        return None
    return Stream(
        attempt=call.attempt,
        invocation=outcome.invocation,
        provider=call.target.provider,
        model=call.target.model,
        chunks=outcome.chunks,
    )


def _answer(outcome: AttemptOutcome, valid: ValidOutput) -> Answer:
    target = outcome.call.target
    return Answer(
        text=valid.text,
        data=valid.data,
        tool_calls=outcome.tool_calls,
        vectors=outcome.embeddings,
        finish_reason=outcome.finish_reason,
        timing=outcome.timing,
        quality=Quality(score=valid.score, parts=dict(valid.parts), notes=valid.notes),
        provider=target.provider,
        model=target.model,
        tier=target.tier,
        stream=_stream(outcome),
    )


def _done(member: Member, outcome: AttemptOutcome, *, answer: Answer) -> Member:
    # Those before it may have had no outcome: the same model was asked again.
    attempts = (*outcome.call.history, outcome.summary())
    return member.model_copy(update={"done": True, "answer": answer, "attempts": attempts})


def _gone(member: Member, outcome: AttemptOutcome, error: ErrorInfo | None) -> Member:
    """A member that gives no further answer; one of a cascade may have given one before."""
    without = "cancelled" if outcome.status == "cancelled" else "failed"
    return member.model_copy(
        update={
            "done": True,
            "answer": member.awaiting or member.answer,
            "awaiting": None,
            "without": None if member.answer or member.awaiting else without,
            "attempts": (*outcome.call.history, outcome.summary(error)),
        }
    )


def _too_large(size: int, limit: int) -> InvalidOutput:
    message = (
        f"the answer has {size} bytes; with those of the other members these are more than {limit} "
        "(validator.max_answers_bytes): ask for shorter answers, or for fewer members"
    )
    return InvalidOutput(ErrorInfo(code="too_large", message=message))
