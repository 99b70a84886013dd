"""The local estimate of tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.providers.tokens import estimate_messages, estimate_text
from millrace.schemas.message import ImagePart, Message, TextPart, ToolCall, ToolDefinition

# Counts by OpenAI's o200k_base.
_COUNTED = [
    ("The quick brown fox jumps over the lazy dog.", 10),
    ("Hello, world!", 4),
]


@pytest.mark.parametrize(("text", "tokens"), _COUNTED)
def test_a_short_text_is_estimated_within_two_tokens(text: str, tokens: int) -> None:
    """Close enough to book a call that broke off."""
    assert abs(estimate_text(text) - tokens) <= 2


def test_nothing_is_no_token_and_anything_is_one() -> None:
    """So that an interrupted stream is never booked as free."""
    assert estimate_text("") == 0
    assert estimate_text(".") == 1


@settings(max_examples=80)
@given(text=st.text(max_size=200), more=st.text(max_size=200))
def test_an_estimate_grows_with_the_text(text: str, more: str) -> None:
    """Up to what blanks at the seam save; and it stays in proportion to the length."""
    assert estimate_text(text) <= estimate_text(text + "x" + more) + 2
    assert estimate_text(text) <= 2 * len(text) + 1


def test_ideographs_count_for_more_than_letters() -> None:
    """A character is about a token there, a quarter of one in Latin script."""
    assert estimate_text("漢字" * 50) > 2.5 * estimate_text("ab" * 50)


def test_every_part_of_a_conversation_counts() -> None:
    """Turns, images, tool calls and tool definitions."""
    plain = (Message(role="user", content="What is on this picture?"),)
    image = (
        Message(
            role="user",
            content=(
                TextPart(type="text", text="What is on this picture?"),
                ImagePart(type="image", url="https://x/y.png"),
            ),
        ),
    )
    call = (*plain, Message(role="assistant", tool_calls=(ToolCall(name="look", arguments="{}"),)))
    tools = (ToolDefinition(name="look", parameters={"type": "object"}),)

    base = estimate_messages(plain)

    assert base > estimate_text("What is on this picture?")
    assert estimate_messages(image) == base + 1000
    assert estimate_messages(call) > base + 4
    assert estimate_messages(plain, tools) > base + 4
