"""How many calls may wait for the broker."""

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.streams.unfinished import Unfinished

KB = 1024
MB = 1024 * KB


def begun(calls: int, size: int) -> Unfinished:
    """So many calls of this size, none of them done."""
    unfinished = Unfinished()
    for _ in range(calls):
        unfinished.begin(size)
    return unfinished


def test_small_calls_that_wait_for_the_broker_keep_no_others_from_beginning() -> None:
    """Twice as many as are in flight may wait before memory is asked, four times as many after."""
    assert begun(399, KB).leaves_room(100)
    assert not begun(400, KB).leaves_room(100)


def test_large_calls_that_wait_for_the_broker_hold_others_back() -> None:
    """Overload is lag, not memory: beyond twice the places, 16 MB of calls are enough."""
    assert begun(199, MB).leaves_room(100)
    assert not begun(200, MB).leaves_room(100)


@settings(max_examples=50)
@given(sizes=st.lists(st.integers(0, 20 * MB), max_size=50))
def test_what_has_ended_is_forgotten(sizes: list[int]) -> None:
    """However calls were mixed, once all have ended there is room as at the beginning."""
    unfinished = Unfinished()
    for size in sizes:
        unfinished.begin(size)
    for size in reversed(sizes):
        unfinished.end(size)

    assert unfinished.leaves_room(1)
    unfinished.begin(17 * MB)
    assert unfinished.leaves_room(1)
    unfinished.begin(0)
    assert not unfinished.leaves_room(1)
