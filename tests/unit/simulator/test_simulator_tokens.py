"""The tokenizer's rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.providers.simulator.tokens import MARK, count_tokens, split_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("Why is the sky blue?", ["Why", " is", " the", " sky", " blue", "?"]),
        ("a-b  c", ["a", "-", "b", "  c"]),
        ("end \n", ["end", " \n"]),
        ("héllo 世界", ["héllo", " 世界"]),
        (f"{MARK} yes", [MARK, " yes"]),
    ],
)
def test_words_and_punctuation_are_tokens(text: str, tokens: list[str]) -> None:
    """A token is a word or one other character, with the space before it."""
    assert tokens == split_tokens(text)


@given(st.text())
def test_tokens_joined_give_the_text_back(text: str) -> None:
    """Nothing is lost or added, whatever the text."""
    tokens = split_tokens(text)

    assert text == "".join(tokens)
    assert count_tokens(text) == len(tokens)
