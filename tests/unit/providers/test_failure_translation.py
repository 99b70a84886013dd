"""Foreign failures become provider errors, and say nothing that must stay secret."""

import inspect
import json
from datetime import UTC, datetime
from typing import Any

import aiohttp
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.providers.failures import from_document, from_exception, from_response
from millrace.schemas.errors import (
    PipelineError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    ReplyInvalidError,
    RequestRefusedError,
)

_NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
_TIMEOUTS = {"TimeoutException", "ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout"}
_PERMANENT = {"UnsupportedProtocol", "InvalidURL", "TooManyRedirects"}
_INVALID = {"DecodingError"}


def _subclasses_in(module: Any) -> list[type[Exception]]:
    return sorted(
        {
            value
            for _, value in inspect.getmembers(module, inspect.isclass)
            if issubclass(value, Exception) and not issubclass(value, Warning)
        },
        key=lambda cls: cls.__name__,
    )


def _instance(cls: type[Exception]) -> Exception:
    error = cls.__new__(cls)
    Exception.__init__(error, "sk-secret in the message")
    return error


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("cls", _subclasses_in(httpx), ids=lambda cls: cls.__name__)
def test_every_exception_of_httpx_has_its_provider_error(cls: type[Exception], begun: bool) -> None:
    """A new exception class of httpx must be put into one of these groups by hand."""
    error = from_exception(_instance(cls), origin="http://host:1", reply_begun=begun)

    if cls.__name__ in _TIMEOUTS:
        assert (type(error), error.code) == (ProviderUnavailableError, "provider_timeout")
    elif cls.__name__ in _PERMANENT:
        assert (type(error), error.code) == (RequestRefusedError, "request_refused")
    elif cls.__name__ in _INVALID:
        assert (type(error), error.code) == (ReplyInvalidError, "reply_invalid")
    else:
        assert cls.__name__ in {
            "CloseError",
            "ConnectError",
            "CookieConflict",
            "HTTPError",
            "HTTPStatusError",
            "LocalProtocolError",
            "NetworkError",
            "ProtocolError",
            "ProxyError",
            "ReadError",
            "RemoteProtocolError",
            "RequestError",
            "RequestNotRead",
            "ResponseNotRead",
            "StreamClosed",
            "StreamConsumed",
            "StreamError",
            "TransportError",
            "WriteError",
        }
        code = "stream_truncated" if begun else "provider_unavailable"
        assert (type(error), error.code) == (ProviderUnavailableError, code)
    assert "secret" not in error.message


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    "cls",
    [cls for cls in _subclasses_in(aiohttp) if issubclass(cls, aiohttp.ClientError)],
    ids=lambda cls: cls.__name__,
)
def test_every_client_error_of_aiohttp_is_translated(cls: type[Exception], begun: bool) -> None:
    """Those under httpx come through as they are."""
    error = from_exception(_instance(cls), origin="http://host:1", reply_begun=begun)

    assert isinstance(error, ProviderError)
    assert "secret" not in error.message
    if issubclass(cls, TimeoutError):
        assert error.code == "provider_timeout"
    elif issubclass(cls, aiohttp.InvalidURL):
        assert error.code == "request_refused"


def test_a_refused_connection_says_where_and_why() -> None:
    """The operator sees the address and what the system said."""
    cause = ConnectionRefusedError(111, "Connection refused")
    error = httpx.ConnectError("x")
    error.__cause__ = cause

    found = from_exception(error, origin="http://localhost:11434", reply_begun=False)

    assert found.message == (
        "no connection to http://localhost:11434 (ConnectError: Connection refused)"
    )


def _refusal(status: int, body: Any, headers: dict[str, str] | None = None) -> ProviderError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return from_response(
        status, httpx.Headers(headers or {}), raw, origin="https://api.example", now=_NOW
    )


@pytest.mark.parametrize(
    ("status", "cls", "code", "retryable"),
    [
        (301, RequestRefusedError, "request_refused", False),
        (400, RequestRefusedError, "request_refused", False),
        (401, RequestRefusedError, "authentication_failed", False),
        (402, RateLimitedError, "rate_limited", False),
        (403, RequestRefusedError, "authentication_failed", False),
        (404, RequestRefusedError, "model_not_found", False),
        (405, RequestRefusedError, "request_refused", False),
        (408, ProviderUnavailableError, "provider_unavailable", True),
        (409, ProviderUnavailableError, "provider_unavailable", True),
        (413, RequestRefusedError, "context_length_exceeded", False),
        (422, RequestRefusedError, "request_refused", False),
        (425, ProviderUnavailableError, "provider_unavailable", True),
        (429, RateLimitedError, "rate_limited", True),
        (500, ProviderUnavailableError, "provider_unavailable", True),
        (503, ProviderUnavailableError, "provider_unavailable", True),
        (529, ProviderUnavailableError, "provider_unavailable", True),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>\xff</html>", b"[]", b"null", b"[null]", b'"no"'])
def test_a_status_alone_decides_when_the_body_says_nothing(
    status: int, cls: type[PipelineError], code: str, retryable: bool, body: bytes
) -> None:
    """Proxies answer with HTML, or nothing."""
    error = _refusal(status, body)

    assert (type(error), error.code, error.retryable) == (cls, code, retryable)


@pytest.mark.parametrize(
    ("status", "error", "code", "retryable"),
    [
        (429, {"code": "insufficient_quota", "type": "insufficient_quota"}, "rate_limited", False),
        (
            429,
            {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}},
            "rate_limited",
            False,
        ),
        (429, {"type": "tokens", "code": "rate_limit_exceeded"}, "rate_limited", True),
        (400, {"code": "context_length_exceeded"}, "context_length_exceeded", False),
        (400, {"message": "prompt is too long: 210000 > 200000"}, "context_length_exceeded", False),
        (
            400,
            {"message": "the request exceeds the available context size"},
            "context_length_exceeded",
            False,
        ),
        (
            500,
            {"message": "the input length exceeds the context length"},
            "context_length_exceeded",
            False,
        ),
        (400, {"code": "content_policy_violation"}, "content_filtered", False),
        (403, {"message": "input was flagged"}, "content_filtered", False),
        (400, {"message": "gpt-9 is not a valid model ID"}, "request_refused", False),
        (400, {"message": "The model `x` does not exist"}, "model_not_found", False),
        (400, {"message": "Your API key expired", "code": 400}, "authentication_failed", False),
        (
            400,
            {"details": [{"reason": "API_KEY_INVALID"}], "status": "INVALID_ARGUMENT"},
            "authentication_failed",
            False,
        ),
    ],
)
def test_the_body_decides_where_it_says_more_than_the_status(
    status: int, error: dict[str, Any], code: str, retryable: bool
) -> None:
    """Each vendor's own words are recognised."""
    found = _refusal(status, {"error": error})

    assert (found.code, found.retryable) == (code, retryable)


def test_a_server_that_asks_not_to_be_retried_is_heard() -> None:
    """`x-should-retry: false`, as OpenAI and Anthropic send it."""
    assert not _refusal(500, {}, {"x-should-retry": "false"}).retryable
    assert not _refusal(429, {}, {"x-should-retry": "false"}).retryable


def test_a_message_names_code_type_and_parameter() -> None:
    """What an operator needs is there, in the vendor's vocabulary."""
    body = {
        "error": {
            "message": "Unsupported parameter: 'stop' is not supported with this model.",
            "type": "invalid_request_error",
            "param": "stop",
            "code": "unsupported_parameter",
        }
    }

    assert _refusal(400, body).message == (
        "https://api.example answered HTTP 400 (unsupported_parameter, invalid_request_error, "
        "parameter stop): the provider does not take this request as it is"
    )


def test_the_field_that_anthropic_blames_is_named() -> None:
    """It stands at the head of the sentence, the rest of which may quote the prompt."""
    body = {"error": {"type": "invalid_request_error", "message": "messages.0.content: 'secret'"}}

    message = _refusal(400, body).message

    assert "parameter messages.0.content" in message
    assert "secret" not in message


_SECRETS = ("sk-proj-Zx81kQ0aYb33Lm", "My diagnosis is confidential", "AIzaSyD3x4mpl3K3y")


@settings(max_examples=80)
@given(
    status=st.sampled_from([200, 400, 401, 403, 404, 413, 422, 429, 500, 529]),
    secret=st.sampled_from(_SECRETS),
    places=st.sets(
        st.sampled_from(["message", "code", "type", "param", "status", "detail", "reason"])
    ),
)
def test_no_key_or_prompt_text_reaches_a_message(
    status: int, secret: str, places: set[str]
) -> None:
    """Vendors echo keys and prompts, in whatever field."""
    error: dict[str, Any] = dict.fromkeys(places, secret)
    error["details"] = [{"reason": secret, "error_code": secret, "retryDelay": secret}]
    bodies = [{"error": error}, error, [{"error": error}], {"error": secret}, {"detail": secret}]

    for body in bodies:
        found = from_document(body) if status == 200 else _refusal(status, body)
        assert secret not in found.message
        assert secret not in repr(found)


@pytest.mark.parametrize(
    ("error", "cls"),
    [
        ({"type": "overloaded_error"}, ProviderUnavailableError),
        ({"type": "api_error"}, ProviderUnavailableError),
        ({"type": "rate_limit_error"}, RateLimitedError),
        ({"type": "authentication_error"}, RequestRefusedError),
        ({"code": 502, "message": "Provider returned error"}, ProviderUnavailableError),
        ({"code": "429"}, RateLimitedError),
        ({"status_code": 400, "code": "tool_use_failed"}, RequestRefusedError),
        ({"message": "something"}, ProviderUnavailableError),
    ],
)
def test_an_error_inside_a_stream_counts_as_the_status_it_names(
    error: dict[str, Any], cls: type[ProviderError]
) -> None:
    """The HTTP status was 200 already; without any hint the provider is to blame."""
    assert type(from_document({"error": error})) is cls


def test_a_retry_delay_in_the_body_is_read() -> None:
    """Google names it in details, OpenAI in its sentence."""
    google = {"error": {"code": 429, "details": [{"retryDelay": "48.5s"}]}}
    openai = {"error": {"message": "Please try again in 1m26.604s. Visit …"}}
    short = {"error": {"message": "Please try again in 250ms."}}

    assert _refusal(429, google).retry_after == pytest.approx(48.5)
    assert _refusal(429, openai).retry_after == pytest.approx(86.604)
    assert _refusal(429, short).retry_after == pytest.approx(0.25)
    assert _refusal(429, google, {"retry-after": "3"}).retry_after == 3
