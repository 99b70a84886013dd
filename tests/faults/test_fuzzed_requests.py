"""Anything at all on the requests topic: set aside byte for byte, and nobody else notices.

MILLRACE_FUZZ_REQUESTS says how many (100,000 by `make faults`), MILLRACE_FAULTS_SEED which.
"""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from harness import oracle
from harness.cluster import cluster
from harness.fuzz import fuzz
from machine_pauses import MachinePauses

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.alone]

COUNT = int(os.environ.get("MILLRACE_FUZZ_REQUESTS", "4000"))
SEED = int(os.environ.get("MILLRACE_FAULTS_SEED", "1"))
SLOWER = 1.2
NOISE_MS = 250.0
"""Of a machine that runs other tests at the same time; `bench/neighbours.py` does without."""


@pytest.mark.timeout(180 + COUNT // 100)
async def test_bad_input_harms_nobody(
    tmp_path: Path, kafka_script: object, machine: MachinePauses
) -> None:
    """Each input is one exact dead letter or ends as a request; neighbours stay quick."""
    async with cluster(tmp_path, seed=SEED, proxied=False) as running:
        result = await fuzz(running, COUNT, seed=SEED)

        assert not result.wrong, oracle.shown(result.wrong)
        assert result.dead > COUNT // 2
        stood_still = machine.longest / timedelta(milliseconds=1)
        allowed = SLOWER * result.p99_alone_ms + NOISE_MS + stood_still
        assert result.p99_beside_ms < allowed, (result.p99_alone_ms, result.p99_beside_ms)
        for worker in running.workers.values():
            assert worker.pid is not None, f"{worker.name} died"
