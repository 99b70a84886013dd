"""Which work is to be stopped."""

from datetime import datetime, timedelta

from pipeline_records import at

from millrace.schemas.cancellation import Cancellation
from millrace.streams.cancellations import Cancellations


class Now:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.moment: datetime = at(0)

    def __call__(self) -> datetime:
        return self.moment


def known(now: Now | None = None) -> Cancellations:
    """Cancellations remembered for a minute."""
    return Cancellations(window=timedelta(minutes=1), clock=now or Now())


def test_a_request_covers_all_its_members() -> None:
    """Where none is named."""
    cancellations = known()
    cancellations.add(Cancellation(request_id="a"))

    assert [cancellations.covers("a", member) for member in (0, 5)] == [True, True]
    assert not cancellations.covers("b", 0)


def test_named_members_add_up() -> None:
    """Two cancellations of a request stop what both name."""
    cancellations = known()
    cancellations.add(Cancellation(request_id="a", members=(1,)))
    cancellations.add(Cancellation(request_id="a", members=(2,)))

    assert [cancellations.covers("a", member) for member in range(4)] == [False, True, True, False]


def test_an_empty_list_of_members_stops_nobody() -> None:
    """It is not the same as none given."""
    cancellations = known()
    cancellations.add(Cancellation(request_id="a", members=()))

    assert not cancellations.covers("a", 0)


def test_who_works_on_it_hears_of_it() -> None:
    """Only the members meant, and only within the block."""
    cancellations = known()
    heard: list[str] = []
    with (
        cancellations.watching("a", 0, lambda: heard.append("a0")),
        cancellations.watching("a", 1, lambda: heard.append("a1")),
        cancellations.watching("b", 0, lambda: heard.append("b0")),
    ):
        cancellations.add(Cancellation(request_id="a", members=(1,)))
        assert heard == ["a1"]
        cancellations.add(Cancellation(request_id="a"))
    cancellations.add(Cancellation(request_id="b"))

    assert heard == ["a1", "a0", "a1"]


def test_two_of_the_same_member_both_hear() -> None:
    """A call read twice is watched twice; the end of one leaves the other."""
    cancellations = known()
    heard: list[int] = []
    with cancellations.watching("a", 0, lambda: heard.append(1)):
        with cancellations.watching("a", 0, lambda: heard.append(2)):
            pass
        cancellations.add(Cancellation(request_id="a"))

    assert heard == [1]


def test_it_is_forgotten_after_the_window() -> None:
    """A later cancellation sweeps out what is older than the window, and nothing else."""
    now = Now()
    cancellations = known(now)
    cancellations.add(Cancellation(request_id="old"))
    now.moment = at(50)
    cancellations.add(Cancellation(request_id="young"))
    now.moment = at(61)
    cancellations.add(Cancellation(request_id="new"))

    assert [cancellations.covers(each, 0) for each in ("old", "young", "new")] == [
        False,
        True,
        True,
    ]


def test_it_is_known_what_was_cancelled() -> None:
    """A member alone, or the request and all its members with it."""
    cancellations = known()
    assert cancellations.scope("a", 1) is None
    cancellations.add(Cancellation(request_id="a", members=(1,)))
    assert (cancellations.scope("a", 1), cancellations.scope("a", 2)) == ("member", None)
    cancellations.add(Cancellation(request_id="a"))

    assert (cancellations.scope("a", 1), cancellations.scope("a", 2)) == ("request", "request")
