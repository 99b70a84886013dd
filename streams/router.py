"""From a request on the topic to its first calls, or to a refusal."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from pydantic import ValidationError

from millrace.agents.accept_request import AcceptRequest
from millrace.agents.ask_task import AskTask
from millrace.agents.classify_task import TaskGuess
from millrace.agents.joins.briefs import opening_brief
from millrace.agents.joins.steps import Steps
from millrace.agents.plan_route import PlanRoute
from millrace.schemas.call import Call, Job, Plan
from millrace.schemas.errors import InvalidEventError, PipelineError
from millrace.schemas.outcome import JoinOpened, Refusal
from millrace.schemas.record import TRACE_HEADER, Headers, Record, canonical_json, describe
from millrace.schemas.request import Request, as_replay, as_task, is_request_id
from millrace.schemas.unchecked import unchecked
from millrace.streams.budget_gate import BudgetGate
from millrace.streams.dead_letters import Clock, RawRecord, SetAside
from millrace.streams.ordered_acks import StateWrite
from millrace.streams.publisher import Publisher
from millrace.streams.reply_topics import ReplyTopics
from millrace.streams.routing_key import origin_of, partition_of, was_moved
from millrace.streams.state_table import StateTable
from millrace.streams.stream_app import Outputs
from millrace.streams.topics import TopicNames

_call = unchecked(Call)

_TRACE = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Router:
    """Processes `llm.requests`.

    A request is worked on at the partition of its key, because that is where its id is
    remembered: one that lies elsewhere is moved there first, with its origin in a header. The same
    content under a known id is a duplicate, counted and dropped; other content under a known id
    is a dead letter, and no second terminal record. A bad request is a dead letter, and, where an
    id can be read that is not in use, also ends as `rejected`.
    """

    accept: AcceptRequest
    plan: PlanRoute
    ask_task: AskTask
    gate: BudgetGate
    steps: Steps
    publisher: Publisher
    topics: TopicNames
    partitions: int
    seen: StateTable
    reply_topics: ReplyTopics
    set_aside: SetAside
    max_request_bytes: int
    clock: Clock

    async def process(self, source: RawRecord, outputs: Outputs) -> None:
        """Decide about one record.

        Raises:
            PipelineError: The record is bad and nobody can be told but the operator.
        """
        body = _parse(source)
        origin = origin_of(source)
        readable_id = _readable_id(body)
        key = _routing_key(body, readable_id)
        misplaced = key is not None and partition_of(key, self.partitions) != source.partition
        if misplaced and not was_moved(source):
            # A name that cannot be written as it was means nothing here; the original has it.
            headers = [(str(name), value) for name, value in source.headers]
            headers.append(origin.header())
            outputs.deliveries.append(
                await self.publisher.publish_bytes(
                    source.topic, source.value, key=key, headers=headers
                )
            )
            return
        request_id = readable_id or origin.request_id()
        try:
            digest = _digest(body)
        except InvalidEventError as error:
            if self.seen.get(request_id.encode()) is not None:
                raise
            await self._reject(source, body, request_id, error, outputs)
            return
        if self._known(request_id, digest, source, outputs):
            return
        try:
            request = self._request(body, source)
            guess = self.accept.guess_task(request)
            job = self.accept.accept(
                request, request_id=request_id, accepted_at=origin.timestamp, guess=guess
            )
            outputs.trace = _trace(source)
            if outputs.trace:
                job = job.model_copy(update={"traceparent": outputs.trace[0][1].decode()})
            await self.reply_topics.require(job.reply_to)
            plan = None
            if self.clock() < job.deadline:
                plan = self.plan.plan(job, request.route, guess)
        except PipelineError as error:
            if error.code == "broker_error":
                raise
            await self._reject(source, body, request_id, error, outputs)
            return
        asking = self._asking(job, plan, request, guess)
        if asking is not None:
            await self._call(asking, outputs)
        else:
            await self._send_on(job, plan, request, outputs)
        stored = self.seen.set(
            request_id.encode(),
            partition=source.partition,
            touched=source.timestamp.timestamp(),
            payload=[digest, source.offset],
        )
        outputs.states.append(StateWrite(self.seen, request_id.encode(), stored))

    def _known(self, request_id: str, digest: str, source: RawRecord, outputs: Outputs) -> bool:
        """Whether the id has been accepted before; raises when with other content."""
        before = self.seen.get(request_id.encode())
        if before is None:
            return False
        touched, payload = before
        known_digest, offset = payload
        if offset == source.offset:
            # Read again after a rebalance: what followed is on its way, the state may not be.
            stored = self.seen.set(
                request_id.encode(),
                partition=source.partition,
                touched=touched,
                payload=payload,
            )
            outputs.states.append(StateWrite(self.seen, request_id.encode(), stored))
            return True
        if known_digest == digest:
            outputs.duplicates += 1
            log.info("request.duplicate", request_id=request_id)
            return True
        raise InvalidEventError(
            f"request_id {request_id!r} was used before with other content; give each request an "
            "id of its own",
            code="request_id_conflict",
        )

    def _request(self, body: dict[str, Any], source: RawRecord) -> Request:
        size = len(source.value or b"")
        if size > self.max_request_bytes:
            raise InvalidEventError(
                f"the request has {size} bytes; at most {self.max_request_bytes} are taken "
                "(requests.max_request_bytes)",
                code="too_large",
            )
        try:
            return Request.model_validate(body)
        except ValidationError as error:
            raise InvalidEventError(
                f"not a valid request: {describe(error)}", code="invalid_request"
            ) from error

    async def _send_on(
        self, job: Job, plan: Plan | None, request: Request, outputs: Outputs
    ) -> None:
        if plan is None:
            refusal = Refusal(
                request_id=job.request_id,
                status="expired",
                error=PipelineError(
                    "the deadline of the request had passed before it could be routed",
                    code="deadline_exceeded",
                ).info(),
                task=job.task,
                team=job.team,
                strategy=request.route.strategy,
                reply_to=job.reply_to,
                tags=job.tags,
                replay=job.replay,
                refused_at=self.clock(),
            )
            await self._publish(self.topics.outcomes, refusal, job.request_id, outputs)
            return
        if plan.joined:
            opened = JoinOpened(job=job, plan=plan, opened_at=self.clock())
            await self._publish(self.topics.outcomes, opened, job.request_id, outputs)
        for member in plan.stage_members(0):
            brief = opening_brief(self.steps, job, plan, member)
            await self._call(_call(job=job, plan=plan, member=member, brief=brief), outputs)

    def _asking(
        self, job: Job, plan: Plan | None, request: Request, guess: TaskGuess | None
    ) -> Call | None:
        return None if plan is None else self.ask_task.call(job, request.route, guess, plan)

    async def _call(self, call: Call, outputs: Outputs) -> None:
        topic, record, key = self.gate.topic_and_record(call)
        await self._publish(topic, record, key, outputs)

    async def _reject(
        self,
        source: RawRecord,
        body: dict[str, Any],
        request_id: str,
        error: PipelineError,
        outputs: Outputs,
    ) -> None:
        outputs.deliveries.append(await self.set_aside(source, error, request_id=request_id))
        team = body.get("team")
        refusal = Refusal(
            request_id=request_id,
            status="rejected",
            error=error.info(),
            task=as_task(body.get("task")),
            team=team if isinstance(team, str) else None,
            reply_to=await self._usable_reply_to(body.get("reply_to")),
            replay=as_replay(body.get("replay")),
            refused_at=self.clock(),
        )
        await self._publish(self.topics.outcomes, refusal, request_id, outputs)

    async def _usable_reply_to(self, value: Any) -> str | None:
        """Where to tell the requester, if what it named may and can be written to."""
        if not isinstance(value, str):
            return None
        try:
            self.accept.check_reply_to(value)
            await self.reply_topics.require(value)
        except InvalidEventError:
            return None
        return value

    async def _publish(self, topic: str, record: Record, key: str, outputs: Outputs) -> None:
        outputs.deliveries.append(
            await self.publisher.publish(topic, record, key=key, headers=outputs.trace)
        )


def _parse(source: RawRecord) -> dict[str, Any]:
    if source.value is None:
        raise InvalidEventError(
            "a request must have a value; this is a tombstone", code="tombstone"
        )
    try:
        body = orjson.loads(source.value)
    except orjson.JSONDecodeError as error:
        try:
            source.value.decode("utf-8")
        except UnicodeDecodeError as broken:
            raise InvalidEventError(
                f"a request must be UTF-8; byte {broken.start} is not", code="invalid_encoding"
            ) from broken
        raise InvalidEventError(
            f"a request must be JSON: line {error.lineno}, column {error.colno}: {error.msg}",
            code="invalid_json",
        ) from error
    if not isinstance(body, dict):
        raise InvalidEventError(
            f"a request must be a JSON object, not {type(body).__name__}", code="invalid_request"
        )
    return body


def _digest(body: dict[str, Any]) -> str:
    """What tells requests of one id apart. How an answer is delivered is not what is asked."""
    content = {name: value for name, value in body.items() if name != "stream"}
    try:
        canonical = canonical_json(content)
    except TypeError as error:
        # orjson reads 1,024 levels and writes 254.
        raise InvalidEventError(
            "the request is nested too deeply; at most 254 levels are taken", code="invalid_request"
        ) from error
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()


def _trace(source: RawRecord) -> Headers:
    """The requester's trace, if its header is one (W3C Trace Context: ASCII, 55 characters)."""
    for name, value in source.headers:
        if name == TRACE_HEADER and value is not None and _TRACE.fullmatch(value):
            return ((name, value),)
    return ()


def _readable_id(body: dict[str, Any]) -> str | None:
    value = body.get("request_id")
    return value if isinstance(value, str) and is_request_id(value) else None


def _routing_key(body: dict[str, Any], readable_id: str | None) -> bytes | None:
    conversation = body.get("conversation_id")
    key = conversation if isinstance(conversation, str) and conversation else readable_id
    return key.encode() if key else None
