"""What all wires have in common: keys, headers, statuses, checks."""

import gzip
from typing import Any

import httpx
import pytest

from millrace.providers.protocol import ModelRequest, TextDelta
from millrace.providers.transport import proxy_for
from millrace.schemas.errors import (
    ConfigurationError,
    ProviderUnavailableError,
    RateLimitedError,
    RequestRefusedError,
)
from millrace.schemas.message import Message

_REQUEST = ModelRequest(model="m", messages=(Message(role="user", content="My secret"),))
_REPLY = (
    b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


async def test_keys_take_turns(server: Any) -> None:
    """Each call carries the next one, and its completion says which."""
    server.reply = (_REPLY,)
    environ = {"A": "sk-a", "B": "sk-b"}
    provider = server.provider("openai", api_key_env=("A", "B"), environ=environ)

    replies = [[event async for event in provider.ask(_REQUEST)] for _ in range(3)]

    assert [request.headers["authorization"] for request in server.requests] == [
        "Bearer sk-a",
        "Bearer sk-b",
        "Bearer sk-a",
    ]
    assert [events[-1].key_alias for events in replies] == ["A", "B", "A"]


async def test_a_missing_key_is_a_setting_to_fix(server: Any) -> None:
    """Said when the provider is built, not when it is asked."""
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        server.provider("openai", api_key_env=("OPENAI_API_KEY",))


async def test_credentials_in_the_base_url_become_a_header(server: Any) -> None:
    """A local server may stand behind a proxy with a password, which no message shows."""
    done = await server.ask(
        "ollama", base_url="http://me:p%40ss@host:11434", status=500, request=_REQUEST
    )

    assert str(done.request.url) == "http://host:11434/api/chat"
    assert httpx.BasicAuth("me", "p@ss")._auth_header == done.request.headers["authorization"]
    assert done.error is not None
    assert "http://host:11434" in done.error.message
    assert "ss@" not in done.error.message


async def test_a_refusal_is_translated_with_its_headers(server: Any) -> None:
    """Vendors echo prompts and keys: neither reaches the message."""
    done = await server.ask(
        "openai",
        b'{"error": {"message": "bad: My secret sk-a", ',
        b'"type": "tokens", "code": "rate_limit_exceeded"}}',
        status=429,
        headers={"retry-after": "12"},
        request=_REQUEST,
    )

    assert isinstance(done.error, RateLimitedError)
    assert done.error.retry_after == 12
    assert "secret" not in done.error.message
    assert "sk-a" not in done.error.message


async def test_an_endless_error_page_is_not_read_to_its_end(server: Any) -> None:
    """What an error body can say stands at its head."""
    pieces = (b"x" * 2**15,) * 3

    done = await server.ask("openai", *pieces, AssertionError("read too far"), status=502)

    assert isinstance(done.error, ProviderUnavailableError)


async def test_a_connection_that_breaks_is_a_truncated_stream(server: Any) -> None:
    """What came before it was given."""
    done = await server.ask("openai", _REPLY[:70], httpx.ReadError("reset"))

    assert isinstance(done.error, ProviderUnavailableError)
    assert done.error.code == "stream_truncated"


async def test_a_body_compressed_against_our_wish_is_read(server: Any) -> None:
    """Some gateways do not look at what was asked for."""
    done = await server.ask("openai", gzip.compress(_REPLY), headers={"content-encoding": "gzip"})

    assert done.request.headers["accept-encoding"] == "identity"
    assert done.events[0] == TextDelta("Hi")


@pytest.mark.parametrize(
    ("wire", "path"),
    [
        ("openai", "/base/models"),
        ("anthropic", "/base/v1/models"),
        ("gemini", "/base/v1beta/models"),
        ("ollama", "/base/api/tags"),
    ],
)
@pytest.mark.parametrize("status", [200, 404])
async def test_a_check_asks_for_what_costs_nothing(
    server: Any, wire: str, path: str, status: int
) -> None:
    """A server without a list of models has been reached all the same."""
    server.status = status
    provider = server.provider(wire, api_key_env=("K",), environ={"K": "sk"})

    await provider.check()

    assert (server.requests[-1].method, server.requests[-1].url.path) == ("GET", path)


@pytest.mark.parametrize(
    ("status", "error"), [(401, RequestRefusedError), (503, ProviderUnavailableError)]
)
async def test_a_check_says_what_is_wrong(server: Any, status: int, error: type[Exception]) -> None:
    """A key that is not taken, a server that is not up."""
    server.status = status

    with pytest.raises(error):
        await server.provider("openai").check()


async def test_a_closed_provider_says_so(server: Any) -> None:
    """It is our end that is closed."""
    provider = server.provider("openai")
    await provider.aclose()

    with pytest.raises(ProviderUnavailableError, match="closed"):
        [_ async for _ in provider.ask(_REQUEST)]


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("https://a.b/v1", {}, None),
        ("https://a.b/v1", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("http://a.b/v1", {"HTTPS_PROXY": "http://p:1"}, None),
        ("http://a.b/v1", {"all_proxy": "http://p:1"}, "http://p:1"),
        (
            "https://a.b/v1",
            {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"},
            "http://q:1",
        ),
        ("https://a.b/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "x,b"}, None),
        ("https://a.b/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".a.b"}, None),
        ("https://ab/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "b"}, "http://p:1"),
        ("https://a.b/v1", {"HTTPS_PROXY": "http://p:1", "no_proxy": "*"}, None),
        ("", {"HTTPS_PROXY": "http://p:1"}, None),
    ],
)
def test_the_proxy_is_the_one_that_the_environment_names(
    url: str, environ: dict[str, str], proxy: str | None
) -> None:
    """As curl reads those variables."""
    assert proxy_for(url, environ) == proxy
