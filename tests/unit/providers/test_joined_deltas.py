"""Text that comes in one piece of a reply's body is handed on as one delta."""

from collections.abc import Iterator

import pytest

from millrace.providers.http_provider import _joined
from millrace.providers.protocol import ProviderEvent, ReasoningDelta, TextDelta
from millrace.schemas.errors import ReplyInvalidError


def test_neighbouring_texts_are_joined_and_nothing_changes_places() -> None:
    """What stands between texts keeps its place."""
    events = [TextDelta("a"), TextDelta("b"), ReasoningDelta("hm"), TextDelta("c"), TextDelta("d")]

    joined = list(_joined(iter(events)))

    assert [TextDelta("ab"), ReasoningDelta("hm"), TextDelta("cd")] == joined


def test_what_came_before_a_failure_is_handed_on_before_it() -> None:
    """An interrupted call is booked by what it had said."""

    def events() -> Iterator[ProviderEvent]:
        yield TextDelta("a")
        yield TextDelta("b")
        raise ReplyInvalidError("broken frame")

    joined = _joined(events())

    assert TextDelta("ab") == next(joined)
    with pytest.raises(ReplyInvalidError, match="broken frame"):
        next(joined)


def test_nothing_makes_nothing() -> None:
    """A piece of the body may hold no event at all."""
    assert list(_joined(iter(()))) == []
