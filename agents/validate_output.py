"""Checks an answer against what the request wants it to look like."""

from typing import Any

import orjson

from millrace.agents.json_schema import compile_schema
from millrace.agents.validation.verdict import InvalidOutput, Problem, ValidOutput
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.request import OutputSpec
from millrace.schemas.vocabulary import FinishReason, TaskType

MAX_JSON_DEPTH = 100
"""Of an answer. Readers of the terminal record give up at about twice this."""

_FENCE = "```"


def validate(
    output: OutputSpec,
    text: str,
    finish_reason: FinishReason | None,
    *,
    tool_calls: int = 0,
    task: TaskType | None = None,  # noqa: ARG001 (for rules by task)
) -> ValidOutput | InvalidOutput:
    """Check a complete answer; the same answer is always judged the same.

    An answer with `tool_calls` is no final one, and is valid as it stands. For json the answer
    must be one strict JSON value, or hold exactly one fenced block with one.
    """
    if tool_calls:
        return ValidOutput(text)
    if not text.strip():
        return InvalidOutput(
            ErrorInfo(code="empty_reply", message="the model answered with nothing", retryable=True)
        )
    if output.format != "json":
        return ValidOutput(text)
    return _validate_json(output, text.strip(), finish_reason)


def _validate_json(
    output: OutputSpec, text: str, finish_reason: FinishReason | None
) -> ValidOutput | InvalidOutput:
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        block = _only_fenced_block(text)
        try:
            data = orjson.loads(block)
        except orjson.JSONDecodeError as inner:
            return _not_json((inner if block else error).msg, finish_reason)
        text = block
    if _deeper_than(MAX_JSON_DEPTH, text, data):
        return _invalid(f"the answer's JSON is nested deeper than {MAX_JSON_DEPTH} levels")
    if output.json_schema is not None:
        problems = compile_schema(output.json_schema).problems(data)
        if problems:
            return _invalid(f"the answer does not fit the schema: {'; '.join(problems)}")
    return ValidOutput(text, data)


def _not_json(why: str, finish_reason: FinishReason | None) -> InvalidOutput:
    if finish_reason == "length":
        return _invalid(
            "the answer was cut off at its token limit before its JSON was complete: "
            "raise parameters.max_output_tokens",
            retryable=False,
        )
    return _invalid(f"the answer is not JSON: {why}")


def _invalid(message: str, *, retryable: bool = True) -> InvalidOutput:
    problems = (Problem("json", message, ""),) if retryable else ()
    error = ErrorInfo(code="output_invalid", message=message, retryable=retryable)
    return InvalidOutput(error, problems)


def _only_fenced_block(text: str) -> str:
    # Within a JSON text a line break stands only between tokens, so that a line that begins
    # with a fence is never part of a JSON string.
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if line.lstrip().startswith(_FENCE)]
    if len(fences) != 2:  # noqa: PLR2004 (one that opens, one that closes)
        return ""
    first, last = fences
    return "\n".join(lines[first + 1 : last]).strip()


def _deeper_than(limit: int, text: str, data: Any) -> bool:
    if text.count("{") + text.count("[") <= limit:
        return False
    level = [data]
    for _ in range(limit + 1):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return False
    return True
