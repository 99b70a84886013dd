"""The long run: faults drawn at random, then bad input, then the same beside stock Faust.

    make faults N=100 SEED=7

The same seed draws the same faults, load and times. Writes report.json and report.md.
"""

import argparse
import asyncio
import logging
import math
import random
import secrets
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from aiokafka.errors import KafkaError
from harness import oracle
from harness.beside import compare, millrace
from harness.catalogue import CATALOGUE
from harness.cluster import cluster
from harness.crash import CRASHES, Crash, crash
from harness.fault import Fault, Injected, inject
from harness.fuzz import fuzz
from harness.report import Report
from harness.setting import Setting, setting
from harness.stock_faust import stock_faust


async def run(given: argparse.Namespace) -> Report:
    """Everything that was asked for."""
    began = time.monotonic()
    report = Report(
        seed=given.seed,
        rounds=given.rounds,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        only=given.only,
    )
    with tempfile.TemporaryDirectory(prefix="millrace-faults-") as folder:
        async with setting(Path(folder), seed=given.seed) as running:
            draw = random.Random(f"order {given.seed}")
            drawn = [one for one in (*CATALOGUE, *CRASHES) if given.only in one.name]
            injecting = time.monotonic()
            for number in range(given.rounds):
                if time.monotonic() - injecting > given.seconds:
                    break
                one = draw.choice(drawn)
                injected = await _one(running, one)
                report.injected.append(injected)
                ended = injected.problem or "ok"
                say(f"{number + 1:4} {injected.seconds:6.1f} s  {one.name}: {ended}")
            try:
                report.judged = await running.judge()
            except AssertionError as error:
                report.judged = [str(error)]
            _note(report, running)
            say(f"judged: {oracle.shown(report.judged) or 'everything holds'}")
            if given.beside:
                programs = (stock_faust, millrace)
                async for loss in compare(
                    running, programs, seed=given.seed, requests=given.beside
                ):
                    report.losses.append(loss)
                    say(
                        f"{loss.fault}: {loss.name}: {loss.lost} of {loss.sent} lost, "
                        f"{loss.paid_again} paid again, {loss.untold} calls in no books"
                    )
    if given.fuzz:
        with tempfile.TemporaryDirectory(prefix="millrace-fuzz-") as folder:
            # Not through the proxies: times are compared.
            async with cluster(Path(folder), seed=given.seed, proxied=False) as beside:
                report.fuzz = await fuzz(beside, given.fuzz, seed=given.seed, say=say)
        slower = f"neighbours {report.fuzz.ratio:.2f} times as slow"
        say(f"fuzz: {len(report.fuzz.wrong)} wrong, {slower}")
    report.seconds = time.monotonic() - began
    return report


async def _one(running: Setting, one: Fault | Crash) -> Injected:
    began, before, problems = time.monotonic(), len(running.load.sent), []
    try:
        await (inject(running, one) if isinstance(one, Fault) else crash(running, one))
    except (AssertionError, TimeoutError, KafkaError) as error:
        problems.append(str(error) or type(error).__name__)
    seconds = time.monotonic() - began
    problems += await running.made_whole()
    sent = len(running.load.sent) - before
    return Injected(one.name, sent, seconds, "; ".join(problems) or None)


def _note(report: Report, running: Setting) -> None:
    report.requests = len(running.load.sent)
    report.paid_again = sum(oracle.paid_twice(running.tape).values())
    at_risk = [oracle.in_flight_and_ended(death) for death in running.deaths]
    report.in_flight_at_deaths = sum(in_flight for in_flight, _ in at_risk)
    report.ended_uncommitted_at_deaths = sum(ended for _, ended in at_risk)
    report.peak_rss_mb = dict(running.watch.peak_rss_mb)
    stall = running.watch.longest_stall
    if stall is not None:
        report.longest_stall = f"{stall.seconds:.0f} s ({stall.group} on {stall.partition.topic})"


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def say(text: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Read the command line and run; 1 when something fell short."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="how many faults")
    parser.add_argument("--seed", type=int, default=None, help="drawn, and printed, when not given")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="after which no more faults begin"
    )
    parser.add_argument("--only", default="", help="faults whose names hold this")
    parser.add_argument("--fuzz", type=int, default=100_000, help="how many bad inputs")
    parser.add_argument(
        "--beside", type=int, default=600, help="requests to each, beside stock Faust"
    )
    parser.add_argument("--report", type=Path, default=Path(".millrace/faults"))
    given = parser.parse_args()
    if not any(given.only in one.name for one in (*CATALOGUE, *CRASHES)):
        parser.error(f"no fault's name holds {given.only!r}")
    if given.seed is None:
        given.seed = secrets.randbelow(1_000_000)
    # The clients of the harness complain about the broker that it takes away.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    say(f"seed {given.seed}")
    report = asyncio.run(run(given))
    page = report.write(given.report / f"seed-{given.seed}")
    say(f"{'Everything held' if report.passed else 'FELL SHORT'}: {page}")
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
