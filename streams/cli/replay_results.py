"""A replay's results: waiting for them, and setting them beside the originals."""

import asyncio
from collections.abc import Callable
from typing import Any

from millrace.schemas.errors import InvalidEventError
from millrace.schemas.response import Response
from millrace.sinks.settings import ClickHouseSettings
from millrace.streams.cli.clickhouse import Answer, ask
from millrace.streams.cli.topic_reader import TopicReader

ROWS = 10_000
_SINK_SECONDS = 30.0
"""How long rows may take from the topic into ClickHouse."""
_POLL_SECONDS = 0.5

SUMMARY = """
SELECT count() AS requests,
       countIf(replay_status = 'completed') AS completed,
       countIf(original_status = 'completed') AS original_completed,
       toString(sum(replay_cost_usd)) AS cost_usd,
       toString(sum(original_cost_usd)) AS original_cost_usd,
       countIf(replay_cost_usd IS NULL) AS cost_unknown,
       quantileIf(0.5)(replay_total_ms, isNotNull(replay_total_ms)) AS median_ms,
       quantileIf(0.5)(original_total_ms, isNotNull(original_total_ms)) AS original_median_ms,
       countIf(same_text = 1) AS same_text
FROM evaluations WHERE replay_id = '{replay_id}'"""

SIDE_BY_SIDE = """
SELECT original_request_id, original_status, replay_status,
       original_model, replay_model,
       toString(original_cost_usd) AS original_cost_usd,
       toString(replay_cost_usd) AS replay_cost_usd,
       original_total_ms, replay_total_ms, same_text, original_text, replay_text
FROM evaluations WHERE replay_id = '{replay_id}' ORDER BY original_request_id"""


async def await_evaluations(
    reader: TopicReader,
    wanted: set[str],
    *,
    on_progress: Callable[[int], None],
    timeout_seconds: float | None,
) -> set[str]:
    """Read evaluations until every wanted request has one; return those that had none in time.

    The reader must have been placed before the requests were sent.
    """
    missing = set(wanted)
    try:
        async with asyncio.timeout(timeout_seconds):
            if not missing:
                return missing
            async for record in reader.records():
                try:
                    response = Response.decode(record.value or b"", record.headers)
                except InvalidEventError:
                    continue
                if response.request_id in missing:
                    missing.discard(response.request_id)
                    on_progress(len(wanted) - len(missing))
                    if not missing:
                        break
    except TimeoutError:
        pass
    return missing


async def stored_results(
    settings: ClickHouseSettings, replay_id: str, *, expected: int
) -> tuple[dict[str, Any], Answer]:
    """The summary and the rows of a replay, once the sink has stored as many as expected.

    Returns what there is when the sink takes longer than half a minute. `replay_id` must be of
    letters, digits, `.`, `_` and `-` only.

    Raises:
        SinkError: ClickHouse cannot be reached, or has no such view.
    """
    deadline = asyncio.get_running_loop().time() + _SINK_SECONDS
    while True:
        found = await ask(settings, SUMMARY.format(replay_id=replay_id), limit=1)
        summary = dict(zip(found.columns, found.rows[0], strict=True))
        in_time = asyncio.get_running_loop().time() < deadline
        if int(summary["requests"]) >= expected or not in_time:
            break
        await asyncio.sleep(_POLL_SECONDS)
    rows = await ask(settings, SIDE_BY_SIDE.format(replay_id=replay_id), limit=ROWS)
    return summary, rows
