"""What a long run found: as JSON for programs, as Markdown for people."""

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.beside import Loss
from harness.fault import Injected
from harness.fuzz import FuzzResult


@dataclass
class Report:
    """A long run."""

    seed: int
    rounds: int
    started_at: str
    commit: str
    only: str = ""
    """What the names of the faults had to hold."""
    injected: list[Injected] = field(default_factory=list)
    judged: list[str] = field(default_factory=list)
    """What did not hold in the end."""
    requests: int = 0
    seconds: float = 0.0
    paid_again: int = 0
    in_flight_at_deaths: int = 0
    """Of callers."""
    ended_uncommitted_at_deaths: int = 0
    longest_stall: str = "none"
    peak_rss_mb: dict[str, float] = field(default_factory=dict)
    fuzz: FuzzResult | None = None
    losses: list[Loss] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether everything held."""
        fuzz_held = self.fuzz is None or not self.fuzz.wrong
        return not self.judged and fuzz_held and all(one.problem is None for one in self.injected)

    def write(self, folder: Path) -> Path:
        """Write `report.json` and `report.md`; returns the latter."""
        folder.mkdir(parents=True, exist_ok=True)
        body = {"passed": self.passed, **asdict(self)}
        (folder / "report.json").write_text(json.dumps(body, indent=2) + "\n")
        page = folder / "report.md"
        page.write_text(self.markdown())
        return page

    def markdown(self) -> str:
        """The page."""
        problems = [one for one in self.injected if one.problem]
        verdict = "everything held" if self.passed else "FELL SHORT"
        only = f" ONLY={self.only!r}" if self.only else ""
        again = f"`make faults N={self.rounds} SEED={self.seed}{only}`"
        lines = [
            f"# Fault run, seed {self.seed}: {verdict}",
            "",
            f"Commit {self.commit}, {self.started_at}, {self.seconds:.0f} s. Again: {again}.",
            "",
            f"- {len(self.injected)} faults, {self.requests} requests",
            f"- calls paid again: {self.paid_again}",
            f"- in flight at violent deaths of callers: {self.in_flight_at_deaths}",
            f"- ended and not yet committed at those: {self.ended_uncommitted_at_deaths}",
            f"- longest time without progress: {self.longest_stall}",
            "",
            "| process | peak memory, MB |",
            "|---|---|",
            *(f"| {name} | {size:.0f} |" for name, size in sorted(self.peak_rss_mb.items())),
            "",
            "| fault | times | slowest, s | fell short |",
            "|---|---|---|---|",
            *self._by_fault(),
        ]
        if problems or self.judged:
            lines += ["", "## What fell short", ""]
            lines += [f"- {one.name}: {one.problem}" for one in problems]
            lines += [f"- {text}" for text in self.judged]
        if self.fuzz is not None:
            lines += ["", "## Bad input", "", _fuzz_line(self.fuzz)]
            lines += [f"- {text}" for text in self.fuzz.wrong[:20]]
        if self.losses:
            lines += ["", "## Beside stock Faust", ""]
            lines += ["| fault | program | sent | lost | paid again | calls in no books |"]
            lines += ["|---|---|---|---|---|---|"]
            lines += [
                f"| {one.fault} | {one.name} | {one.sent} | {one.lost} | {one.paid_again} "
                f"| {one.untold} |"
                for one in self.losses
            ]
        return "\n".join(lines) + "\n"

    def _by_fault(self) -> list[str]:
        found: dict[str, list[Injected]] = defaultdict(list)
        for one in self.injected:
            found[one.name].append(one)
        return [
            f"| {name} | {len(each)} | {max(one.seconds for one in each):.1f} "
            f"| {sum(one.problem is not None for one in each)} |"
            for name, each in sorted(found.items())
        ]


def _fuzz_line(fuzz: FuzzResult) -> str:
    return (
        f"{fuzz.inputs} inputs: {fuzz.dead} set aside byte for byte, {fuzz.taken} taken as "
        f"requests, {len(fuzz.wrong)} otherwise; "
        f"{fuzz.per_second:.0f} a second. Neighbours' 99th percentile: "
        f"{fuzz.p99_alone_ms:.0f} ms alone ({len(fuzz.alone_ms)} of them), "
        f"{fuzz.p99_beside_ms:.0f} ms beside them ({len(fuzz.beside_ms)}), "
        f"{fuzz.ratio:.2f} times."
    )
