"""The embedded engine on a disk that gets full: it stops in time, and nothing is destroyed."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from small_disk import on_a_small_disk

from millrace.schemas.errors import SinkUnavailableError
from millrace.sinks.clickhouse import ClickHouseSink
from millrace.sinks.disk_reserve import free_bytes
from millrace.sinks.settings import ClickHouseSettings

SCRIPT = Path(__file__).with_name("engine_on_a_full_disk.py")
KEPT = 16 << 20
ROUNDS = 7


@pytest.mark.slow
async def test_a_disk_that_gets_full_again_and_again_destroys_nothing(tmp_path: Path) -> None:
    """While it is full the sink refuses, and says what to do; in the end every row is there."""
    begin = on_a_small_disk(tmp_path / "disk", size="128m")
    process = await asyncio.create_subprocess_exec(
        *(*begin, sys.executable, str(SCRIPT), str(tmp_path / "disk"), str(KEPT), str(ROUNDS)),
        stdout=asyncio.subprocess.PIPE,
    )
    written, _ = await process.communicate()

    ended: dict[str, Any] = json.loads(written)
    assert ended["broken"] is None
    assert ended["found"] == ended["made"]
    assert all("almost full" in each and "make room" in each for each in ended["said"])
    assert ended["said"]


async def test_nothing_is_opened_on_a_disk_that_is_almost_full(tmp_path: Path) -> None:
    """An engine that opens begins to merge; the message says how much is missing."""
    more = free_bytes(tmp_path) * 2
    settings = ClickHouseSettings.model_validate(
        {"url": f"chdb://{tmp_path}/new/engine", "engine_min_free_bytes": more}
    )
    sink = ClickHouseSink(settings=settings)

    with pytest.raises(SinkUnavailableError, match="engine_min_free_bytes") as caught:
        await sink.open()

    await sink.aclose()
    assert caught.value.retry_after
    assert not (tmp_path / "new").exists()
