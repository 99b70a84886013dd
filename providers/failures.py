"""The one place where foreign failures become provider errors.

Three things fail: the HTTP exchange (exceptions of httpx, and of aiohttp under it), the request
(an HTTP status with the vendor's error body), and the reply (an error reported inside HTTP
200). No message holds a key, prompt text or a vendor's sentence; see `vendor_error`.
"""

import re
import ssl
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

import aiohttp
import httpx

from millrace.providers.retry_hints import retry_after_seconds
from millrace.providers.vendor_error import VendorError, read_error, read_error_document
from millrace.schemas.errors import (
    ErrorCode,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    ReplyInvalidError,
    RequestRefusedError,
)

_TOO_LONG = re.compile(
    r"context[ _](?:length|window|size)|(?:prompt|input|messages?) (?:is|are|was|were) too long"
    r"|prompt too long|too many (?:input |prompt )?tokens|reduce the length"
    r"|input token count .{0,40}exceeds|maximum (?:input|prompt) (?:length|tokens)"
    r"|length of all messages is too long",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"\bmodel\b.{0,120}\b(?:not found|does not exist|not a valid model)|invalid model",
    re.IGNORECASE | re.DOTALL,
)
_NO_MEMORY = re.compile(
    r"out of memory|more system memory|memory allocation|insufficient memory|cudaMalloc failed",
    re.IGNORECASE,
)
_BAD_KEY = re.compile(r"api key (?:not valid|expired|not found)|invalid api key", re.IGNORECASE)
_EXHAUSTED = (
    "insufficient_quota",
    "enforced_spend_limit_reached",
    "billing_hard_limit_reached",
    "billing_error",
    "credit_balance_too_low",
)
_FILTERED = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")
_MAX_CAUSES = 6
_OVER_LIMIT = (HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.TOO_MANY_REQUESTS)
_UNAUTHORISED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY)

_ADVICE: dict[ErrorCode, str] = {
    "authentication_failed": "check the key in the environment variable that the entry names",
    "model_not_found": "check the entry's base URL and its models",
    "context_length_exceeded": "the input is longer than the model takes; shorten it",
    "content_filtered": "the provider's content filter refused the input",
    "request_refused": "the provider does not take this request as it is",
    "rate_limited": "slow down",
    "provider_unavailable": "the provider cannot answer now",
}


def from_exception(error: Exception, *, origin: str, reply_begun: bool) -> ProviderError:
    """Translate what httpx, or aiohttp under it, raised; `origin` is scheme, host and port.

    A connection that breaks once the reply has begun is a truncated stream.
    """
    kind = type(error).__name__
    reason = _system_reason(error)
    match error:
        case httpx.TimeoutException() | TimeoutError():
            how = str(error) if type(error) is TimeoutError else f"{kind}{reason}"
            return ProviderUnavailableError(
                f"{origin} did not answer in time ({how})", code="provider_timeout"
            )
        case httpx.UnsupportedProtocol() | httpx.InvalidURL() | aiohttp.InvalidURL():
            return RequestRefusedError(
                f"{origin} cannot be asked over HTTP ({kind}): check the entry's base URL"
            )
        case httpx.TooManyRedirects() | aiohttp.TooManyRedirects():
            return RequestRefusedError(f"{origin} redirects without end: check the base URL")
        case httpx.DecodingError() | aiohttp.ContentTypeError():
            return ReplyInvalidError(f"{origin} sent a body that cannot be decoded ({kind})")
        case _ if reply_begun:
            return truncated(f" ({kind}{reason})")
        case _:
            return ProviderUnavailableError(f"no connection to {origin} ({kind}{reason})")


def truncated(why: str = "") -> ProviderUnavailableError:
    """The error for a reply that ended before it was complete."""
    return ProviderUnavailableError(
        f"the reply broke off before its end{why}", code="stream_truncated"
    )


def from_response(
    status: int, headers: Mapping[str, str], body: bytes, *, origin: str, now: datetime
) -> ProviderError:
    """Translate a reply whose HTTP status is not a success."""
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return RequestRefusedError(
            f"{origin} answered HTTP {status}: it redirects, which is not followed; "
            "set the entry's base URL to where the server is"
        )
    vendor = read_error(body)
    retry_after = retry_after_seconds(headers, now=now)
    if retry_after is None:
        retry_after = vendor.retry_after
    return _classify(
        f"{origin} answered HTTP {status}",
        status,
        vendor,
        retry_after=retry_after,
        never=headers.get("x-should-retry") == "false",
    )


def from_document(document: Any) -> ProviderError:
    """Translate an error that a reply with HTTP status 200 reports in its body."""
    vendor = read_error_document(document)
    status = HTTPStatus.INTERNAL_SERVER_ERROR if vendor.status is None else vendor.status
    return _classify(
        "the reply reports an error", status, vendor, retry_after=vendor.retry_after, never=False
    )


def _classify(
    what: str, status: int, vendor: VendorError, *, retry_after: float | None, never: bool
) -> ProviderError:
    code = _code(status, vendor)
    details = [*vendor.words[:3]]
    if vendor.parameter is not None:
        details.append(f"parameter {vendor.parameter}")
    advice = _ADVICE[code]
    exhausted = status == HTTPStatus.PAYMENT_REQUIRED or vendor.says(*_EXHAUSTED)
    if code == "rate_limited" and exhausted:
        advice = "quota or credit is used up"
    if code == "provider_unavailable" and _NO_MEMORY.search(vendor.sentence):
        advice = (
            "it has not enough memory for the model; free some, or set a smaller model or "
            "context window"
        )
    named = f" ({', '.join(details)})" if details else ""
    message = f"{what}{named}: {advice}"
    match code:
        case "rate_limited":
            return RateLimitedError(
                message, retryable=not (exhausted or never), retry_after=retry_after
            )
        case "provider_unavailable":
            return ProviderUnavailableError(message, retryable=not never, retry_after=retry_after)
        case _:
            return RequestRefusedError(message, code=code)


def _code(status: int, vendor: VendorError) -> ErrorCode:  # noqa: PLR0911 - a decision table
    if vendor.says(*_FILTERED) or (status == HTTPStatus.FORBIDDEN and "flagged" in vendor.sentence):
        return "content_filtered"
    if status in _OVER_LIMIT or vendor.says(*_EXHAUSTED):
        return "rate_limited"
    if status == HTTPStatus.INTERNAL_SERVER_ERROR and _TOO_LONG.search(vendor.sentence):
        return "context_length_exceeded"  # llama.cpp and Ollama report it so
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING:
        return "provider_unavailable"
    if (
        status in _UNAUTHORISED
        or vendor.says("API_KEY_INVALID")
        # How a LiteLLM proxy without a database says that it does not know the key.
        or vendor.says("no_db_connection")
        or _BAD_KEY.search(vendor.sentence)
    ):
        return "authentication_failed"
    if (
        status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        or vendor.says("context_length_exceeded", "too_many_prompt_tokens")
        or _TOO_LONG.search(vendor.sentence)
    ):
        return "context_length_exceeded"
    if (
        status == HTTPStatus.NOT_FOUND
        or vendor.says("model_not_found")
        or _NO_MODEL.search(vendor.sentence)
    ):
        return "model_not_found"
    return "request_refused"


def _system_reason(error: BaseException) -> str:
    """What the operating system or TLS said, which names no data of ours."""
    cause: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        # aiohttp's own subclasses of these carry the names but not always the values.
        if isinstance(cause, ssl.SSLCertVerificationError) and hasattr(cause, "verify_message"):
            return f": certificate {cause.verify_message}"
        if isinstance(cause, ssl.SSLError) and getattr(cause, "reason", None):
            return f": TLS {cause.reason}"
        if isinstance(cause, OSError) and cause.strerror and not hasattr(cause, "os_error"):
            return f": {cause.strerror}"
        if cause is None:
            break
        cause = getattr(cause, "os_error", None) or cause.__cause__ or cause.__context__
    return ""
