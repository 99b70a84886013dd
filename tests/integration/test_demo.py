"""The demo as a user runs it, checked against the simulator's own account of its calls."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from millrace.providers.simulator.server import Simulator
from millrace.sinks.reports import REPORTS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "requests.jsonl"
PROGRAM = Path(sys.executable).with_name("millrace")
PROC = Path("/proc")
MARK = "MILLRACE_TEST_DEMO"
SECONDS = 110

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Place:
    """A working directory and a folder for temporary files, and processes that know them."""

    work: Path
    temporary: Path
    mark: str

    @property
    def environ(self) -> Mapping[str, str]:
        """An environment without keys or settings."""
        kept = ("PATH", "HOME", "LANG", "SYSTEMROOT")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "TMPDIR": str(self.temporary),
            MARK: self.mark,
        }

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Begin a demo."""
        return subprocess.Popen(
            [str(PROGRAM), "demo", *arguments],
            cwd=self.work,
            env=self.environ,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a demo to its end."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def left_over(self) -> list[int]:
        """Processes that a demo of this place started and that still run."""
        found = []
        for folder in PROC.glob("[0-9]*"):
            try:
                environ = (folder / "environ").read_bytes()
            except OSError:
                continue
            if f"{MARK}={self.mark}".encode() in environ.split(b"\0"):
                found.append(int(folder.name))
        return found


def new_place(folder: Path) -> Place:
    """Folders of its own."""
    place = Place(folder / "work", folder / "tmp", uuid.uuid4().hex)
    place.work.mkdir()
    place.temporary.mkdir()
    return place


@pytest.fixture(name="place")
def fixture_place(tmp_path: Path) -> Place:
    """A place for one test."""
    return new_place(tmp_path)


@dataclass(frozen=True)
class Run:
    """What a demo printed, and the simulator's ledger beside it."""

    place: Place
    code: int
    out: str
    err: str
    ledger: list[dict[str, Any]]

    def reported(self, field: str) -> int:
        """The sum over all calls whose counts the simulator sent whole."""
        return sum(
            line[field]
            for line in self.ledger
            if line["ended"] == "complete" and line["usage_reported"]
        )


def run_whole(folder: Path, *arguments: str) -> Run:
    """Run the demo with its own examples."""
    place = new_place(folder)
    done = place.run("--ledger", "calls.jsonl", *arguments)
    text = (place.work / "calls.jsonl").read_text("utf-8")
    ledger = [json.loads(line) for line in text.splitlines()]
    return Run(place, done.returncode, done.stdout, done.stderr, ledger)


@pytest.fixture(scope="module", name="printed")
def fixture_printed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The demo as a person sees it."""
    return run_whole(tmp_path_factory.mktemp("printed"))


@pytest.fixture(scope="module", name="told")
def fixture_told(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The demo as a program sees it."""
    return run_whole(tmp_path_factory.mktemp("told"), "--json")


def test_it_ends_well_and_in_time(printed: Run) -> None:
    """Exit code 0, nothing on stderr, within a minute."""
    assert (printed.code, printed.err) == (0, "")
    seconds = re.search(r"^Took ([\d.]+) s", printed.out, re.MULTILINE)
    assert seconds is not None
    assert float(seconds[1]) < 60


def test_it_leaves_nothing_behind(printed: Run) -> None:
    """No file but the ledger that was asked for, and no process."""
    assert [path.name for path in printed.place.work.iterdir()] == ["calls.jsonl"]
    assert list(printed.place.temporary.iterdir()) == []
    if PROC.is_dir():
        assert printed.place.left_over() == []


def test_its_books_are_the_simulators(printed: Run) -> None:
    """The printed line holds the simulator's calls and tokens."""
    line = re.search(
        r"^Books: (\d+) calls, ([\d,]+) input and ([\d,]+) output tokens: the ledger in "
        r"ClickHouse = the simulator's\. (\d+) refused calls cost nothing\. (\d+) calls broke off",
        printed.out,
        re.MULTILINE,
    )
    assert line is not None, printed.out
    calls, given, made, refused, broken = (int(text.replace(",", "")) for text in line.groups())

    assert calls == sum(
        each["ended"] == "complete" and each["usage_reported"] for each in printed.ledger
    )
    assert given == printed.reported("input_tokens")
    assert made == printed.reported("generated_tokens")
    assert refused == sum(each["status"] not in (200, None) for each in printed.ledger)
    assert calls + refused + broken == len(printed.ledger)


def test_tokens_are_shown_as_they_come(printed: Run) -> None:
    """Some streamed answers appear before the summary, marked as simulated."""
    stream, _, _ = printed.out.partition("How requests ended")

    shown = set(re.findall(r"^(\S+) │ ", stream, re.MULTILINE))
    assert len(shown) >= 2
    assert "[simulated]" in stream


def test_every_example_ends_as_it_is_meant_to(told: Run) -> None:
    """The endings are those that the lines of the file ask for."""
    bodies: list[dict[str, Any]] = []
    for line in EXAMPLES.read_text("utf-8").splitlines():
        try:
            body = json.loads(line)
        except ValueError:
            continue
        if isinstance(body, dict):
            bodies.append(body)
    ids = {body["request_id"] for body in bodies}
    document = json.loads(told.out)

    assert told.code == 0
    assert document["problems"] == []
    assert sum(document["endings"].values()) == len(ids)
    for status in ("failed", "expired"):
        wished = sum(body.get("tags", {}).get("expect") == status for body in bodies)
        assert document["endings"].get(status, 0) == wished
    assert len(document["set_aside"]) >= 8
    assert document["duplicates"] == 1


def test_the_document_agrees_with_the_simulator_for_each_provider(told: Run) -> None:
    """Calls and reported tokens of each entry are those of its instance."""
    document = json.loads(told.out)

    assert document["simulated"] is True
    assert document["audit"]["agrees"] is True
    for name, account in document["books"]["providers"].items():
        lines = [line for line in told.ledger if line["instance"] == name]
        whole = [line for line in lines if line["ended"] == "complete" and line["usage_reported"]]
        booked = account["counted"]["calls"] + account["estimated"]["calls"] + account["refused"]
        assert booked == len(lines)
        assert account["counted"]["input_tokens"] == sum(line["input_tokens"] for line in whole)
        assert account["counted"]["output_tokens"] == sum(
            line["generated_tokens"] for line in whole
        )
    assert {line["instance"] for line in told.ledger} == set(document["books"]["providers"])


def test_routes_cover_every_call(told: Run) -> None:
    """The calls in the table of routes are all the calls that were made."""
    document = json.loads(told.out)

    assert sum(route["calls"] for route in document["routes"]) == len(told.ledger)
    assert sum(route["input_tokens"] for route in document["routes"] if not route["estimated"]) > 0


def test_fallbacks_and_votes_are_told(told: Run) -> None:
    """What was ordered to fail is seen to go elsewhere, and ensembles to agree."""
    document = json.loads(told.out)

    ended = [each["attempts"][-1]["status"] for each in document["fallbacks"]]
    assert ended.count("completed") >= 5
    assert document["agreements"]
    assert all(len(each["agreeing"]) >= 2 for each in document["agreements"])


def test_cascades_are_told(told: Run) -> None:
    """One whose first tier is sure enough, and one that climbs."""
    document = json.loads(told.out)

    assert sorted(len(each["tiers"]) for each in document["climbs"]) == [1, 3]
    assert all(each["sufficed"] for each in document["climbs"])


def test_the_views_of_tiers_and_ensembles_agree_with_what_is_told(told: Run) -> None:
    """Each tier that was asked is counted in ClickHouse, and each ensemble with its cost."""
    document = json.loads(told.out)
    rows = {each["report"]: each["rows"] for each in document["reports"]}

    climbed = [tier for each in document["climbs"] for tier in each["tiers"]]
    assert sum(row["asked"] for row in rows["tiers"]) == len(climbed)
    assert sum(row["sufficed"] for row in rows["tiers"]) == len(document["climbs"])
    voted = [row for row in rows["ensembles"] if row["strategy"] == "ensemble"]
    assert sum(row["requests"] for row in voted) == len(document["agreements"])
    assert all(row["unknown_cost"] == 0 for row in voted)


def test_views_and_the_next_commands_are_shown(printed: Run) -> None:
    """The summary is followed by ready views, by what was simulated, and by what to do next."""
    _, _, after = printed.out.partition("How requests ended")

    assert sum(f"\n{report.title}\n" in after for report in REPORTS.values()) == 5
    assert "All answers were simulated; nothing was spent." in after
    for command in ("simulate", "up --embedded", "report"):
        assert f"millrace {command}" in after


def test_an_end_that_was_not_meant_is_a_failure(place: Place) -> None:
    """Exit code 1, and a sentence that names the request."""
    file = place.work / "mine.jsonl"
    file.write_text('{"request_id": "mine-1", "prompt": "hello [[sim:http=500]]"}\n', "utf-8")

    done = place.run("--requests", "mine.jsonl")

    assert done.returncode == 1
    assert "line 1 (mine-1) ended as failed, not completed" in done.stdout


@pytest.mark.parametrize(
    ("number", "begun"), [(signal.SIGINT, "Up after"), (signal.SIGTERM, "Millrace demo")]
)
def test_a_signal_clears_everything_away(place: Place, number: signal.Signals, begun: str) -> None:
    """Stopped at work or while starting: exit code 130, no file, no process."""
    process = place.start()
    assert process.stdout is not None
    try:
        assert any(line.startswith(begun) for line in process.stdout)
        process.send_signal(number)
        process.communicate(timeout=SECONDS)
    finally:
        process.kill()

    assert process.returncode == 130
    assert list(place.temporary.iterdir()) == []
    assert list(place.work.iterdir()) == []
    if PROC.is_dir():
        assert place.left_over() == []


async def test_live_asks_the_providers_that_are_there(place: Place) -> None:
    """A few requests go to the entry whose key is set, once somebody has agreed."""
    async with Simulator() as provider:
        process = await asyncio.create_subprocess_exec(
            *(str(PROGRAM), "demo", "--live", "--yes", "--json", "--max-cost", "0.03"),
            cwd=place.work,
            env={
                **place.environ,
                "OPENAI_API_KEY": "not-a-key",
                "OPENAI_BASE_URL": provider.base_url("openai", "openai"),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
        calls = list(provider.ledger.lines())
    assert process.returncode == 0, err
    document = json.loads(out)

    assert document["simulated"] is False
    assert document["lines"] == document["endings"]["completed"] > 0
    paid = document["books"]["providers"]["openai"]["counted"]["calls"]
    assert paid == len(calls)
    assert float(document["books"]["cost_usd"]) < 0.03
    assert b"for at most $0.03" in err
    assert b"not-a-key" not in out + err


def test_money_is_not_spent_unasked(place: Place) -> None:
    """Without a terminal to ask on, and without --yes, nothing is sent."""
    process = subprocess.run(
        [str(PROGRAM), "demo", "--live"],
        cwd=place.work,
        env={**place.environ, "OPENAI_API_KEY": "not-a-key"},
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )

    assert process.returncode == 2
    assert "--yes" in process.stderr
    assert "not-a-key" not in process.stderr
