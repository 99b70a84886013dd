"""Ending joins whose time is up."""

import pytest
from pipeline_doubles import RecordingPublisher
from pipeline_records import at

from millrace.schemas.errors import BrokerError
from millrace.schemas.outcome import JoinTimeout
from millrace.streams.join_clock import REPEAT_SECONDS, JoinClock


class Bench:
    """A clock whose time a test sets, in seconds after the epoch of the records."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.publisher = RecordingPublisher()
        self.clock = JoinClock(
            publisher=self.publisher,  # type: ignore[arg-type]
            topic="llm.outcomes",
            now=lambda: at(self.seconds).timestamp(),
        )
        self.clock.hold({0, 1})

    async def written_at(self, seconds: float) -> list[str]:
        """The requests whose timeout is written at a time."""
        self.seconds = seconds
        before = len(self.publisher.written)
        await self.clock.write_due()
        return [each.key.decode() for each in self.publisher.written[before:] if each.key]


async def test_a_timeout_is_written_when_due_and_not_before() -> None:
    """It carries the deadline, not the time of writing, so that a restart writes the same."""
    bench = Bench()
    bench.clock.watch("a", due=at(10), partition=0)
    assert await bench.written_at(9.99) == []

    assert await bench.written_at(12) == ["a"]
    assert bench.publisher.written[0].record == JoinTimeout(request_id="a", due=at(10))


async def test_they_come_in_the_order_of_their_deadlines() -> None:
    """Whatever the order in which they were watched."""
    bench = Bench()
    for name, due in (("c", 3), ("a", 1), ("b", 2), ("later", 30)):
        bench.clock.watch(name, due=at(due), partition=0)

    assert await bench.written_at(5) == ["a", "b", "c"]


async def test_a_join_that_ended_gets_none() -> None:
    """Also when it was watched twice."""
    bench = Bench()
    bench.clock.watch("a", due=at(1), partition=0)
    bench.clock.watch("a", due=at(1), partition=0)
    bench.clock.forget("a")
    bench.clock.forget("never seen")

    assert await bench.written_at(5) == []
    assert len(bench.clock) == 0


async def test_it_is_written_again_until_the_join_has_read_it() -> None:
    """The join may be on its way to another process."""
    bench = Bench()
    bench.clock.watch("a", due=at(1), partition=0)

    assert await bench.written_at(2) == ["a"]
    assert await bench.written_at(3) == []
    assert await bench.written_at(2 + REPEAT_SECONDS) == ["a"]
    bench.clock.forget("a")
    assert await bench.written_at(2 + 3 * REPEAT_SECONDS) == []


async def test_joins_of_partitions_that_were_taken_away_are_not_ended_here() -> None:
    """Their new owner does."""
    bench = Bench()
    bench.clock.watch("gone", due=at(1), partition=0)
    bench.clock.watch("kept", due=at(1), partition=1)
    bench.clock.hold({1})

    assert await bench.written_at(5) == ["kept"]


async def test_a_timeout_that_could_not_be_written_is_an_error() -> None:
    """Nobody may think that it is on the topic."""
    bench = Bench()
    bench.clock.watch("a", due=at(1), partition=0)
    bench.publisher.failure = BrokerError("no")

    with pytest.raises(BrokerError):
        await bench.written_at(5)


async def test_a_join_that_goes_on_has_another_time() -> None:
    """Sooner or later than before; only the last one said counts."""
    bench = Bench()
    bench.clock.watch("later", due=at(1), partition=0)
    bench.clock.watch("later", due=at(10), partition=0)
    bench.clock.watch("sooner", due=at(10), partition=0)
    bench.clock.watch("sooner", due=at(2), partition=0)

    assert await bench.written_at(5) == ["sooner"]
    assert await bench.written_at(10.5) == ["later"]
    assert [each.record.due for each in bench.publisher.written] == [at(2), at(10)]  # type: ignore[attr-defined]
