"""Printing what the demo found, for people and as one JSON document."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from millrace.sinks.reports import REPORTS, Report
from millrace.streams.cli.clickhouse import Answer
from millrace.streams.cli.demo_books import Account, Books, total
from millrace.streams.cli.demo_summary import Fallback, Summary
from millrace.streams.cli.output import print_table, printable, say
from millrace.streams.cli.simulate import PORT
from millrace.streams.status import dollars

SHOWN_REPORTS = ("cost-by-team", "latency", "fallbacks", "tiers", "ensembles")
_EXCERPT = 100
_SIMULATED_OLLAMA = f"http://127.0.0.1:{PORT}/any/ollama"
_RIGHT = frozenset({"Requests", "Calls", "Completed", "Input", "Output", "Cost", "Line"})


def print_summary(summary: Summary, *, books: Books) -> None:
    """Print how everything ended, went, voted and was set aside."""
    _print_endings(summary)
    print_table(
        ("Strategy", "Provider", "Model", "Calls", "Completed", "Input", "Output", "Cost"),
        [
            (
                route.strategy,
                route.provider,
                route.model,
                route.calls,
                route.completed,
                f"{route.input_tokens:,}",
                f"{route.output_tokens:,}",
                dollars(route.cost_usd),
            )
            for route in summary.routes
        ],
        title="Routes taken, with tokens",
        right=_RIGHT,
    )
    say(_spent(books))
    say("")
    if summary.fallbacks:
        say("Fallbacks")
        for fallback in summary.fallbacks:
            say(f"  {printable(fallback.request_id)}: {_chain(fallback)}")
        say("")
    if summary.agreements:
        say("Ensembles")
        for each in summary.agreements:
            dissent = f"; against: {', '.join(each.dissenting)}" if each.dissenting else ""
            say(
                f"  {printable(each.request_id)}: {len(each.agreeing)} of {each.members} agree on "
                f"{_excerpt(each.answer)!r}{printable(dissent)}"
            )
        say("")
    if summary.climbs:
        say("Cascades, from cheap to dear")
        for climb in summary.climbs:
            answered = "trusted" if climb.sufficed else "the best there was"
            path = " → ".join(climb.tiers) or "no answer"
            say(f"  {printable(climb.request_id)}: {printable(path)}: {answered}")
        say("")
    if summary.set_aside:
        print_table(
            ("Line", "Code", "Why", "Requester told"),
            [
                (each.line, each.code, _excerpt(each.message), "yes" if each.request_id else "-")
                for each in summary.set_aside
            ],
            title="Dead letters, whole and byte for byte on llm.dead-letters",
            right=_RIGHT,
        )
        say("")


def _print_endings(summary: Summary) -> None:
    say("How requests ended")
    for status, count in summary.endings.items():
        say(f"  {status:<10} {count:>4}")
    if summary.duplicates:
        say(f"  {'duplicate':<10} {summary.duplicates:>4}  (the same request again, asked once)")
    untold = sum(each.request_id is None for each in summary.set_aside)
    if untold:
        say(f"  {'set aside':<10} {untold:>4}  (no id to answer under, or one in use)")
    if summary.first_token_p50_ms is not None:
        p90 = summary.first_token_p90_ms
        tail = f", p90 {p90:,.0f} ms" if p90 is not None else ""
        whole = (
            f"; whole answer: p50 {summary.total_p50_ms:,.0f} ms" if summary.total_p50_ms else ""
        )
        say(f"  time to first token: p50 {summary.first_token_p50_ms:,.0f} ms{tail}{whole}")
    say("")


def _spent(books: Books) -> str:
    sums = total(books.accounts)
    tokens = sums.counted + sums.estimated
    unknown = f", {books.unknown_cost} call(s) of unknown cost" if books.unknown_cost else ""
    return (
        f"{sums.calls} calls: {tokens.input_tokens:,} input tokens "
        f"({tokens.cached_tokens:,} cached), {tokens.output_tokens:,} output tokens, "
        f"{dollars(books.cost_usd)}{unknown}"
    )


def audit_line(ours: Account, theirs: Account, problems: Sequence[str]) -> str:
    """The check of the books against the simulator's ledger, in one line."""
    if problems:
        return f"Books: they differ from the simulator's ledger in {len(problems)} place(s)."
    counted = ours.counted
    line = (
        f"Books: {counted.calls} calls, {counted.input_tokens:,} input and "
        f"{counted.output_tokens:,} output tokens: the ledger in ClickHouse = the simulator's."
    )
    if ours.refused:
        line += f" {ours.refused} refused calls cost nothing."
    if ours.estimated.calls:
        made = theirs.estimated.input_tokens + theirs.estimated.output_tokens
        booked = ours.estimated.input_tokens + ours.estimated.output_tokens
        line += (
            f" {ours.estimated.calls} calls broke off and are booked as estimates: {booked:,} "
            f"tokens, {made:,} in truth."
        )
    return line


def print_next(program: str, *, live: bool) -> None:
    """Name commands to try."""
    if live:
        say("Next, the pipeline for your own requests, and from a second terminal one to answer:")
        say(f"  {program} up --embedded")
    else:
        say("Next, the same pipeline for your own requests, on the simulator still:")
        say(f"  {program} simulate")
        say(f"  OLLAMA_BASE_URL={_SIMULATED_OLLAMA} {program} up --embedded")
    say(f'  {program} send --prompt "Why is the sky blue?" --follow')
    say(f"  {program} report")
    say(
        f"or on your Kafka, with your keys: KAFKA_BOOTSTRAP_SERVERS=… OPENAI_API_KEY=… {program} up"
    )


def document(
    summary: Summary,
    *,
    books: Books,
    audit: dict[str, Any] | None,
    reports: Sequence[tuple[Report, Answer]],
    problems: Sequence[str],
) -> dict[str, Any]:
    """Everything, for programs; money as texts."""
    figures = asdict(summary)
    figures["fallbacks"] = [
        {
            "request_id": each.request_id,
            "attempts": [attempt.model_dump(mode="json") for attempt in each.attempts],
        }
        for each in summary.fallbacks
    ]
    for route in figures["routes"]:
        route["cost_usd"] = None if route["cost_usd"] is None else format(route["cost_usd"], "f")
    return {
        "simulated": audit is not None,
        "problems": list(problems),
        **figures,
        "books": {
            "cost_usd": format(books.cost_usd, "f"),
            "unknown_cost": books.unknown_cost,
            "total": asdict(total(books.accounts)),
            "providers": {name: asdict(each) for name, each in books.accounts.items()},
        },
        "audit": audit,
        "reports": [
            {
                "report": report.name,
                "rows": [dict(zip(answer.columns, row, strict=True)) for row in answer.rows],
            }
            for report, answer in reports
        ],
    }


def shown_reports() -> list[Report]:
    """The views that the demo ends with."""
    return [REPORTS[name] for name in SHOWN_REPORTS]


def _chain(fallback: Fallback) -> str:
    return " → ".join(
        f"{each.provider}/{each.model} {each.error.code if each.error else each.status}"
        for each in fallback.attempts
    )


def _excerpt(text: str) -> str:
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= _EXCERPT else f"{flat[: _EXCERPT - 1]}…"
