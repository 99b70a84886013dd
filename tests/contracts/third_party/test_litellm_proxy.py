"""A real LiteLLM proxy, whose models answer by themselves, through our adapters."""

from decimal import Decimal

import pytest
from third_party_calls import ask, connected, question
from third_party_servers import ANSWER, ServerProcess

from millrace.providers.entry import Wire
from millrace.schemas.errors import (
    ErrorCode,
    ProviderError,
    RateLimitedError,
    RequestRefusedError,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")
both_wires = pytest.mark.parametrize("wire", ["openai", "anthropic"])
streamed_or_not = pytest.mark.parametrize("stream", [True, False])

# What LiteLLM's own price table says of a token of the models that its mocks stand for.
PRICES = {
    "openai-mock": (Decimal("0.4e-6"), Decimal("1.6e-6")),
    "anthropic-mock": (Decimal("1e-6"), Decimal("5e-6")),
}


@pytest.mark.parametrize("model", PRICES)
async def test_the_cost_of_a_plain_message_is_taken_over(
    litellm: ServerProcess, model: str
) -> None:
    """The anthropic API has it in the header alone, and there only for plain replies."""
    reply = await ask(litellm.url, "anthropic", question(model, stream=False))

    cost = reply.completion.reported_cost_usd
    assert cost is not None
    assert cost > 0


@both_wires
@streamed_or_not
@pytest.mark.parametrize("model", ["openai-mock", "anthropic-mock"])
async def test_a_mocked_model_answers(
    litellm: ServerProcess, wire: Wire, stream: bool, model: str
) -> None:
    """Text, finish reason and token counts, in either API, whatever the model behind it."""
    reply = await ask(litellm.url, wire, question(model, stream=stream))

    completion = reply.completion
    assert completion.text == reply.text() == ANSWER
    assert (completion.finish_reason, completion.model) == ("stop", model)
    assert completion.response_id
    assert completion.usage is not None
    assert completion.usage.source == "reported"
    assert completion.usage.input_tokens > 0
    assert completion.usage.output_tokens > 0


@streamed_or_not
@pytest.mark.parametrize("model", PRICES)
async def test_the_cost_that_the_proxy_reports_is_taken_over(
    litellm: ServerProcess, stream: bool, model: str
) -> None:
    """From its header, or where it streams from the last piece: each token at LiteLLM's price."""
    reply = await ask(litellm.url, "openai", question(model, stream=stream))

    usage = reply.completion.usage
    assert usage is not None
    for_input, for_output = PRICES[model]
    expected = usage.input_tokens * for_input + usage.output_tokens * for_output
    # The proxy reckons in floating point.
    assert reply.completion.reported_cost_usd == pytest.approx(expected, rel=Decimal("1e-9"))


@streamed_or_not
async def test_a_price_that_the_proxy_does_not_know_is_no_cost_of_nothing(
    litellm: ServerProcess, stream: bool
) -> None:
    """It reports 0 then, or nothing: either way nothing is known."""
    reply = await ask(litellm.url, "openai", question("unpriced", stream=stream))

    assert reply.completion.text == ANSWER
    assert reply.completion.reported_cost_usd is None


@both_wires
@streamed_or_not
@pytest.mark.parametrize(
    ("model", "code", "retryable"),
    [
        ("limited", "rate_limited", True),
        ("failing", "provider_unavailable", True),
        ("late", "provider_unavailable", True),
        ("short-sighted", "context_length_exceeded", False),
        ("nobody-has-it", "model_not_found", False),
    ],
)
async def test_an_error_of_the_proxy_is_understood(
    litellm: ServerProcess,
    *,
    wire: Wire,
    stream: bool,
    model: str,
    code: ErrorCode,
    retryable: bool,
) -> None:
    """Each in the shape that LiteLLM gives it, which is no vendor's own."""
    with pytest.raises(ProviderError) as caught:
        await ask(litellm.url, wire, question(model, stream=stream))

    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert isinstance(caught.value, RateLimitedError) == (code == "rate_limited")


@both_wires
async def test_a_wrong_key_is_refused_and_not_shown(litellm: ServerProcess, wire: Wire) -> None:
    """A proxy without a database says so with status 400, and asking again will not help."""
    wrong = "sk-nobody-gave-me-this"

    with pytest.raises(RequestRefusedError) as caught:
        await ask(litellm.url, wire, question("openai-mock", stream=True), key=wrong)

    assert not caught.value.retryable
    assert wrong not in caught.value.message
    assert "no_db_connection" in caught.value.message
    assert caught.value.code == "authentication_failed"


@both_wires
async def test_the_proxy_can_be_checked(litellm: ServerProcess, wire: Wire) -> None:
    """With the right key it is well, with another it is not."""
    async with connected(litellm.url, wire) as provider:
        await provider.check()

    async with connected(litellm.url, wire, key="sk-nobody-gave-me-this") as provider:
        with pytest.raises(RequestRefusedError):
            await provider.check()
