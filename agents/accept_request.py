"""Turns what a service asks into a job: rendered, bounded, checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from millrace.agents.json_schema import compile_schema
from millrace.agents.policy import RequestPolicy
from millrace.prompts.library import PromptLibrary
from millrace.schemas.call import Job, PromptRef
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.message import Message
from millrace.schemas.request import OutputSpec, Request
from millrace.schemas.vocabulary import TaskType


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptRequest:
    """Accepts requests under the operator's policy."""

    library: PromptLibrary
    policy: RequestPolicy
    own_topics: tuple[str, ...]
    """Patterns of the pipeline's own topics, which no reply may go to."""

    def accept(self, request: Request, *, request_id: str, accepted_at: datetime) -> Job:
        """Make the job of a request; the same request always makes the same job.

        A deadline that has passed already is kept: whoever routes the job decides that it has
        expired. What the template says of task and output holds where the request says nothing.
        A replayed request never gets a `reply_to`.

        Raises:
            PromptError: The template does not exist or does not fit its variables.
            InvalidEventError: `reply_to` is not allowed, the rendered messages are too large,
                or the output schema cannot be used.
        """
        self.check_reply_to(request.reply_to)
        prepared = self._prepare(request)
        if prepared.output.json_schema is not None:
            compile_schema(prepared.output.json_schema)
        return Job(
            request_id=request_id,
            task=prepared.task,
            team=request.team,
            budget_key=request.budget_key or request.team,
            conversation_id=request.conversation_id,
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

    def _prepare(self, request: Request) -> "_Prepared":
        if request.template is not None:
            return self._render(request, request.template, request.variables)
        if request.inputs is not None:
            return _Prepared(messages=(), task=request.task, output=request.output, prompt=None)
        messages = request.messages or (Message(role="user", content=request.prompt or ""),)
        return _Prepared(messages=messages, task=request.task, output=request.output, prompt=None)

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
            task=request.task if "task" in given else rendered.task,
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
        return min(asked, latest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    messages: tuple[Message, ...]
    task: TaskType
    output: OutputSpec
    prompt: PromptRef | None


def _matches(topic: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(topic, pattern) for pattern in patterns)
