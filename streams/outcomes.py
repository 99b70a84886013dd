"""From what became of attempts to the one end of each request: validator and aggregator."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from millrace.agents.join import Join, open_until
from millrace.agents.joins.state import Decision, JoinState
from millrace.schemas.errors import BrokerError
from millrace.schemas.outcome import decode_outcome
from millrace.schemas.record import TRACE_HEADER, Headers
from millrace.schemas.response import Response
from millrace.streams.budget_gate import BudgetGate
from millrace.streams.dead_letters import RawRecord, SetAside
from millrace.streams.join_clock import JoinClock
from millrace.streams.ordered_acks import StateWrite
from millrace.streams.publisher import Publisher
from millrace.streams.state_table import StateTable
from millrace.streams.stream_app import Outputs
from millrace.streams.tally import Tally
from millrace.streams.topics import TopicNames

log = structlog.get_logger(__name__)

REPLY_SECONDS = 20.0
"""How long a copy for a `reply_to` topic may take; then it is set aside, and work goes on."""


@dataclass(slots=True, kw_only=True)
class OutcomesProcessor:
    """Processes `llm.outcomes`: decides by `Join`, sends what follows, keeps the state.

    The terminal record goes to `llm.responses` and to the request's `reply_to`; that of a replay
    goes to `llm.evaluations` alone.
    """

    join: Join
    gate: BudgetGate
    publisher: Publisher
    topics: TopicNames
    states: StateTable
    clock: JoinClock
    set_aside: SetAside
    tally: Tally

    async def process(self, source: RawRecord, outputs: Outputs) -> None:
        """Decide about one record.

        Raises:
            InvalidEventError: It is no record of this topic.
        """
        record = decode_outcome(source.value or b"")
        key = record.request_id.encode()
        stored = self.states.get(key)
        state = _load(*stored) if stored is not None else None
        decision = self.join.decide(state, record, source.offset)
        if decision.ignored is not None:
            log.info("outcome.ignored", request_id=record.request_id, reason=decision.ignored)
            if state is not None:
                # Read again after a rebalance: its state may not have been written yet.
                self._keep(key, state, source, outputs)
            return
        await self._send(decision, source, outputs)
        if decision.state is not None:
            self._keep(key, decision.state, source, outputs)

    async def _send(self, decision: Decision, source: RawRecord, outputs: Outputs) -> None:
        for call in decision.calls:
            topic, record, key = self.gate.topic_and_record(call)
            outputs.deliveries.append(
                await self.publisher.publish(topic, record, key=key, headers=_trace(source))
            )
        await self._send_aside(decision, source, outputs)
        response = decision.response
        if response is None:
            return
        self.tally.ended(response)
        log.debug(
            "request.ended",
            request_id=response.request_id,
            status=response.status,
            code=response.error.code if response.error else None,
        )
        replayed = response.replay is not None
        topic = self.topics.evaluations if replayed else self.topics.responses
        outputs.deliveries.append(
            await self.publisher.publish(
                topic,
                response,
                key=response.replay.replay_id if response.replay else response.request_id,
                headers=_trace(source),
            )
        )
        if decision.reply_to is not None and not replayed:
            copy = self._reply(decision.reply_to, response, source)
            outputs.deliveries.append(asyncio.ensure_future(copy))

    async def _send_aside(self, decision: Decision, source: RawRecord, outputs: Outputs) -> None:
        """Stop members that are not needed, and say of streams that they are void."""
        for topic, record in (
            (self.topics.cancellations, decision.cancellation),
            (self.topics.chunks, decision.restarted),
        ):
            if record is not None:
                outputs.deliveries.append(
                    await self.publisher.publish(
                        topic, record, key=record.request_id, headers=_trace(source)
                    )
                )

    async def _reply(self, topic: str, response: Response, source: RawRecord) -> None:
        """Write the requester's copy; a topic that cannot be written to holds nothing up."""
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                delivery = await self.publisher.publish(
                    topic,
                    response,
                    key=response.request_id,
                    headers=_trace(source),
                    essential=False,
                )
                await delivery
        except (TimeoutError, BrokerError, KafkaError) as error:
            problem = BrokerError(
                f"the reply could not be written to {topic!r}: {type(error).__name__}"
            )
            letter = RawRecord(
                topic=topic,
                partition=source.partition,
                offset=source.offset,
                timestamp=source.timestamp,
                key=response.request_id.encode(),
                value=response.encode(),
                headers=tuple(response.kafka_headers()),
            )
            await (await self.set_aside(letter, problem, request_id=response.request_id))

    def _keep(self, key: bytes, state: JoinState, source: RawRecord, outputs: Outputs) -> None:
        # Asked first: a state that cannot say is not to be kept.
        due = open_until(state)
        stored = self.states.set(
            key,
            partition=source.partition,
            touched=state.touched_at.timestamp(),
            payload=_dump(state),
        )
        outputs.states.append(StateWrite(self.states, key, stored))
        if due is not None:
            self.clock.watch(key.decode(), due=due, partition=source.partition)
        else:
            self.clock.forget(key.decode())


def _trace(source: RawRecord) -> Headers:
    """What follows from an outcome belongs to its trace."""
    return tuple(
        (name, value)
        for name, value in source.headers
        if name == TRACE_HEADER and value is not None
    )


def _dump(state: JoinState) -> Any:
    """A request that has ended needs no more than a number."""
    if state.ended:
        return state.applied
    return state.model_dump(mode="json", exclude_defaults=True)


def _load(touched: float, payload: Any) -> JoinState:
    if isinstance(payload, int):
        at = datetime.fromtimestamp(touched, UTC)
        return JoinState(applied=payload, ended=True, touched_at=at)
    return JoinState.model_validate(payload)


def watch_all(states: StateTable, clock: JoinClock, held: set[int]) -> None:
    """Set the clock by the table, after partitions have changed hands."""
    for key, partition, touched, payload in states.items():
        if partition in held and not isinstance(payload, int):
            try:
                due, request_id = open_until(_load(touched, payload)), key.decode()
            except (ValueError, OverflowError):
                # Not ours; the first outcome that meets it becomes a dead letter.
                log.warning("state.unreadable", table=states.name, key=repr(key))
                continue
            if due is not None:
                clock.watch(request_id, due=due, partition=partition)
    clock.hold(held)
