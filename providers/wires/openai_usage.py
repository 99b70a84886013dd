"""Token counts and costs in the openai wire, by the habits of the vendors that speak it."""

import math
from decimal import Decimal, InvalidOperation
from typing import Any

from millrace.providers.wires.wire import count
from millrace.schemas.unchecked import unchecked
from millrace.schemas.usage import Usage

_usage = unchecked(Usage)

_USD_PER_XAI_TICK = Decimal("1e-10")


def openai_usage(raw: dict[str, Any]) -> Usage | None:
    """Bring a `usage` object into our convention; None when it counts nothing.

    `prompt_tokens` holds cached ones. The vendor's own `total_tokens` shows what it left out of
    the two sums: xAI reasoning tokens, Mistral audio input, Gemini's compatible API thinking
    that it does not itemise.
    """
    prompt, completion = count(raw.get("prompt_tokens")), count(raw.get("completion_tokens"))
    if prompt is None and completion is None:
        return None
    prompt, completion = prompt or 0, completion or 0
    inputs = _object(raw, "prompt_tokens_details") or _object(raw, "prompt_token_details")
    outputs = _object(raw, "completion_tokens_details")
    reasoning = _first(outputs.get("reasoning_tokens"), raw.get("reasoning_tokens"))
    left_out = (count(raw.get("total_tokens")) or 0) - prompt - completion
    audio = _first(inputs.get("audio_tokens"), raw.get("prompt_audio_seconds"))
    if left_out > 0:
        if reasoning and left_out in (reasoning, reasoning + audio):
            completion += reasoning
            left_out -= reasoning
        if audio and left_out == audio:
            prompt += audio
        elif left_out and not reasoning:
            completion += left_out
            reasoning = left_out
    return _usage(
        input_tokens=prompt,
        cached_tokens=_first(
            inputs.get("cached_tokens"),
            raw.get("prompt_cache_hit_tokens"),
            raw.get("cached_tokens"),
            raw.get("cache_read_input_tokens"),
        ),
        cache_write_tokens=_first(
            inputs.get("cache_write_tokens"), raw.get("cache_creation_input_tokens")
        ),
        output_tokens=completion,
        reasoning_tokens=reasoning,
    )


def openai_cost(raw: dict[str, Any]) -> Decimal | None:
    """What the vendor says it charged, in US dollars.

    OpenRouter: `cost`, to which the upstream's own bill is added where the customer's key was
    used there (`is_byok`). Perplexity: `cost.total_cost`. xAI: `cost_in_usd_ticks`, ten
    thousand million to the dollar (checked against its price list on a recorded reply).
    """
    cost = raw.get("cost")
    if isinstance(cost, dict):
        return dollars(cost.get("total_cost"))
    if cost is not None:
        charged = dollars(cost)
        upstream = dollars(_object(raw, "cost_details").get("upstream_inference_cost"))
        if charged is not None and raw.get("is_byok") is True and upstream is not None:
            return charged + upstream
        return charged
    ticks = count(raw.get("cost_in_usd_ticks"))
    return None if ticks is None else ticks * _USD_PER_XAI_TICK


def proxied_cost(header: str | None) -> Decimal | None:
    """What LiteLLM's proxy says in its header; None for the 0 of a model it has no price for."""
    try:
        cost = None if header is None else Decimal(header)
    except InvalidOperation:
        return None
    return cost if cost is not None and cost.is_finite() and cost > 0 else None


def dollars(value: Any) -> Decimal | None:
    """An amount as JSON has it, exact as written; None for what is no amount."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    return Decimal(repr(value)) if math.isfinite(value) else None


def _object(raw: dict[str, Any], name: str) -> dict[str, Any]:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _first(*values: Any) -> int:
    for value in values:
        number = count(value)
        if number is not None:
            return number
    return 0
