"""What a form of text needs at the least, so that its pattern is not tried in vain."""

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.agents.classify_task import _may_have
from millrace.agents.task_signals import CODE, SHAPES, may_be_code

FRAGMENTS = (
    "diff --git a", "@@ -1", "```diff", "+++ a/x", "--- b/x", "+-+ a/", "Traceback (most recent",
    "  at foo.Bar(", "\tat a.b(", "\n", "panic: x", "Caused by: y", "Exception in thread main",
    "12:30:11 ERROR", "FATAL", "ValueError: x", "FooException:", "<<<<<<< HEAD", "a,b,c",
    "1,2,3 ", " 5% of 10 in 20 by 30 to 40 or 50 ", " 7 of", "\u0663 ", " ", "x",
)  # fmt: skip
PIECES_OF_CODE = (
    *("def f", "class", "SELECT a", "for", "x", ":", "(", ")", ";", "{", "}", "=", "*"),
    *("=> ", ":= ", "`", "```", " ", "\t", "\n", "\r", "\x1c", "\u2028"),
)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=7))
def test_text_that_has_a_form_has_what_the_form_needs(parts: list[str]) -> None:
    """Whatever stands around it."""
    text = "".join(parts)

    assert all(_may_have(shape, text) for shape in SHAPES if shape.pattern.search(text))


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES_OF_CODE), max_size=12))
def test_nothing_that_is_code_is_passed_over_beforehand(parts: list[str]) -> None:
    """The look before the expression only saves time."""
    text = "".join(parts)

    assert may_be_code(text) or CODE.search(text) is None
