"""Saying what a replay comes to, and how its results compare with the originals."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any

from millrace.streams.cli.clickhouse import Answer
from millrace.streams.cli.output import UNKNOWN, print_json, print_table, say
from millrace.streams.replay import SKIPPED, Tally
from millrace.streams.status import dollars

SHOWN_ROWS = 20


class ReplayReport:
    """Prints tables as they come or, for programs, one document at the end."""

    def __init__(self, replay_id: str, *, as_json: bool) -> None:
        self._as_json = as_json
        self._document: dict[str, Any] = {"replay_id": replay_id}
        self._replay_id = replay_id

    def tally(self, tally: Tally, *, sent: bool, output_tokens: int) -> None:
        """Say how many requests, by task, and about what they cost."""
        if self._as_json:
            self._document.update(_tally_document(tally, sent=sent, output_tokens=output_tokens))
            return
        say(f"Replay {self._replay_id}")
        rows: list[tuple[str, str, str]] = [
            (task, f"{part.requests:,}", _about(part.requests, part.cost_usd, part.unpriced))
            for task, part in sorted(tally.tasks.items())
        ]
        if rows:
            cost = _about(tally.requests, tally.cost_usd, tally.unpriced)
            rows.append(("all", f"{tally.requests:,}", cost))
            print_table(("Task", "Requests", "About"), rows, right=frozenset({"Requests"}))
            say(f"An answer is taken to have {output_tokens} tokens where nothing bounds it lower.")
        for reason, count in tally.skipped.most_common():
            example = tally.reasons.get(reason)
            why = f", such as: {example}" if example else "."
            say(f"Left out: {count:,} that {SKIPPED[reason]}{why}")
        if sent:
            say(f"Sent {tally.requests:,} request(s).")
        else:
            say(f"A dry run: {tally.requests:,} request(s) would be sent. Nothing was.")

    def results(self, summary: dict[str, Any], rows: Answer, *, missing: AbstractSet[str]) -> None:
        """Set originals and replays side by side."""
        if self._as_json:
            self._document["summary"] = summary
            self._document["results"] = [
                dict(zip(rows.columns, row, strict=True)) for row in rows.rows
            ]
            self._document["missing"] = sorted(missing)
            return
        say(f"\n{summary['requests']} results, {summary['same_text']} with the same text")
        print_table(
            ("", "Original", "Replay"),
            [
                ("completed", summary["original_completed"], summary["completed"]),
                ("cost", _money(summary["original_cost_usd"]), _money(summary["cost_usd"])),
                ("median time", _ms(summary["original_median_ms"]), _ms(summary["median_ms"])),
            ],
            right=frozenset({"Original", "Replay"}),
        )
        say("")
        print_table(
            ("Request", "Ended", "Model", "Cost", "Time", "Same text"),
            [
                _compared(dict(zip(rows.columns, row, strict=True)))
                for row in rows.rows[:SHOWN_ROWS]
            ],
        )
        if len(rows.rows) > SHOWN_ROWS:
            say(f"and {len(rows.rows) - SHOWN_ROWS:,} more: `millrace report evaluations`")
        if missing:
            some = ", ".join(sorted(missing)[:3])
            say(f"{len(missing):,} request(s) have not ended yet, such as {some}.", err=True)

    def finish(self) -> None:
        """Print the document, where one was asked for."""
        if self._as_json:
            print_json(self._document)


def _tally_document(tally: Tally, *, sent: bool, output_tokens: int) -> dict[str, Any]:
    return {
        "sent": sent,
        "requests": tally.requests,
        "estimated_cost_usd": format(tally.cost_usd, "f"),
        "requests_without_price": tally.unpriced,
        "assumed_output_tokens": output_tokens,
        "tasks": {
            task: {
                "requests": part.requests,
                "estimated_cost_usd": format(part.cost_usd, "f"),
                "requests_without_price": part.unpriced,
            }
            for task, part in sorted(tally.tasks.items())
        },
        "left_out": dict(tally.skipped),
        "left_out_reasons": dict(tally.reasons),
    }


def _about(requests: int, cost_usd: Decimal, unpriced: int) -> str:
    if unpriced == requests:
        return "price unknown"
    more = f" + {unpriced:,} of unknown price" if unpriced else ""
    return f"{dollars(cost_usd)}{more}"


def _money(value: Any) -> str:
    return dollars(None if value is None else Decimal(str(value)))


def _ms(value: Any) -> str:
    return UNKNOWN if value is None else f"{float(value):,.0f} ms"


def _compared(row: dict[str, Any]) -> tuple[str, ...]:
    def shown(value: Any) -> str:
        return UNKNOWN if value in (None, "") else str(value)

    def both(name: str, show: Callable[[Any], str] = shown) -> str:
        before, after = show(row[f"original_{name}"]), show(row[f"replay_{name}"])
        return before if before == after else f"{before} → {after}"

    same = row["same_text"]
    return (
        str(row["original_request_id"]),
        both("status"),
        both("model"),
        both("cost_usd", _money),
        both("total_ms", _ms),
        UNKNOWN if same is None else "yes" if same in (True, 1, "1") else "no",
    )
