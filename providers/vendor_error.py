"""What a vendor's error body says, reduced to words that are safe to show.

Vendors echo keys and prompts in their messages. So no vendor sentence is ever shown: only
status, error type, error code and the name of a parameter, and those only where they look like
the vocabulary of an API rather than like data. The sentence itself is kept for recognising
what happened, and does not leave this package.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

_WORD = re.compile(r"[A-Za-z][A-Za-z_.-]{1,47}[0-9]{0,2}")
_PARAMETER = re.compile(r"[a-z][a-zA-Z_]{0,39}(?:[.\[][a-zA-Z0-9_]{1,30}\]?){0,6}")
_STATUS = re.compile(r"[45][0-9]{2}")
_LEADING_PATH = re.compile(
    r"((?:messages|system|tools|tool_choice|max_tokens|temperature|top_p|stop_sequences|model)"
    r"(?:\.[a-z0-9_]{1,30}){0,6}):"
)
_DURATION = re.compile(r"\b(?:try again|retry) in (?:(\d+)m)?(\d+(?:\.\d+)?)(m?s)\b", re.IGNORECASE)

# HTTP statuses of errors that come inside a stream, whose HTTP status was already 200.
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "timeout_error": 504,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "api_error": 500,
    "server_error": 500,
    "overloaded_error": 529,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorError:
    """An error as its vendor reports it."""

    status: int | None = None
    """An HTTP status named in the body, or implied by the type."""
    words: tuple[str, ...] = ()
    """Codes, types and reasons, most telling first; safe to show."""
    parameter: str | None = None
    """The field of our request that is blamed; safe to show."""
    retry_after: float | None = None
    """Seconds."""
    sentence: str = ""
    """The vendor's message: to be searched, never to be shown."""

    def says(self, *words: str) -> bool:
        """Whether the vendor used one of these codes, types or reasons."""
        return any(word in self.words for word in words)


def read_error(body: bytes) -> VendorError:
    """Read the body of an error reply; one that is not JSON says nothing."""
    try:
        return read_error_document(orjson.loads(body))
    except orjson.JSONDecodeError:
        return VendorError(sentence=body[:2000].decode("utf-8", "replace"))


def read_error_document(document: Any) -> VendorError:
    """Read an error in any of the shapes that the wires have."""
    if isinstance(document, list) and document:
        document = document[0]  # Gemini without `alt=sse` wraps all it says in an array.
    outer = document if isinstance(document, dict) else {}
    error = outer.get("error")
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        error = outer
    details = list(_details(error))
    words = tuple(_safe_words(error, outer, details))
    sentence = error.get("message") or error.get("detail") or ""
    sentence = sentence if isinstance(sentence, str) else orjson.dumps(sentence).decode()
    return VendorError(
        status=_status(error, outer, words),
        words=words,
        parameter=_parameter(error, sentence),
        retry_after=_retry_after(details, sentence),
        sentence=sentence[:2000],
    )


def _details(error: dict[str, Any]) -> Iterator[dict[str, Any]]:
    details = error.get("details")
    if isinstance(details, dict):
        yield details  # Anthropic
    elif isinstance(details, list):  # Google
        yield from (item for item in details if isinstance(item, dict))
    for name in ("innererror", "metadata"):  # Azure, OpenRouter
        if isinstance(error.get(name), dict):
            yield error[name]


def _safe_words(
    error: dict[str, Any], outer: dict[str, Any], details: list[dict[str, Any]]
) -> Iterator[str]:
    candidates = [detail.get(name) for detail in details for name in ("error_code", "reason")]
    candidates += [error.get("code"), error.get("type"), error.get("status"), outer.get("type")]
    candidates += [detail.get("code") for detail in details]
    seen: set[str] = set()
    for word in candidates:
        if isinstance(word, str) and _WORD.fullmatch(word) and word not in seen:
            seen.add(word)
            if word != "error":
                yield word


def _status(error: dict[str, Any], outer: dict[str, Any], words: tuple[str, ...]) -> int | None:
    named = (error.get("status_code"), error.get("status"), error.get("code"), outer.get("code"))
    for value in named:
        number = int(value) if isinstance(value, str) and _STATUS.fullmatch(value) else value
        if type(number) is int and _STATUS.fullmatch(str(number)):
            return number
    return next((_STATUS_OF_TYPE[word] for word in words if word in _STATUS_OF_TYPE), None)


def _parameter(error: dict[str, Any], sentence: str) -> str | None:
    value = error.get("param")
    if isinstance(value, str) and _PARAMETER.fullmatch(value):
        return value
    path = _LEADING_PATH.match(sentence)
    return path.group(1) if path else None


def _retry_after(details: list[dict[str, Any]], sentence: str) -> float | None:
    for detail in details:
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and re.fullmatch(r"\d+(\.\d+)?s", delay):
            return float(delay[:-1])
    found = _DURATION.search(sentence[:2000])
    if found is None:
        return None
    minutes, amount, unit = found.groups()
    return 60 * int(minutes or 0) + float(amount) * (0.001 if unit.lower() == "ms" else 1.0)
