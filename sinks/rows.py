"""From records to rows: what each column of a table is told.

What is absent is an empty text, but where zero or empty would say something else: there it is
NULL. Times are milliseconds since 1970. Money is rounded to a trillionth of a dollar, half to
even, as far as the columns go.
"""

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from pydantic_core import to_json

from millrace.schemas.call import Plan, PromptRef
from millrace.schemas.dead_letter import Blob, DeadLetter
from millrace.schemas.errors import RowRejectedError
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.request import Request
from millrace.schemas.response import Quality, Response
from millrace.schemas.usage import Timing, Usage
from millrace.sinks.protocol import ReceivedRequest
from millrace.sinks.verdict_rows import strategy_columns, verdict_columns

Row = tuple[Any, ...]

_RESERVED, _SPENT = 1, 2
_CONTENT = {"prompt", "messages", "template", "variables", "inputs", "tools"}
_MONEY_STEP = Decimal("1e-12")
_MONEY_LIMIT = Decimal("1e26")
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
# DateTime64 reaches from 1900 to 2299; a deadline of the year 9999 means "never".
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_LATEST = datetime(2299, 12, 31, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_MS = (_EARLIEST - _EPOCH).days * 86_400_000
_HIGHEST = (1 << 64) - 1
_NO_USAGE = Usage()


def request_row(received: ReceivedRequest, *, store_text: bool) -> Row:
    """The row of `requests`. Of several records with one id the one received first counts."""
    request = received.request
    route = request.route
    replay = request.replay
    return (
        received.request_id,
        _first_wins(received.accepted_at, received.offset),
        _ms(received.accepted_at),
        request.task or "",
        request.team or "",
        request.budget_key or request.team or "",
        request.conversation_id or "",
        route.strategy,
        route.hardware,
        route.sensitivity,
        route.providers,
        route.models,
        request.template or "",
        request.output.format,
        request.stream,
        request.reply_to or "",
        _ms_or_none(request.deadline),
        _message_count(request),
        len(request.tools),
        received.size_bytes,
        _content(request) if store_text else "",
        request.tags,
        replay.replay_id if replay else "",
        replay.original_request_id if replay else "",
        received.topic,
        received.partition,
        received.offset,
        len(request.inputs or ()),
        request.dimensions or 0,
    )


def attempt_row(event: UsageEvent) -> Row:
    """The row of `attempts`: `spent` takes the place of `reserved`, whichever came last."""
    spent = event.event == "spent"
    return (
        event.row_id,
        _SPENT if spent else _RESERVED,
        event.request_id,
        event.member,
        event.attempt,
        event.invocation,
        event.provider,
        event.model,
        event.hardware,
        event.task,
        event.team or "",
        event.budget_key or event.team or "",
        event.strategy,
        *_prompt(event.prompt),
        event.key_alias or "",
        event.status or "",
        event.finish_reason or "",
        event.error_code or "",
        *_tokens(event.usage),
        event.usage.source if spent else "estimated",
        money(event.cost_usd),
        event.cost_source,
        *_timing(event.timing),
        event.replay_id or "",
        event.tags,
        _ms(event.started_at),
        _ms(event.deadline),
        _ms_or_none(event.finished_at),
    )


def response_row(response: Response, *, store_text: bool) -> Row:
    """The row of `responses`. Of several terminal records with one id the earliest counts."""
    usage = response.usage
    error = response.error
    replay = response.replay
    tool_calls = [call.model_dump(mode="json") for call in response.tool_calls]
    return (
        response.request_id,
        _first_wins(response.completed_at),
        response.status,
        response.text if store_text else "",
        _json(response.data) if store_text and response.data is not None else "",
        _json(tool_calls) if store_text and tool_calls else "",
        len(response.text.encode(errors="surrogatepass")),
        response.finish_reason or "",
        *_quality(response.quality),
        response.provider or "",
        response.model or "",
        response.task or "",
        response.team or "",
        response.strategy or "",
        *_tokens(usage or _NO_USAGE),
        usage.source if usage else "",
        money(response.cost_usd),
        [
            (
                attempt.member,
                attempt.attempt,
                attempt.provider,
                attempt.model,
                attempt.status,
                attempt.error.code if attempt.error else "",
            )
            for attempt in response.attempts
        ],
        *verdict_columns(response.ensemble),
        *strategy_columns(response.attempts, response.ensemble, response.cascade),
        *_plan(response.plan),
        *_timing(response.timing),
        *_prompt(response.prompt),
        error.code if error else "",
        error.message if error else "",
        response.tags,
        replay.replay_id if replay else "",
        replay.original_request_id if replay else "",
        _ms_or_none(response.accepted_at),
        _ms(response.completed_at),
        len(response.embeddings),
        len(response.embeddings[0]) if response.embeddings else 0,
    )


def dead_letter_row(letter: DeadLetter, *, store_text: bool) -> Row:
    """The row of `dead_letters`. The bytes are kept as the record carries them: text or base64."""
    headers = [header.model_dump(mode="json") for header in letter.headers]
    return (
        letter.topic,
        letter.partition,
        letter.offset,
        _first_wins(letter.dead_at),
        _ms_or_none(letter.timestamp),
        *_blob(letter.key, store_text=store_text),
        *_blob(letter.value, store_text=store_text),
        len(letter.value.bytes()) if letter.value else None,
        _json(headers) if store_text and headers else "",
        letter.request_id or "",
        letter.error.code,
        letter.error.message,
        _ms(letter.dead_at),
    )


def money(value: Decimal | None) -> Decimal | None:
    """Round to what the money columns hold; unknown stays unknown.

    Raises:
        RowRejectedError: The amount has more than 26 digits before the point.
    """
    if value is None:
        return None
    if value >= _MONEY_LIMIT:
        raise RowRejectedError(f"cost_usd is {value:.3e}: no column holds so large an amount")
    return value.quantize(_MONEY_STEP, context=_EXACT)


def _first_wins(moment: datetime, offset: int = 0) -> int:
    # The earlier, the higher; within a millisecond a partition's order decides.
    return _HIGHEST - (((_ms(moment) - _EARLIEST_MS) << 20) | (offset & 0xFFFFF))


def _ms(moment: datetime) -> int:
    since = min(max(moment, _EARLIEST), _LATEST) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000


def _ms_or_none(moment: datetime | None) -> int | None:
    return None if moment is None else _ms(moment)


def _message_count(request: Request) -> int:
    if request.inputs is not None:
        return 0
    return len(request.messages) if request.messages is not None else 1


def _content(request: Request) -> str:
    content = request.model_dump(mode="json", include=_CONTENT, exclude_defaults=True)
    return _json(content)


def _json(value: Any) -> str:
    # Any integer, however large: an answer's JSON is not ours to judge.
    return to_json(value, inf_nan_mode="null").decode()


def _tokens(usage: Usage) -> tuple[int, ...]:
    return (
        usage.input_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    )


def _timing(timing: Timing) -> tuple[float | None, ...]:
    return (timing.queued_ms, timing.time_to_first_token_ms, timing.total_ms)


def _prompt(prompt: PromptRef | None) -> tuple[str, int, str]:
    return ("", 0, "") if prompt is None else (prompt.name, prompt.version, prompt.sha256)


def _plan(plan: Plan | None) -> Row:
    if plan is None:
        return ("", None, None, None, (), (), ())
    return (
        plan.task_source,
        plan.task_confidence,
        plan.complexity,
        money(plan.estimated_cost_usd),
        [
            (number, member.role, member.stage, each.tier, each.provider, each.model)
            for number, member in enumerate(plan.members)
            for each in member.candidates
        ],
        plan.reasons,
        [(each.provider, each.model, each.reason) for each in plan.passed_over],
    )


def _quality(quality: Quality | None) -> Row:
    return (None, {}, ()) if quality is None else (quality.score, quality.parts, quality.notes)


def _blob(blob: Blob | None, *, store_text: bool) -> tuple[str | None, str]:
    return (blob.content, blob.encoding) if blob is not None and store_text else (None, "")
