"""Any record of any topic as one readable line, or as one JSON value."""

import base64
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from millrace.schemas.record import SCHEMA_HEADER
from millrace.streams.cli.output import printable
from millrace.streams.dead_letters import RawRecord

EXCERPT_CHARS = 72

Fields = dict[str, Any]
"""A value as it lies on the topic: showing must not fail on what is wrong or from the future."""


def record_line(record: RawRecord, *, kind: str) -> str:
    """Show a record of the topic of this kind (`requests`, `chunks`, …) on one line."""
    moment = record.timestamp.strftime("%H:%M:%S.%f")[:-3]
    place = f"{record.partition}@{record.offset}"
    summary = " ".join(_summary(record, kind).splitlines())
    return f"{moment} {kind:<13} {place:<8} {printable(summary)}"


def record_json(record: RawRecord) -> Fields:
    """Show a record whole. A value that is not JSON stands in `value_base64`."""
    shown: Fields = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp.isoformat() if record.timed else None,
        "key": None if record.key is None else record.key.decode(errors="replace"),
        "headers": {
            name: None if raw is None else raw.decode(errors="replace")
            for name, raw in record.headers
        },
    }
    try:
        shown["value"] = None if record.value is None else orjson.loads(record.value)
    except orjson.JSONDecodeError:
        shown["value"] = None
        shown["value_base64"] = base64.b64encode(record.value or b"").decode("ascii")
    return shown


def request_id_of(record: RawRecord) -> str | None:
    """The request a record belongs to, where one can be read from it."""
    fields = _fields(record)
    if fields is None:
        return None
    found = fields.get("request_id")
    if found is None:
        call = fields.get("call", fields)
        job = call.get("job") if isinstance(call, dict) else None
        found = job.get("request_id") if isinstance(job, dict) else None
    claim_id = fields.get("claim_id")
    if found is None and isinstance(claim_id, str):
        found = claim_id.partition("/")[0]
    return found if isinstance(found, str) else None


def _fields(record: RawRecord) -> Fields | None:
    try:
        value = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _summary(record: RawRecord, kind: str) -> str:
    if record.value is None:
        return f"tombstone for key {(record.key or b'').decode(errors='replace')!r}"
    fields = _fields(record)
    if fields is None:
        return f"not a JSON object: {_excerpt(record.value.decode(errors='replace'))}"
    show = _SHOWN.get(kind)
    if show is None or kind in _SHARED:
        header = (dict(record.headers).get(SCHEMA_HEADER) or b"").decode(errors="replace")
        show = _SHOWN.get(header, show)
    try:
        parts = show(fields) if show else [_excerpt(record.value.decode(errors="replace"))]
    except (AttributeError, IndexError, InvalidOperation, KeyError, TypeError, ValueError):
        parts = [_excerpt(record.value.decode(errors="replace"))]
    return "  ".join(part for part in parts if part)


def _excerpt(text: Any) -> str:
    flat = " ".join(str(text).split())
    return flat if len(flat) <= EXCERPT_CHARS else f"{flat[: EXCERPT_CHARS - 1]}…"


def _place(fields: Fields) -> str:
    return f"{fields['provider']}/{fields['model']}" if fields.get("model") else ""


def _money(fields: Fields) -> str:
    if fields.get("cost_usd") is None:
        return "cost unknown"
    so_far = "" if fields.get("cost_final", True) else " so far"
    return f"${fields['cost_usd']}{so_far}"


def _error(fields: Fields) -> str:
    error = fields.get("error")
    return f"{error['code']}: {_excerpt(error['message'])}" if error else ""


def _request(fields: Fields) -> list[str]:
    messages = fields.get("messages") or [{}]
    text = fields.get("prompt") or fields.get("template") or messages[-1].get("content", "")
    inputs = fields.get("inputs")
    if inputs:
        text = f"{len(inputs)} to embed: {inputs[0]}"
    return [
        str(fields.get("request_id") or "(no id)"),
        str(fields.get("task") or "general"),
        f"team {fields['team']}" if fields.get("team") else "",
        "replay" if fields.get("replay") else "",
        _excerpt(text if isinstance(text, str) else "(parts)"),
    ]


def _chunk(fields: Fields) -> list[str]:
    return [
        f"{fields['request_id']}/{fields['member']}/{fields['attempt']} #{fields['sequence']}",
        repr(fields["delta"]) if fields.get("delta") else "",
        f"end: {fields['end']}" if fields.get("end") else "",
    ]


def _response(fields: Fields) -> list[str]:
    total = (fields.get("timing") or {}).get("total_ms")
    return [
        fields["request_id"],
        fields["status"],
        _place(fields),
        _money(fields) if fields.get("usage") else "",
        f"{total:,.0f} ms" if total is not None else "",
        _error(fields) or _excerpt(fields.get("text") or _vectors(fields)),
    ]


def _call(fields: Fields) -> list[str]:
    job, member, attempt = fields["job"], fields["member"], fields["attempt"]
    candidates = fields["plan"]["members"][member]["candidates"]
    return [
        f"{job['request_id']}/{member}/{attempt}",
        _place(candidates[fields["candidate"]]),
        f"candidate {fields['candidate'] + 1} of {len(candidates)}",
    ]


def _outcome(fields: Fields) -> list[str]:
    return [
        *_call(fields["call"])[:2],
        fields["status"],
        _money(fields) if fields.get("usage") else "",
        _error(fields) or _excerpt(fields.get("text") or _vectors(fields)),
    ]


def _vectors(fields: Fields) -> str:
    vectors = fields.get("embeddings")
    return f"{len(vectors)} vectors of {len(vectors[0])} numbers" if vectors else ""


def _refusal(fields: Fields) -> list[str]:
    return [fields["request_id"], fields["status"], _error(fields)]


def _opened(fields: Fields) -> list[str]:
    plan = fields["plan"]
    return [fields["job"]["request_id"], f"opened: {len(plan['members'])} members"]


def _timeout(fields: Fields) -> list[str]:
    return [fields["request_id"], f"join timed out, due {fields['due']}"]


def _usage(fields: Fields) -> list[str]:
    usage = fields["usage"]
    return [
        fields["row_id"],
        fields["event"],
        _place(fields),
        f"{usage['input_tokens']}+{usage['output_tokens']} tokens {usage['source']}",
        _money(fields),
    ]


def _claim(fields: Fields) -> list[str]:
    most = f"${fields['usd']}" if fields.get("usd") is not None else "price unknown"
    return [
        _call(fields["call"])[0],
        f"asks budget {fields['pending'][0]}",
        f"for at most {fields['tokens']} tokens, {most}",
    ]


def _settlement(fields: Fields) -> list[str]:
    cost = f"${fields['usd']}" if fields.get("usd") is not None else "cost unknown"
    return [
        fields["claim_id"],
        f"tells budget {fields['budget']}",
        f"{fields['tokens']} tokens, {cost}",
        "" if fields.get("final", True) else "broken off",
    ]


def _release(fields: Fields) -> list[str]:
    return [fields["claim_id"], f"gives back to budget {fields['budget']}"]


def _alert(fields: Fields) -> list[str]:
    limits = (
        f"${fields['spent_usd']} of ${fields['limit_usd']}" if fields.get("limit_usd") else "",
        f"{fields['spent_tokens']} of {fields['limit_tokens']} tokens"
        if fields.get("limit_tokens")
        else "",
    )
    return [
        f"budget {fields['budget']} has spent {Decimal(fields['share']):.0%}",
        f"of the {fields['window']} from {fields['window_start']}",
        *limits,
    ]


def _cancellation(fields: Fields) -> list[str]:
    return [fields["request_id"], _excerpt(fields.get("reason") or "")]


def _dead_letter(fields: Fields) -> list[str]:
    return [
        f"{fields['topic']} {fields['partition']}@{fields['offset']}",
        str(fields.get("request_id") or ""),
        _error(fields),
    ]


_SHOWN: dict[str, Callable[[Fields], list[str]]] = {
    "requests": _request,
    "chunks": _chunk,
    "responses": _response,
    "evaluations": _response,
    "calls": _call,
    "outcomes": _outcome,
    "refusal": _refusal,
    "join-opened": _opened,
    "join-timeout": _timeout,
    "usage": _usage,
    "cancellations": _cancellation,
    "dead-letters": _dead_letter,
    # by the header `schema`, for topics named by `reply_to`
    "response": _response,
    "outcome": _outcome,
    "budget-claim": _claim,
    "budget-settlement": _settlement,
    "budget-release": _release,
    "budget-alert": _alert,
}
_SHARED = frozenset({"outcomes", "usage"})
"""Topics on which several records lie."""
