"""What every sink promises, held against each of them."""

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from millrace.schemas.dead_letter import Blob
from millrace.schemas.errors import SinkUnavailableError
from millrace.sinks.clickhouse import ClickHouseSink
from millrace.sinks.files import JsonLinesSink
from millrace.sinks.protocol import RowsRejectedError
from millrace.sinks.settings import ClickHouseSettings
from millrace.sinks.tables import ATTEMPTS, DEAD_LETTERS, REQUESTS, RESPONSES, TABLES


async def test_every_kind_of_record_is_held_once_written(open_store: Any, make: Any) -> None:
    """A batch of all kinds is in the tables when `write` returns."""
    store = await open_store()

    await store.sink.write([make.request(), make.usage(), make.response(), make.dead_letter()])

    assert [len(await store.rows(table)) for table in TABLES] == [1, 1, 1, 1]
    [attempt] = await store.rows(ATTEMPTS)
    assert (attempt["row_id"], Decimal(attempt["cost_usd"])) == ("r1/0/1/i1", Decimal("0.5"))
    [request] = await store.rows(REQUESTS)
    assert json.loads(request["content"]) == {"prompt": "Why is the sky blue?"}


async def test_an_empty_batch_is_harmless(open_store: Any) -> None:
    """Nothing to write is no error."""
    store = await open_store()

    await store.sink.write([])

    assert await store.rows(REQUESTS) == []


async def test_a_batch_written_three_times_is_there_once(open_store: Any, make: Any) -> None:
    """Repeating a write, also split otherwise, adds no row."""
    store = await open_store()
    batch = [make.usage(f"r{n}") for n in range(7)] + [make.dead_letter(n) for n in range(3)]

    await store.sink.write(batch)
    await store.sink.write(batch[:4])
    await store.sink.write(batch[4:] + batch[:2])

    assert len(await store.rows(ATTEMPTS)) == 7
    assert len(await store.rows(DEAD_LETTERS)) == 3


@pytest.mark.parametrize("order", [("reserved", "spent"), ("spent", "reserved")])
@pytest.mark.parametrize("batches", [1, 2])
async def test_spent_replaces_reserved_whichever_came_last(
    open_store: Any, make: Any, order: Any, batches: Any
) -> None:
    """The end of a call stands, not its reservation, in one batch and in two."""
    store = await open_store()
    events = [
        make.usage(event=event, cost_usd={"reserved": 9, "spent": 2}[event]) for event in order
    ]

    for part in [events] if batches == 1 else [[event] for event in events]:
        await store.sink.write(part)

    [row] = await store.rows(ATTEMPTS)
    assert (Decimal(row["cost_usd"]), row["status"]) == (2, "completed")


async def test_the_first_request_with_an_id_counts(open_store: Any, make: Any) -> None:
    """Other content under an id that was used before does not replace what came first."""
    store = await open_store()
    first, second = make.request(offset=5, task="reasoning"), make.request(offset=6)

    await store.sink.write([second])
    await store.sink.write([first])
    await store.sink.write([second])

    [row] = await store.rows(REQUESTS)
    assert row["task"] == "reasoning"


async def test_bad_rows_are_named_and_all_others_stored(open_store: Any, make: Any) -> None:
    """A row that no column can hold costs its neighbours nothing."""
    store = await open_store()
    batch = [make.usage(f"r{n}") for n in range(9)]
    batch[3] = make.usage("bad", cost_usd="1e30")
    batch[7] = make.response("worse", text="\ud800")

    with pytest.raises(RowsRejectedError, match="'bad/0/1/i1'") as caught:
        await store.sink.write(batch)

    assert [row.position for row in caught.value.rejected] == [3, 7]
    assert [row.row_id for row in caught.value.rejected] == ["bad/0/1/i1", "worse"]
    assert len(await store.rows(ATTEMPTS)) == 7
    assert await store.rows(RESPONSES) == []


async def test_without_stored_text_no_prompt_or_answer_is_stored(
    open_store: Any, make: Any
) -> None:
    """With `store_text` off, sizes are stored and texts are nowhere."""
    store = await open_store(store_text=False)
    canary = "canary-9417"
    blob = Blob.of(canary.encode())

    await store.sink.write(
        [
            make.request("r1", prompt=canary),
            make.request("r2", prompt=None, messages=[{"role": "user", "content": canary}]),
            make.request("r3", prompt=None, template="summarize@1", variables={"text": canary}),
            make.request("r4", tools=[{"name": "t", "description": canary}]),
            make.response("r1", text=canary, data={"answer": canary}),
            make.response("r2", tool_calls=[{"name": "t", "arguments": canary}]),
            make.dead_letter(1, canary.encode(), headers=({"name": "h", "value": blob},)),
        ]
    )

    rows = [row for table in TABLES for row in await store.rows(table)]
    assert len(rows) == 7
    assert canary not in json.dumps(rows)
    [first] = [row for row in await store.rows(RESPONSES) if row["request_id"] == "r1"]
    assert first["text_bytes"] == len(canary)


async def test_opening_and_closing_again_is_harmless(open_store: Any, make: Any) -> None:
    """What was written stays, and an opened sink can be opened, a closed one closed."""
    store = await open_store()
    await store.sink.write([make.usage()])

    await store.sink.open()
    await store.sink.aclose()
    await store.sink.aclose()
    await store.sink.open()

    assert len(await store.rows(ATTEMPTS)) == 1


async def test_a_cancelled_write_leaves_the_sink_usable(open_store: Any, make: Any) -> None:
    """After a cancellation the same batch can be written, and is there once."""
    store = await open_store()
    batch = [make.usage(f"r{n}") for n in range(500)]
    write = asyncio.create_task(store.sink.write(batch))
    await asyncio.sleep(0)

    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    await store.sink.write(batch)

    assert len(await store.rows(ATTEMPTS)) == 500


async def test_a_sink_that_is_not_open_says_so(tmp_path: Path, make: Any) -> None:
    """Writing before `open` is an error that keeps the batch with the caller."""
    settings = ClickHouseSettings(url=f"chdb://{tmp_path}/engine")

    for sink in (ClickHouseSink(settings=settings), JsonLinesSink(folder=tmp_path)):
        with pytest.raises(SinkUnavailableError, match="not open"):
            await sink.write([make.usage()])
