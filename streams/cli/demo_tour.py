"""What the demo shows on its stage: requests, tokens, ends, views, and the check of the books."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from millrace.providers.simulator.server import Simulator
from millrace.sinks.reports import Report
from millrace.streams.cli.clickhouse import Answer, ask
from millrace.streams.cli.demo_books import (
    Books,
    disagreements,
    read_books,
    read_stored,
    simulator_accounts,
    total,
)
from millrace.streams.cli.demo_findings import findings
from millrace.streams.cli.demo_lines import Line, SentLine
from millrace.streams.cli.demo_pages import (
    audit_line,
    document,
    print_summary,
    shown_reports,
)
from millrace.streams.cli.demo_recording import Recording
from millrace.streams.cli.demo_stage import Stage
from millrace.streams.cli.demo_summary import summarise
from millrace.streams.cli.demo_tokens import pick, token_view
from millrace.streams.cli.follow import followed_topics
from millrace.streams.cli.moments import Start
from millrace.streams.cli.output import say
from millrace.streams.cli.report import print_report, statement
from millrace.streams.cli.send import produce
from millrace.streams.cli.topic_reader import TopicReader
from millrace.streams.topics import TopicNames

_STORE_SECONDS = 10.0
_STORE_POLL_SECONDS = 0.1
_REPORT_ROWS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the tour came to."""

    problems: tuple[str, ...]
    """Sentences; none when all is as it was meant to be."""
    document: dict[str, Any]
    """Everything, for `--json`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tour:
    """Goes through the demo once."""

    stage: Stage
    lines: Sequence[Line]
    simulator: Simulator | None
    silent: bool

    async def take(self, *, source: str, timeout_seconds: float) -> Outcome:
        """Send the lines, show what becomes of them, and check everything.

        Raises:
            BrokerError: A line could not be delivered.
            SinkUnavailableError: ClickHouse does not answer.
        """
        kafka = self.stage.settings.kafka
        names = TopicNames(kafka.topic_prefix)
        topics = followed_topics(names)
        async with TopicReader(kafka=kafka, topics=topics, start=Start("beginning")) as reader:
            sent = await self._send(names.requests, source)
            recording = await self._gather(reader, sent, names, timeout_seconds)
            await self._until_stored(recording)
            await recording.catch_up(reader)
        books = await read_books(self.stage.settings.clickhouse)
        summary = summarise(recording, sent)
        reports = [(each, await self._report(each)) for each in shown_reports()]
        problems = findings(recording, sent)
        line, audit = self._audit(books, problems)
        if not self.silent:
            print_summary(summary, books=books)
            for report, answer in reports:
                print_report(report, answer)
            if line is not None:
                say(line)
        return Outcome(
            problems=tuple(problems),
            document=document(
                summary, books=books, audit=audit, reports=reports, problems=problems
            ),
        )

    async def _send(self, topic: str, source: str) -> list[SentLine]:
        places = await produce(
            [line.outgoing for line in self.lines], kafka=self.stage.settings.kafka, topic=topic
        )
        if not self.silent:
            bad = sum(line.meant != "completed" for line in self.lines)
            say(
                f"Sent the {len(places)} lines of {source} to {topic}"
                f"{f', {bad} of them bad on purpose' if bad else ''}."
            )
        return [
            SentLine(line=line, sent=place) for line, place in zip(self.lines, places, strict=True)
        ]

    async def _gather(
        self,
        reader: TopicReader,
        sent: Sequence[SentLine],
        names: TopicNames,
        timeout_seconds: float,
    ) -> Recording:
        shown = pick(self.lines)
        if shown and not self.silent:
            say(f"Tokens of {len(shown)} of them, as they come:\n")
        status = self.stage.running.status
        with token_view(shown, status=status, silent=self.silent) as view:
            recording = Recording(names=names, on_chunk=view.chunk, on_response=view.response)
            await recording.gather(reader, sent, timeout_seconds=timeout_seconds)
        if not self.silent:
            say("")
        return recording

    async def _until_stored(self, recording: Recording) -> None:
        """Wait until ClickHouse has what the topics have; the checks tell if it never does."""
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                # Only asking tells: the engine says nothing of itself when rows come in.
                while not await self._stored(recording):  # noqa: ASYNC110
                    await asyncio.sleep(_STORE_POLL_SECONDS)
        except TimeoutError:
            return

    async def _stored(self, recording: Recording) -> bool:
        stored = await read_stored(self.stage.settings.clickhouse)
        called = None if self.simulator is None else self.simulator.ledger.totals().calls
        return (
            stored.responses >= len(recording.responses)
            and stored.dead_letters >= len(recording.dead_letters)
            and not stored.in_flight
            and (called is None or stored.calls >= called)
        )

    async def _report(self, report: Report) -> Answer:
        # From yesterday, as the day may have changed since the demo began.
        since = (datetime.now(UTC) - timedelta(days=1)).date()
        sql = statement(report, since=since)
        return await ask(self.stage.settings.clickhouse, sql, limit=_REPORT_ROWS)

    def _audit(self, books: Books, problems: list[str]) -> tuple[str | None, dict[str, Any] | None]:
        """Compare with the simulator, where there is one; adds to the problems."""
        if self.simulator is None:
            return None, None
        theirs = simulator_accounts(self.simulator.ledger.lines())
        found = list(disagreements(books.accounts, theirs))
        problems += found
        line = audit_line(total(books.accounts), total(theirs), found)
        audit = {
            "agrees": not found,
            "line": line,
            "simulator": {name: asdict(each) for name, each in theirs.items()},
        }
        return line, audit
