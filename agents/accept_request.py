"""Turns what a service asks into a job: rendered, bounded, checked."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from millrace.agents.classify_task import TaskGuess, classify_task
from millrace.agents.json_schema import compile_schema
from millrace.agents.policy import RequestPolicy
from millrace.agents.validation.rules import check_rules
from millrace.agents.validation.validators import BUILT_IN
from millrace.prompts.library import PromptLibrary
from millrace.schemas.call import Job, PromptRef
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.message import Message
from millrace.schemas.request import OutputSpec, Request
from millrace.schemas.unchecked import unchecked
from millrace.schemas.vocabulary import TaskType

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""As good as any deadline before it: they have all passed."""

# What a request says has been checked when it was read.
_job, _message = unchecked(Job), unchecked(Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptRequest:
    """Accepts requests under the operator's policy."""

    library: PromptLibrary
    policy: RequestPolicy
    own_topics: tuple[str, ...]
    """Patterns of the pipeline's own topics, which no reply may go to."""
    validators: Collection[str] = frozenset(BUILT_IN)
    """Names that a request's `output.validators` may hold."""

    def guess_task(self, request: Request) -> TaskGuess | None:
        """Guess what kind of work a request is; None where it or its template says so."""
        if request.task is not None or request.template is not None:
            return None
        return None if request.inputs else classify_task(_given_messages(request))

    def accept(
        self,
        request: Request,
        *,
        request_id: str,
        accepted_at: datetime,
        guess: TaskGuess | None = None,
    ) -> Job:
        """Make the job of a request; the same request always makes the same job.

        `guess` is what `guess_task` said, for who has asked it already. A deadline that has passed
        already is kept: whoever routes the job decides that it has expired. What the template
        says of task and output holds where the request says nothing. A replayed request never
        gets a `reply_to`.

        Raises:
            PromptError: The template does not exist or does not fit its variables.
            InvalidEventError: `reply_to` is not allowed, the rendered messages are too large,
                or the output's schema, rules or validators cannot be used.
        """
        self.check_reply_to(request.reply_to)
        prepared = self._prepare(request, guess or self.guess_task(request))
        self._check_output(prepared.output)
        return _job(
            request_id=request_id,
            task=prepared.task,
            team=request.team,
            budget_key=request.budget_key or request.team,
            conversation_id=request.conversation_id,
            lane=self.policy.lane(request, prepared.task),
            messages=prepared.messages,
            inputs=request.inputs or (),
            dimensions=request.dimensions,
            tools=request.tools,
            parameters=request.parameters,
            output=prepared.output,
            stream=request.stream,
            reply_to=request.reply_to if request.replay is None else None,
            tags=request.tags,
            prompt=prepared.prompt,
            replay=request.replay,
            sensitivity=request.route.sensitivity,
            accepted_at=accepted_at,
            deadline=self._deadline(request.deadline, accepted_at),
        )

    def _check_output(self, output: OutputSpec) -> None:
        if output.json_schema is not None:
            compile_schema(output.json_schema)
        check_rules(output.rules)
        unknown = [name for name in output.validators if name not in self.validators]
        if unknown:
            raise InvalidEventError(
                f"output.validators names {', '.join(map(repr, unknown))}, which there are not; "
                f"there are {', '.join(sorted(self.validators))}"
            )

    def _prepare(self, request: Request, guess: TaskGuess | None) -> "_Prepared":
        if request.template is not None:
            return self._render(request, request.template, request.variables)
        return _Prepared(
            messages=_given_messages(request),
            task=request.task or (guess.task if guess is not None else "general"),
            output=request.output,
            prompt=None,
        )

    def _render(self, request: Request, template: str, variables: Mapping[str, Any]) -> "_Prepared":
        rendered = self.library.render(template, variables)
        size = sum(len(message.text().encode()) for message in rendered.messages)
        if size > self.policy.max_request_bytes:
            raise InvalidEventError(
                f"template {template!r} makes messages of {size} bytes with these variables, "
                f"more than {self.policy.max_request_bytes}: send less",
                code="too_large",
            )
        given = request.model_fields_set
        return _Prepared(
            messages=rendered.messages,
            task=request.task or rendered.task,
            output=request.output if "output" in given else rendered.output or request.output,
            prompt=rendered.ref,
        )

    def check_reply_to(self, topic: str | None) -> None:
        """Accept None and the topics that the policy allows.

        Raises:
            InvalidEventError: Replies may not go there.
        """
        if topic is None:
            return
        if topic.startswith("__") or _matches(topic, self.own_topics):
            raise InvalidEventError(
                f"reply_to {topic!r} is a topic of the pipeline or the broker itself",
                code="reply_to_not_allowed",
            )
        if topic in {".", ".."} or not _matches(topic, self.policy.reply_to):
            allowed = ", ".join(map(repr, self.policy.reply_to)) or "none"
            raise InvalidEventError(
                f"reply_to {topic!r} is not allowed; allowed: {allowed} (requests.reply_to)",
                code="reply_to_not_allowed",
            )

    def _deadline(self, asked: datetime | None, accepted_at: datetime) -> datetime:
        latest = accepted_at + timedelta(seconds=self.policy.max_deadline_seconds)
        if asked is None:
            return accepted_at + timedelta(seconds=self.policy.default_deadline_seconds)
        # Compared first: the edges of the calendar may lie beyond it in another time zone.
        if asked >= latest:
            return latest
        return _EARLIEST if asked <= _EARLIEST else asked.astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    messages: tuple[Message, ...]
    task: TaskType
    output: OutputSpec
    prompt: PromptRef | None


def _given_messages(request: Request) -> tuple[Message, ...]:
    if request.inputs:
        return ()
    return request.messages or (_message(role="user", content=request.prompt or ""),)


def _matches(topic: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(topic, pattern) for pattern in patterns)
