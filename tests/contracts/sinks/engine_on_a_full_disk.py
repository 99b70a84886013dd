"""The embedded engine on a disk of its own that gets full, again and again.

Writes calls while the disk fills up, and when it is as good as full; makes room, writes on, and
reads all of it back. Prints JSON: what the sink said meanwhile, and what the books hold in the end.
Usage: engine_on_a_full_disk.py FOLDER_WITH_A_DISK_OF_ITS_OWN LEAST_FREE_BYTES ROUNDS
"""

import asyncio
import json
import random
import shutil
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from millrace.schemas.errors import SinkError, SinkUnavailableError
from millrace.schemas.ledger import UsageEvent
from millrace.sinks.clickhouse import ClickHouseSink
from millrace.sinks.query import ClickHouseReader
from millrace.sinks.settings import ClickHouseSettings

ROWS = 3_000
ALMOST_FULL = 8 << 20
NOW = datetime.now(UTC)


class Calls:
    """Makes batches of paid calls, no two alike, so that they take up space."""

    def __init__(self) -> None:
        self._random = random.Random(5)
        self.made = 0

    def batch(self) -> list[UsageEvent]:
        self.made += ROWS
        return [self._call() for _ in range(ROWS)]

    def _call(self) -> UsageEvent:
        request_id = f"{self._random.random()}"
        invocation = f"{self._random.random()}" * 5
        return UsageEvent.model_validate(
            {
                "event": "spent",
                "request_id": request_id,
                "row_id": f"{request_id}/0/1/{invocation}",
                "member": 0,
                "attempt": 1,
                "invocation": invocation,
                "provider": "openai",
                "model": "gpt",
                "hardware": "cloud",
                "task": "general",
                "strategy": "auto",
                "usage": {"input_tokens": 7, "output_tokens": 3},
                "cost_usd": "0.5",
                "cost_source": "price_table",
                "started_at": NOW,
                "deadline": NOW + timedelta(hours=1),
                "status": "completed",
                "finished_at": NOW,
            }
        )


def fill(folder: Path, leave: int) -> Path:
    """Take all space but so many bytes."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while (free := shutil.disk_usage(folder).free) > leave:
            file.write(b"x" * min(1 << 16, free - leave))
    return filler


async def until_nothing_merges(reader: ClickHouseReader) -> None:
    """Wait until merges that were told to stop have stopped."""
    while int((await reader.query("SELECT count() FROM system.merges")).rows[0][0]):  # noqa: ASYNC110 (in the engine)
        await asyncio.sleep(0.05)


async def main(folder: Path, least: int, rounds: int) -> None:
    """Go through the rounds."""
    settings = ClickHouseSettings.model_validate(
        {"url": f"chdb://{folder}/engine", "engine_min_free_bytes": least}
    )
    sink, reader = ClickHouseSink(settings=settings), ClickHouseReader(settings=settings)
    await sink.open()
    await reader.open()
    calls, said, draw = Calls(), set(), random.Random(5)
    found, broken = 0, None
    for _ in range(rounds):
        for _ in range(2):
            await sink.write(calls.batch())
        fill(folder, ALMOST_FULL)
        waiting = calls.batch()
        try:
            await sink.write(waiting)
        except SinkUnavailableError as error:
            said.add(error.message)
            # It has told them to stop, and does so before the rest of the disk is taken.
            await until_nothing_merges(reader)
        else:
            waiting = calls.batch()
        filler = fill(folder, draw.randrange(3_000_000))
        for _ in range(10):
            try:
                await sink.write(waiting)
            except SinkUnavailableError as error:
                said.add(error.message)
            else:
                waiting = calls.batch()
            # Merges go on meanwhile, as they do beside a sink that waits.
            await asyncio.sleep(0.1)
        filler.unlink()
        await sink.write(waiting)
        try:
            answer = await reader.query(
                "SELECT count(), max(request_id), max(row_id), max(invocation) FROM attempts FINAL"
            )
        except SinkError as error:
            broken = error.message
            break
        found = int(answer.rows[0][0])
    sys.stdout.write(
        json.dumps({"said": sorted(said), "found": found, "made": calls.made, "broken": broken})
    )
    await reader.aclose()
    await sink.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
