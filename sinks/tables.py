"""The tables that rows are written to, column by column; the migrations make them so."""

from collections.abc import Iterable
from dataclasses import dataclass

_NAME = "LowCardinality(String)"
_MOMENT = "DateTime64(3, 'UTC')"
_MONEY = "Nullable(Decimal(38, 12))"
_MILLISECONDS = "Nullable(Float64)"
_TAGS = "Map(LowCardinality(String), String)"
_TOKENS = (
    ("input_tokens", "UInt64"),
    ("cached_tokens", "UInt64"),
    ("cache_write_tokens", "UInt64"),
    ("cache_write_1h_tokens", "UInt64"),
    ("output_tokens", "UInt64"),
    ("reasoning_tokens", "UInt64"),
)
_TIMING = (
    ("queued_ms", _MILLISECONDS),
    ("time_to_first_token_ms", _MILLISECONDS),
    ("total_ms", _MILLISECONDS),
)
_ATTEMPTS = (
    "Array(Tuple(member UInt32, attempt UInt32, provider LowCardinality(String), "
    "model LowCardinality(String), status LowCardinality(String), "
    "error_code LowCardinality(String)))"
)
_PLAN = (
    ("task_source", _NAME),
    ("task_confidence", "Nullable(Float64)"),
    ("complexity", "Nullable(Float64)"),
    ("estimated_cost_usd", _MONEY),
    (
        "planned",
        (
            f"Array(Tuple(member UInt32, role {_NAME}, stage UInt32, tier UInt32, "
            f"provider {_NAME}, model {_NAME}))"
        ),
    ),
    ("route_reasons", "Array(String)"),
    ("passed_over", f"Array(Tuple(provider {_NAME}, model {_NAME}, reason String))"),
)
_TIER_RESULTS = (
    "Array(Tuple(tier UInt32, provider LowCardinality(String), model LowCardinality(String), "
    "confidence Nullable(Float64), threshold Nullable(Float64), sufficed Bool))"
)
_STRATEGY = (
    ("attempt_roles", f"Array({_NAME})"),
    ("attempt_tiers", "Array(UInt32)"),
    ("attempt_repairs", "Array(Bool)"),
    ("ensemble_cancelled", "Array(UInt32)"),
    ("ensemble_timed_out", "Array(UInt32)"),
    ("ensemble_skipped", "Array(UInt32)"),
    ("ensemble_partial", "Bool"),
    ("ensemble_agreement", "Nullable(Float64)"),
    ("decided_by", _NAME),
    ("verdict_notes", "Array(String)"),
    ("cascade_confidence", _NAME),
    ("cascade_tiers", "UInt32"),
    ("cascade_tier", "Nullable(UInt32)"),
    ("cascade_sufficed", "Bool"),
    ("cascade_results", _TIER_RESULTS),
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose rows with the same key are one row: the one with the highest precedence."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    types: tuple[str, ...]
    clock: str
    """The column that says when the row came about: retention and partitions go by it."""
    moments: frozenset[int]
    """The places of the columns that hold milliseconds since 1970."""


def _table(name: str, key: str, clock: str, columns: Iterable[tuple[str, str]]) -> Table:
    pairs = tuple(columns)
    return Table(
        name=name,
        key=tuple(key.split()),
        columns=tuple(column for column, _ in pairs),
        types=tuple(kind for _, kind in pairs),
        clock=clock,
        moments=frozenset(at for at, (_, kind) in enumerate(pairs) if "DateTime64" in kind),
    )


REQUESTS = _table(
    "requests",
    "request_id",
    "accepted_at",
    (
        ("request_id", "String"),
        ("precedence", "UInt64"),
        ("accepted_at", _MOMENT),
        ("task", _NAME),
        ("team", _NAME),
        ("budget_key", _NAME),
        ("conversation_id", "String"),
        ("strategy", _NAME),
        ("hardware", _NAME),
        ("sensitivity", _NAME),
        ("providers", f"Array({_NAME})"),
        ("models", f"Array({_NAME})"),
        ("template", _NAME),
        ("output_format", _NAME),
        ("stream", "Bool"),
        ("reply_to", _NAME),
        ("deadline", f"Nullable({_MOMENT})"),
        ("message_count", "UInt32"),
        ("tool_count", "UInt32"),
        ("size_bytes", "UInt64"),
        ("content", "String"),
        ("tags", _TAGS),
        ("replay_id", _NAME),
        ("original_request_id", "String"),
        ("topic", _NAME),
        ("partition", "Int32"),
        ("offset", "Int64"),
        ("input_count", "UInt32"),
        ("dimensions", "UInt32"),
    ),
)

ATTEMPTS = _table(
    "attempts",
    "request_id row_id",
    "started_at",
    (
        ("row_id", "String"),
        ("precedence", "UInt8"),
        ("request_id", "String"),
        ("member", "UInt32"),
        ("attempt", "UInt32"),
        ("invocation", "String"),
        ("provider", _NAME),
        ("model", _NAME),
        ("hardware", _NAME),
        ("task", _NAME),
        ("team", _NAME),
        ("budget_key", _NAME),
        ("strategy", _NAME),
        ("prompt_name", _NAME),
        ("prompt_version", "UInt32"),
        ("prompt_sha256", _NAME),
        ("key_alias", _NAME),
        ("status", _NAME),
        ("finish_reason", _NAME),
        ("error_code", _NAME),
        *_TOKENS,
        ("usage_source", _NAME),
        ("cost_usd", _MONEY),
        ("cost_source", _NAME),
        *_TIMING,
        ("replay_id", _NAME),
        ("tags", _TAGS),
        ("started_at", _MOMENT),
        ("deadline", _MOMENT),
        ("finished_at", f"Nullable({_MOMENT})"),
    ),
)

RESPONSES = _table(
    "responses",
    "request_id",
    "completed_at",
    (
        ("request_id", "String"),
        ("precedence", "UInt64"),
        ("status", _NAME),
        ("text", "String"),
        ("data", "String"),
        ("tool_calls", "String"),
        ("text_bytes", "UInt64"),
        ("finish_reason", _NAME),
        ("quality_score", "Nullable(Float64)"),
        ("quality_parts", "Map(LowCardinality(String), Float64)"),
        ("quality_notes", "Array(String)"),
        ("provider", _NAME),
        ("model", _NAME),
        ("task", _NAME),
        ("team", _NAME),
        ("strategy", _NAME),
        *_TOKENS,
        ("usage_source", _NAME),
        ("cost_usd", _MONEY),
        (
            "attempts",
            _ATTEMPTS,
        ),
        ("ensemble_mode", _NAME),
        ("ensemble_members", "UInt32"),
        ("ensemble_answered", "UInt32"),
        ("ensemble_agreeing", "Array(UInt32)"),
        ("ensemble_dissenting", "Array(UInt32)"),
        ("ensemble_missing", "Array(UInt32)"),
        *_STRATEGY,
        *_PLAN,
        *_TIMING,
        ("prompt_name", _NAME),
        ("prompt_version", "UInt32"),
        ("prompt_sha256", _NAME),
        ("error_code", _NAME),
        ("error_message", "String"),
        ("tags", _TAGS),
        ("replay_id", _NAME),
        ("original_request_id", "String"),
        ("accepted_at", f"Nullable({_MOMENT})"),
        ("completed_at", _MOMENT),
        ("embedding_count", "UInt32"),
        ("embedding_dimensions", "UInt32"),
    ),
)

DEAD_LETTERS = _table(
    "dead_letters",
    "topic partition offset",
    "dead_at",
    (
        ("topic", _NAME),
        ("partition", "Int32"),
        ("offset", "Int64"),
        ("precedence", "UInt64"),
        ("timestamp", f"Nullable({_MOMENT})"),
        ("key", "Nullable(String)"),
        ("key_encoding", _NAME),
        ("value", "Nullable(String)"),
        ("value_encoding", _NAME),
        ("value_bytes", "Nullable(UInt64)"),
        ("headers", "String"),
        ("request_id", "String"),
        ("error_code", _NAME),
        ("error_message", "String"),
        ("dead_at", _MOMENT),
    ),
)

TABLES = (REQUESTS, ATTEMPTS, RESPONSES, DEAD_LETTERS)
"""In the order a batch is written."""
