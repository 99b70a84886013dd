"""Ready questions over the views, with how to show the answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

ColumnFormat = Literal[
    "text", "count", "dollars", "milliseconds", "share", "day", "instant", "yes_no"
]
"""`dollars` are exact decimal texts, `share` is from 0 to 1, `instant` is UTC."""


@dataclass(frozen=True, slots=True)
class ReportColumn:
    """A column of a report: its name in the SQL, its heading, and what its values are."""

    name: str
    heading: str
    format: ColumnFormat = "text"


@dataclass(frozen=True, slots=True)
class Report:
    """A query with a title. Its one parameter, `since` (Date), is the first day to look at."""

    name: str
    title: str
    columns: tuple[ReportColumn, ...]
    sql: str


_COST = (
    ReportColumn("requests", "Requests", "count"),
    ReportColumn("attempts", "Attempts", "count"),
    ReportColumn("input_tokens", "Input tokens", "count"),
    ReportColumn("cached_tokens", "of them cached", "count"),
    ReportColumn("output_tokens", "Output tokens", "count"),
    ReportColumn("cost_usd", "Cost", "dollars"),
    ReportColumn("estimated", "Estimated", "count"),
    ReportColumn("lost", "Lost", "count"),
    ReportColumn("unknown_cost", "Cost unknown", "count"),
)
_DAY = ReportColumn("day", "Day", "day")
_PROVIDER = ReportColumn("provider", "Provider")
_MODEL = ReportColumn("model", "Model")
_CODE = ReportColumn("code", "Code")


def _cost(name: str, by: str, *keys: ReportColumn) -> Report:
    view = name.replace("-", "_")
    names = ", ".join(key.name for key in keys)
    sums = ", ".join(f"sum(v.{column.name}) AS {column.name}" for column in _COST)
    order = "day" if keys == (_DAY,) else f"cost_usd DESC NULLS LAST, {names}"
    return Report(
        name,
        f"Cost by {by}",
        (*keys, *_COST),
        f"SELECT {names}, {sums} FROM {view} AS v WHERE day >= {{since:Date}} "  # noqa: S608  # names from this module
        f"GROUP BY {names} ORDER BY {order}",
    )


def _rows(
    name: str, title: str, order: str, *columns: ReportColumn, view: str | None = None
) -> Report:
    names = ", ".join(column.name for column in columns)
    source = view or name.replace("-", "_")
    return Report(
        name,
        title,
        columns,
        f"SELECT {names} FROM {source} WHERE day >= {{since:Date}} ORDER BY {order}",  # noqa: S608  # names from this module
    )


_ALL = (
    _rows(
        "endings",
        "How requests ended",
        "day, requests DESC, status, task, code",
        _DAY,
        ReportColumn("status", "Ended"),
        ReportColumn("task", "Task"),
        _CODE,
        ReportColumn("requests", "Requests", "count"),
        ReportColumn("total_p50_ms", "Median time", "milliseconds"),
        ReportColumn("cost_usd", "Cost", "dollars"),
        ReportColumn("unknown_cost", "Cost unknown", "count"),
    ),
    _cost("cost-by-day", "day", _DAY),
    _cost("cost-by-team", "team", ReportColumn("team", "Team")),
    _cost("cost-by-model", "model", _PROVIDER, _MODEL),
    _cost("cost-by-task", "task", ReportColumn("task", "Task")),
    _cost("cost-by-strategy", "strategy", ReportColumn("strategy", "Strategy")),
    _cost(
        "cost-by-prompt",
        "prompt",
        ReportColumn("prompt_name", "Prompt"),
        ReportColumn("prompt_version", "Version", "count"),
    ),
    _rows(
        "request-costs",
        "What each request cost, the dearest first",
        "cost_usd DESC NULLS LAST, request_id, day LIMIT 1000",
        _DAY,
        ReportColumn("request_id", "Request"),
        ReportColumn("task", "Task"),
        ReportColumn("team", "Team"),
        ReportColumn("strategy", "Strategy"),
        ReportColumn("members", "Members", "count"),
        ReportColumn("attempts", "Attempts", "count"),
        ReportColumn("stopped", "Stopped", "count"),
        ReportColumn("cost_usd", "Cost", "dollars"),
        ReportColumn("stopped_usd", "of it stopped", "dollars"),
        ReportColumn("estimated", "Estimated", "count"),
        ReportColumn("unknown_cost", "Cost unknown", "count"),
    ),
    _rows(
        "embeddings",
        "What was embedded",
        "day, provider, model, team, dimensions",
        _DAY,
        _PROVIDER,
        _MODEL,
        ReportColumn("team", "Team"),
        ReportColumn("dimensions", "Dimensions", "count"),
        ReportColumn("requests", "Requests", "count"),
        ReportColumn("vectors", "Vectors", "count"),
        ReportColumn("input_tokens", "Input tokens", "count"),
        ReportColumn("cost_usd", "Cost", "dollars"),
        ReportColumn("unknown_cost", "Cost unknown", "count"),
        ReportColumn("total_p50_ms", "Median time", "milliseconds"),
    ),
    _rows(
        "latency",
        "How fast completed calls were",
        "day, provider, model",
        _DAY,
        _PROVIDER,
        _MODEL,
        ReportColumn("attempts", "Calls", "count"),
        ReportColumn("first_token_p50_ms", "First token p50", "milliseconds"),
        ReportColumn("first_token_p90_ms", "p90", "milliseconds"),
        ReportColumn("first_token_p99_ms", "p99", "milliseconds"),
        ReportColumn("total_p50_ms", "Total p50", "milliseconds"),
        ReportColumn("total_p90_ms", "p90", "milliseconds"),
        ReportColumn("total_p99_ms", "p99", "milliseconds"),
    ),
    _rows(
        "errors",
        "Calls that did not complete",
        "day, attempts DESC, provider, model, code",
        _DAY,
        _PROVIDER,
        _MODEL,
        _CODE,
        ReportColumn("attempts", "Calls", "count"),
        ReportColumn("requests", "Requests", "count"),
        ReportColumn("cost_usd", "Cost", "dollars"),
        ReportColumn("unknown_cost", "Cost unknown", "count"),
        ReportColumn("last_started_at", "Last", "instant"),
    ),
    _rows(
        "keys",
        "Which key made the calls",
        "day, provider, key_alias",
        _DAY,
        _PROVIDER,
        ReportColumn("key_alias", "Key"),
        ReportColumn("models", "Models", "count"),
        ReportColumn("attempts", "Calls", "count"),
        ReportColumn("completed", "Completed", "count"),
        ReportColumn("refused", "Key refused", "count"),
        ReportColumn("rate_limited", "Limited", "count"),
        ReportColumn("input_tokens", "Input tokens", "count"),
        ReportColumn("output_tokens", "Output tokens", "count"),
        ReportColumn("cost_usd", "Cost", "dollars"),
        ReportColumn("unknown_cost", "Cost unknown", "count"),
        ReportColumn("last_started_at", "Last", "instant"),
        view="calls_by_key",
    ),
    _rows(
        "quality",
        "How good answers were",
        "day, provider, model, task, prompt_name, prompt_version",
        _DAY,
        _PROVIDER,
        _MODEL,
        ReportColumn("task", "Task"),
        ReportColumn("prompt_name", "Prompt"),
        ReportColumn("prompt_version", "Version", "count"),
        ReportColumn("answers", "Answers", "count"),
        ReportColumn("score", "Mean score", "share"),
        ReportColumn("score_p10", "p10", "share"),
        ReportColumn("noted", "Mended", "count"),
        ReportColumn("invalid", "None valid", "count"),
    ),
    _rows(
        "fallbacks",
        "Requests that needed another attempt",
        "day, fell_back DESC, task",
        _DAY,
        ReportColumn("task", "Task"),
        ReportColumn("requests", "Requests", "count"),
        ReportColumn("fell_back", "Fell back", "count"),
        ReportColumn("completed_after_fallback", "Then completed", "count"),
        ReportColumn("fallback_share", "Share", "share"),
        ReportColumn("success_share", "of these completed", "share"),
    ),
    _rows(
        "fallback-causes",
        "Why another attempt was needed",
        "day, attempts DESC, provider, model, code",
        _DAY,
        _PROVIDER,
        _MODEL,
        _CODE,
        ReportColumn("attempts", "Attempts", "count"),
        ReportColumn("requests", "Requests", "count"),
        ReportColumn("completed_requests", "Completed in the end", "count"),
    ),
    _rows(
        "routing",
        "How requests were routed",
        "day, requests DESC, task, strategy, provider, model",
        _DAY,
        ReportColumn("task", "Task"),
        ReportColumn("strategy", "Strategy"),
        _PROVIDER,
        _MODEL,
        ReportColumn("requests", "Requests", "count"),
        ReportColumn("guessed", "Task guessed", "count"),
        ReportColumn("complexity", "Complexity", "share"),
        ReportColumn("estimated_usd", "Estimated", "dollars"),
        ReportColumn("cost_usd", "Cost", "dollars"),
    ),
    _rows(
        "passed-over",
        "Models that were not chosen",
        "day, requests DESC, provider, model, reason",
        _DAY,
        _PROVIDER,
        _MODEL,
        ReportColumn("reason", "Why"),
        ReportColumn("requests", "Requests", "count"),
        view="passed_over_reasons",
    ),
    _rows(
        "tiers",
        "How often each tier of the cascades sufficed",
        "day, task, tier, provider, model",
        _DAY,
        ReportColumn("task", "Task"),
        ReportColumn("confidence_by", "Trusted by"),
        ReportColumn("tier", "Tier", "count"),
        _PROVIDER,
        _MODEL,
        ReportColumn("asked", "Asked", "count"),
        ReportColumn("sufficed", "Sufficed", "count"),
        ReportColumn("sufficed_share", "Share", "share"),
        ReportColumn("confidence", "Confidence", "share"),
    ),
    _rows(
        "ensembles",
        "How several members came to one answer",
        "day, requests DESC, task, strategy, mode, decided_by",
        _DAY,
        ReportColumn("task", "Task"),
        ReportColumn("strategy", "Strategy"),
        ReportColumn("mode", "Mode"),
        ReportColumn("decided_by", "Decided by"),
        ReportColumn("requests", "Requests", "count"),
        ReportColumn("completed", "Completed", "count"),
        ReportColumn("partial", "Without some", "count"),
        ReportColumn("agreement", "Agreement", "share"),
        ReportColumn("cost_usd", "Cost", "dollars"),
        ReportColumn("unknown_cost", "Cost unknown", "count"),
    ),
    _rows(
        "cache-savings",
        "Input read from providers' caches",
        "day, provider, model",
        _DAY,
        _PROVIDER,
        _MODEL,
        ReportColumn("input_tokens", "Input tokens", "count"),
        ReportColumn("cached_tokens", "Cached", "count"),
        ReportColumn("cache_write_tokens", "Written", "count"),
        ReportColumn("cached_share", "Cached", "share"),
    ),
    _rows(
        "dead-letters",
        "Why records were set aside",
        "day, records DESC, topic, code",
        _DAY,
        ReportColumn("topic", "Topic"),
        _CODE,
        ReportColumn("records", "Records", "count"),
        ReportColumn("with_request_id", "With a request id", "count"),
        ReportColumn("last_message", "Last message"),
        ReportColumn("last_dead_at", "Last", "instant"),
        view="dead_letter_reasons",
    ),
    Report(
        "evaluations",
        "Replays beside the originals",
        (
            ReportColumn("replay_id", "Replay"),
            ReportColumn("original_request_id", "Request"),
            ReportColumn("original_status", "Original ended"),
            ReportColumn("replay_status", "Replay ended"),
            ReportColumn("original_model", "Original model"),
            ReportColumn("replay_model", "Replay model"),
            ReportColumn("original_cost_usd", "Original cost", "dollars"),
            ReportColumn("replay_cost_usd", "Replay cost", "dollars"),
            ReportColumn("original_total_ms", "Original time", "milliseconds"),
            ReportColumn("replay_total_ms", "Replay time", "milliseconds"),
            ReportColumn("same_text", "Same text", "yes_no"),
        ),
        "SELECT replay_id, original_request_id, original_status, replay_status, original_model, "
        "replay_model, original_cost_usd, replay_cost_usd, original_total_ms, replay_total_ms, "
        "same_text FROM evaluations WHERE toDate(completed_at) >= {since:Date} "
        "ORDER BY replay_id, original_request_id",
    ),
    Report(
        "open",
        "Requests that have not ended",
        (
            ReportColumn("request_id", "Request"),
            ReportColumn("task", "Task"),
            ReportColumn("team", "Team"),
            ReportColumn("accepted_at", "Accepted", "instant"),
            ReportColumn("deadline", "Deadline", "instant"),
            ReportColumn("overdue", "Overdue", "yes_no"),
        ),
        "SELECT request_id, task, team, accepted_at, deadline, overdue FROM requests_open "
        "WHERE toDate(accepted_at) >= {since:Date} ORDER BY accepted_at, request_id",
    ),
    Report(
        "in-flight",
        "Calls under way",
        (
            _PROVIDER,
            _MODEL,
            ReportColumn("attempts", "Calls", "count"),
            ReportColumn("reserved_usd", "Reserved", "dollars"),
            ReportColumn("unknown_cost", "Cost unknown", "count"),
            ReportColumn("oldest_started_at", "Oldest", "instant"),
        ),
        "SELECT provider, model, attempts, reserved_usd, unknown_cost, oldest_started_at "
        "FROM in_flight WHERE toDate(oldest_started_at) >= {since:Date} ORDER BY provider, model",
    ),
)

REPORTS: Mapping[str, Report] = MappingProxyType({report.name: report for report in _ALL})
"""By name, in the order they are best read."""
