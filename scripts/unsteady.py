"""Runs a command as on a machine that others use: all its processes stand still now and then.

    .venv/bin/python scripts/unsteady.py --longest 1.5 --burners 1 scripts/test tests/integration

Tests that pass here do not lean on the machine's speed. Exit code: the command's. Linux only.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

PROC = Path("/proc")
STEADY_SECONDS = (1.0, 4.0)
"""Between two pauses, at least and at most."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the command and the burners, and pause the command until it ends."""
    asked = _parser().parse_args(arguments)
    seed = int(time.time()) % 1_000_000 if asked.seed is None else asked.seed
    print(f"Pauses of up to {asked.longest:g} s, {asked.burners} burners, seed {seed}", flush=True)
    command = subprocess.Popen(asked.command)
    chance = random.Random(seed)  # noqa: S311 -- has to be repeatable, guards nothing
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(asked.burners)
    ]
    try:
        pauses = _pause_until_it_ends(command, chance, longest=asked.longest)
    finally:
        for burner in burners:
            burner.kill()
    print(f"It stood still {pauses} times; exit code {command.returncode}", flush=True)
    return command.returncode


def _pause_until_it_ends(
    command: "subprocess.Popen[bytes]", chance: random.Random, *, longest: float
) -> int:
    pauses = 0
    while command.poll() is None:
        time.sleep(chance.uniform(*STEADY_SECONDS))
        stopped = [pid for pid in _running_family(command.pid) if _signal(pid, signal.SIGSTOP)]
        try:
            time.sleep(chance.uniform(0, longest))
        finally:
            for pid in stopped:
                _signal(pid, signal.SIGCONT)
        pauses += bool(stopped)
    return pauses


def _running_family(root: int) -> list[int]:
    """The process and all that it started, but for those stopped: whoever did so wakes them."""
    children: dict[int, list[int]] = defaultdict(list)
    running = set()
    for folder in PROC.glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        # proc(5): the name before these may hold anything, a bracket too.
        state, parent = stat.rpartition(")")[2].split()[:2]
        children[int(parent)].append(int(folder.name))
        if state not in "TtZ":
            running.add(int(folder.name))
    family = [root]
    for pid in family:
        family += children[pid]
    return [pid for pid in family if pid in running]


def _signal(pid: int, number: signal.Signals) -> bool:
    """Whether the process was there to take it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--longest", type=float, default=1.0, help="seconds of the longest pause")
    parser.add_argument("--burners", type=int, default=0, help="processes that take a core each")
    parser.add_argument("--seed", type=int, help="of the pauses; drawn and printed if not given")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what is run, with its arguments")
    return parser


if __name__ == "__main__":
    sys.exit(main())
