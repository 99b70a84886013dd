"""How a call comes to its place, and what becomes of it while it waits for one."""

import asyncio
from decimal import Decimal
from typing import Self

import pytest
from exchange_bench import (
    REPORTED,
    WHOLE,
    Bench,
    bench,
    delay,
    granted,
    limited,
    settled,
    some_places,
    streamed,
)
from pipeline_doubles import until
from pipeline_records import at, make_call, make_job

from millrace.providers.backoff import BackoffSettings
from millrace.providers.rate_limit import Reservation
from millrace.schemas.cancellation import Cancellation
from millrace.schemas.errors import ProviderUnavailableError
from millrace.schemas.usage import Usage


class Turn:
    """The only place of an entry, which another call has until `free` is called."""

    def __init__(self, quota: Reservation | None = None) -> None:
        self.places = some_places()
        self._other = self.places.begin()
        self.place = self.places.begin(quota)

    async def __aenter__(self) -> Self:
        await self._other.take()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.free()

    def free(self) -> None:
        self._other.leave()


async def reserved(at_bench: Bench) -> None:
    """Wait until a call's reservation is in the books."""
    await until(lambda: bool(at_bench.publisher.ledger))
    await asyncio.sleep(0)


async def test_a_call_takes_its_place_when_its_reservation_is_acknowledged() -> None:
    """No place is empty while the broker takes its time; and none is given to two."""
    at_bench = bench(WHOLE)
    at_bench.publisher.hold = True
    async with Turn() as turn:
        run = asyncio.create_task(at_bench.exchange().run(make_call(), place=turn.place))
        await reserved(at_bench)
        at_bench.publisher.acknowledge()
        await asyncio.sleep(0)
        assert at_bench.provider.asked == []

        turn.free()
        await until(lambda: bool(at_bench.publisher.outcomes))
        assert len(at_bench.provider.asked) == 1
        # Its records are still on their way to the broker.
        assert turn.places.taken == 0
        at_bench.publisher.hold = False
        at_bench.publisher.acknowledge()
        await run


async def test_a_retry_in_place_keeps_the_place() -> None:
    """It is the same call's turn still."""
    at_bench = bench()
    at_bench.backoff = BackoffSettings(max_tries=2, base_seconds=0.001)
    places = some_places()
    place = places.begin()
    taken: list[int] = []

    async def fail_once() -> None:
        taken.append(places.taken)
        if len(taken) == 1:
            raise ProviderUnavailableError("down")

    at_bench.provider.steps = (fail_once, WHOLE)
    await at_bench.exchange().run(make_call(), place=place)

    assert [each.status for each in at_bench.publisher.outcomes] == ["completed"]
    assert (taken, places.taken) == ([1, 1], 0)


@pytest.mark.parametrize("ending", ["expired", "cancelled"])
async def test_a_call_that_ends_while_it_waits_for_its_place_asks_nobody(ending: str) -> None:
    """It has cost nothing: in the ledger, of its budgets, and of the rate limit."""
    at_bench = limited(WHOLE, requests_per_minute=1)
    call = granted()
    if ending == "expired":
        at_bench.now = at(59.99)
    async with Turn(at_bench.limiter.reserve("m0", 10)) as turn:
        run = asyncio.create_task(at_bench.exchange().run(call, place=turn.place))
        await reserved(at_bench)
        if ending == "cancelled":
            at_bench.cancellations.add(Cancellation(request_id="r1"))
        await run

    assert at_bench.provider.asked == []
    assert [each.status for each in at_bench.publisher.outcomes] == [ending]
    booked = at_bench.publisher.ledger[1]
    assert (booked.event, booked.status, booked.usage) == ("spent", ending, Usage())
    assert booked.cost_usd == 0
    assert [(each.usd, each.tokens, each.final) for each in settled(at_bench)] == [
        (Decimal(0), 0, True)
    ] * 2
    assert delay(at_bench) == 0
    assert turn.places.taken == 0


@pytest.mark.parametrize("ending", ["expired", "cancelled"])
async def test_a_call_that_ends_while_it_is_reserved_asks_nobody(ending: str) -> None:
    """Though there is a place for it when the broker has answered."""
    at_bench = bench(WHOLE)
    at_bench.publisher.hold = True
    run = asyncio.create_task(at_bench.exchange().run(streamed()))
    await reserved(at_bench)
    if ending == "expired":
        at_bench.now = at(60)
    else:
        at_bench.cancellations.add(Cancellation(request_id="r1"))
    at_bench.publisher.hold = False
    at_bench.publisher.acknowledge()
    await run

    assert at_bench.provider.asked == []
    assert [each.status for each in at_bench.publisher.outcomes] == [ending]
    assert at_bench.publisher.ledger[1].cost_usd == 0


async def test_a_call_broken_off_while_it_waits_for_its_place_has_cost_nothing() -> None:
    """Shutdown: whoever reads it next makes it, and its budgets keep what it has reserved."""
    at_bench = limited(WHOLE, requests_per_minute=1)
    async with Turn(at_bench.limiter.reserve("m0", 10)) as turn:
        run = asyncio.create_task(at_bench.exchange().run(granted(), place=turn.place))
        await reserved(at_bench)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        turn.place.leave()

    assert (at_bench.provider.asked, at_bench.publisher.outcomes) == ([], [])
    booked = at_bench.publisher.ledger[1]
    assert (booked.error_code, booked.usage, booked.cost_usd) == ("interrupted", Usage(), 0)
    assert [(each.usd, each.tokens, each.final) for each in settled(at_bench)] == [
        (Decimal(0), 0, False)
    ] * 2
    assert delay(at_bench) == 0
    assert (turn.places.taken, turn.places.preparing) == (0, 0)


async def test_answers_that_come_together_leave_their_places_before_they_are_booked() -> None:
    """Who waits for the places is sent first; what is written then may take its time."""
    at_bench = bench(WHOLE)
    count = 4
    places = some_places(count)
    runs = [
        asyncio.create_task(
            at_bench.exchange().run(make_call(make_job(f"r{number}")), place=places.begin())
        )
        for number in range(count)
    ]
    await until(lambda: len(at_bench.provider.asked) == count)
    await until(lambda: places.taken == 0)
    booked = len(at_bench.publisher.outcomes)
    await asyncio.gather(*runs)

    assert booked < count
    assert len(at_bench.publisher.outcomes) == count


async def test_an_answer_is_not_lost_when_its_call_is_broken_off_before_it_is_booked() -> None:
    """Shutdown, or a rebalance: it was paid for, so its outcome and what it cost are written."""
    at_bench = bench()
    # Another answer has this turn of the event loop.
    at_bench.provider.steps = (at_bench.turns.wait, WHOLE)
    places = some_places()
    place = places.begin()
    run = asyncio.create_task(at_bench.exchange().run(streamed(), place=place))
    await until(lambda: at_bench.provider.closed == 1)
    assert places.taken == 0
    assert at_bench.publisher.outcomes == []
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    assert [each.status for each in at_bench.publisher.outcomes] == ["completed"]
    assert [each.event for each in at_bench.publisher.ledger] == ["reserved", "spent"]
    assert at_bench.publisher.ledger[1].usage == REPORTED
