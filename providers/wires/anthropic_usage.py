"""Token counts of the anthropic wire."""

from typing import Any

from millrace.providers.wires.wire import count
from millrace.schemas.usage import Usage

_INPUT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def merge_usage(known: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Take the newer counts, which are cumulative, in place of the older.

    Older versions of the API, and some gateways, tell input only at the start, or only at the
    end with zeros at the start: input counts that are all zero or absent replace nothing.
    """
    merged = known | {name: value for name, value in told.items() if value is not None}
    if not any(count(told.get(name)) for name in _INPUT):
        merged |= {name: known[name] for name in (*_INPUT, "cache_creation") if name in known}
    return merged


def anthropic_usage(raw: dict[str, Any]) -> Usage | None:
    """Bring a `usage` object into our convention; None when it counts nothing.

    `input_tokens` leaves out what the cache gave and took. With `iterations` (compaction,
    advisor passes) the top level leaves those passes out, but they are billed: the sum counts.
    """
    if count(raw.get("input_tokens")) is None and count(raw.get("output_tokens")) is None:
        return None
    iterations = raw.get("iterations")
    passes = iterations if isinstance(iterations, list) and iterations else [raw]
    total = Usage()
    for one in passes:
        total += _one_pass(one)
    # Thinking is itemised for the whole only.
    details = raw.get("output_tokens_details") or {}
    return total.model_copy(update={"reasoning_tokens": count(details.get("thinking_tokens")) or 0})


def _one_pass(raw: dict[str, Any]) -> Usage:
    cached = count(raw.get("cache_read_input_tokens")) or 0
    written = count(raw.get("cache_creation_input_tokens")) or 0
    lifetimes = raw.get("cache_creation") or {}
    return Usage(
        input_tokens=(count(raw.get("input_tokens")) or 0) + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=count(lifetimes.get("ephemeral_1h_input_tokens")) or 0,
        output_tokens=count(raw.get("output_tokens")) or 0,
    )
