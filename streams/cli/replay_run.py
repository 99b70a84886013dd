"""Carrying a replay out: read, send at a bounded rate, wait, compare."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from millrace.schemas.errors import InvalidEventError
from millrace.schemas.request import Request
from millrace.streams.cli.broker import require_topics
from millrace.streams.cli.moments import Start
from millrace.streams.cli.output import say
from millrace.streams.cli.replay_costs import cost_estimate
from millrace.streams.cli.replay_report import ReplayReport
from millrace.streams.cli.replay_results import await_evaluations, stored_results
from millrace.streams.cli.request_lines import encode, key_of
from millrace.streams.cli.topic_reader import TopicReader
from millrace.streams.discovery import with_listed_models
from millrace.streams.kafka_errors import kafka_errors
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.planning import acceptance
from millrace.streams.publisher import Publisher
from millrace.streams.replay import (
    Again,
    Pace,
    Replay,
    Selection,
    Tally,
    Variation,
    run_replay,
)
from millrace.streams.settings import Settings
from millrace.streams.topics import TopicNames

LATE = timedelta(minutes=5)
"""How far a record may lie behind later ones, as producers' clocks and retries differ."""
_UNDER_WAY = 1_000
"""Records handed to the producer and not yet acknowledged, at most."""

Send = Callable[[Again], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOrder:
    """What is to be done."""

    replay_id: str
    resumed: bool
    """Whether the replay may have been begun before."""
    selection: Selection
    variation: Variation
    send: bool
    per_second: float
    limit: int | None
    output_tokens: int
    wait_seconds: float | None
    """None: do not wait for results."""
    as_json: bool


async def carry_out(order: ReplayOrder, *, settings: Settings, kafka: KafkaSettings) -> bool:
    """Do it, and print what came of it; False when results were waited for in vain.

    Raises:
        BrokerError: The topics cannot be read or written; requests already sent stay sent.
        SinkError: With waiting: ClickHouse cannot be asked.
    """
    settings = await with_listed_models(settings, os.environ)
    names = TopicNames(kafka.topic_prefix)
    report = ReplayReport(order.replay_id, as_json=order.as_json)
    async with AsyncExitStack() as stack:
        evaluations = None
        if order.wait_seconds is not None:
            # Placed before anything is sent; a replay that goes on has results already.
            start = Start("beginning" if order.resumed else "end")
            evaluations = TopicReader(kafka=kafka, topics=(names.evaluations,), start=start)
            await stack.enter_async_context(evaluations)
        sent = await sent_before(order, kafka=kafka, names=names) if order.resumed else set()
        tally = await _read_and_send(order, settings, kafka, names, frozenset(sent))
        report.tally(tally, sent=order.send, output_tokens=order.output_tokens)
        missing: set[str] = set()
        if evaluations is not None and order.wait_seconds is not None:
            wanted = tally.request_ids | sent
            missing = await await_evaluations(
                evaluations,
                wanted,
                on_progress=_progress(len(wanted)),
                timeout_seconds=order.wait_seconds,
            )
            summary, rows = await stored_results(
                settings.clickhouse, order.replay_id, expected=len(wanted) - len(missing)
            )
            report.results(summary, rows, missing=missing)
    report.finish()
    return not missing


async def sent_before(order: ReplayOrder, *, kafka: KafkaSettings, names: TopicNames) -> set[str]:
    """The ids of requests that this replay has sent, as the requests topic holds them."""
    found: set[str] = set()
    start = Start(order.selection.start)
    async with TopicReader(kafka=kafka, topics=(names.requests,), start=start) as reader:
        async for record in reader.records(await reader.ends()):
            try:
                request = Request.decode(record.value or b"", record.headers)
            except InvalidEventError:
                continue
            if request.replay is not None and request.replay.replay_id == order.replay_id:
                found.add(request.request_id or "")
    return found


async def _read_and_send(
    order: ReplayOrder,
    settings: Settings,
    kafka: KafkaSettings,
    names: TopicNames,
    sent: frozenset[str],
) -> Tally:
    replay = Replay(
        replay_id=order.replay_id,
        selection=order.selection,
        variation=order.variation,
        accept=acceptance(settings).accept,
        sent=sent,
    )
    async with AsyncExitStack() as stack:
        send = None
        if order.send:
            await require_topics(kafka, names.requests, names.evaluations)
            publisher = await stack.enter_async_context(Publisher(settings=kafka))
            send, delivered = _sender(publisher, names.requests)
        start = Start(order.selection.start)
        reader = TopicReader(kafka=kafka, topics=(names.requests,), start=start)
        await stack.enter_async_context(reader)
        ends = await reader.ends(before=order.selection.end + LATE)
        tally = await run_replay(
            reader.records(ends),
            replay=replay,
            estimate=cost_estimate(settings, output_tokens=order.output_tokens),
            send=send,
            pace=Pace(per_second=order.per_second, clock=time.monotonic),
            limit=order.limit,
        )
        if send is not None:
            await delivered()
    return tally


def _sender(publisher: Publisher, topic: str) -> tuple[Send, Callable[[], Awaitable[None]]]:
    """How to send a request, and how to wait until all that were sent have arrived."""
    deliveries: list[asyncio.Future[object]] = []

    async def delivered() -> None:
        with kafka_errors(f"deliver a request to {topic!r}"):
            while deliveries:
                await deliveries.pop()

    async def send(again: Again) -> None:
        request = again.at(datetime.now(UTC))
        deliveries.append(
            await publisher.publish_bytes(
                topic,
                encode(request),
                key=key_of(request).encode(),
                headers=Request.kafka_headers(),
            )
        )
        if len(deliveries) >= _UNDER_WAY:
            await delivered()

    return send, delivered


def _progress(total: int) -> Callable[[int], None]:
    """Counts on a terminal's line; says nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda _: None

    def show(done: int) -> None:
        sys.stderr.write(f"\r{done:,} of {total:,} results")
        sys.stderr.flush()
        if done == total:
            say("", err=True)

    return show
