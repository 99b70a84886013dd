"""What follows on the topics from what is asked of budgets."""

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from pipeline_doubles import Published, RecordingPublisher
from pipeline_records import EPOCH, make_call, make_job, make_plan, make_raw

from millrace.agents.budget_policy import Budget, BudgetPolicy
from millrace.schemas.budget import BudgetAlert, BudgetClaim, BudgetRelease, BudgetSettlement
from millrace.schemas.call import Call
from millrace.schemas.chunk import Chunk
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.outcome import AttemptOutcome
from millrace.schemas.record import Record
from millrace.streams.budget_processor import REFUSED, BudgetProcessor
from millrace.streams.state_table import StateTable
from millrace.streams.stream_app import Outputs
from millrace.streams.topics import TopicNames

A = Budget(name="a", usd=2)
B = Budget(name="b", usd=1)


class TableOwner:
    """Makes tables as a Faust app does, of which `StateTable` uses the data alone."""

    conf = SimpleNamespace(id="app")

    def Table(self, *_: Any, **__: Any) -> Any:  # noqa: N802 (Faust's name)
        return SimpleNamespace(data={})


@dataclass
class Bench:
    """A processor, what it sent and what its changelog holds."""

    budgets: tuple[Budget, ...] = (A, B)
    publisher: RecordingPublisher = field(default_factory=RecordingPublisher)
    changelog: dict[bytes, bytes] = field(default_factory=dict)
    alerts: list[BudgetAlert] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    offset: int = -1

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Go on from the changelog, as another process would."""
        publisher: Any = self.publisher
        owner: Any = TableOwner()
        table = StateTable(owner, "budgets", publisher=publisher, partitions=2)
        table._table.data.update(self.changelog)
        self.processor = BudgetProcessor(
            policy=BudgetPolicy(self.budgets),
            publisher=publisher,
            topics=TopicNames(),
            states=table,
            on_alert=self.alerts.append,
            on_refusal=self.refusals.append,
        )
        self.processor.restore({0, 1})

    async def read(
        self, record: Record, *, seconds: float = 0.0, offset: int | None = None
    ) -> list[Published]:
        """Read a record; returns what was sent."""
        if offset is None:
            self.offset = offset = self.offset + 1
        raw = make_raw(
            record.encode(), offset=offset, topic="llm.usage", headers=(*record.kafka_headers(),)
        )
        outputs = Outputs()
        before = len(self.publisher.written)
        await self.processor.process(
            raw._replace(timestamp=EPOCH + timedelta(seconds=seconds)), outputs
        )
        for state in outputs.states:
            if state.stored is None:
                self.changelog.pop(state.key, None)
            else:
                self.changelog[state.key] = state.stored
        sent = self.publisher.written[before:]
        assert len(outputs.deliveries) == len(sent)
        return sent

    @property
    def sums(self) -> dict[str, tuple[str, str]]:
        """US dollars spent and reserved, by budget."""
        return {
            name: (f"{account.spent.usd.normalize():f}", f"{account.reserved.usd.normalize():f}")
            for name, account in self.processor.accounts().items()
        }


def claim(
    call: Call | None = None, *, usd: str = "1", pending: tuple[str, ...] = ("a", "b"), **more: Any
) -> BudgetClaim:
    """A claim for a call."""
    return BudgetClaim(
        call=call or make_call(), usd=Decimal(usd), tokens=10, pending=pending, **more
    )


def settlement(budget: str = "a", usd: str = "0.5", **more: Any) -> BudgetSettlement:
    """What the call cost."""
    given = {"claim_id": "r1/0/1", "invocation": "i1", "tokens": 5, **more}
    return BudgetSettlement(budget=budget, usd=Decimal(usd), **given)


async def test_a_granted_claim_goes_on_to_the_next_budget() -> None:
    """With the name of the one that granted it."""
    (sent,) = await Bench().read(claim())

    assert (sent.topic, sent.key) == ("llm.usage", b"b")
    assert sent.record == claim(pending=("b",), granted=("a",))


async def test_the_last_budget_sends_the_call_to_its_provider() -> None:
    """Which knows by it whom to tell what the call cost."""
    call = make_call(make_job(conversation_id="talk"))
    (sent,) = await Bench().read(claim(call, pending=("b",), granted=("a",)))

    assert (sent.topic, sent.key) == ("llm.calls.p00", b"talk")
    assert isinstance(sent.record, Call)
    assert sent.record.attempt_id == call.attempt_id
    assert vars(sent.record)["budgets"] == ("a", "b")


async def test_a_refused_call_becomes_a_failed_outcome_of_its_attempt() -> None:
    """For which nothing can have been spent; the budgets that had granted it get it back."""
    bench = Bench()
    (release, outcome) = await bench.read(
        claim(usd="1.5", pending=("b",), granted=("a",)), seconds=2
    )

    assert (release.topic, release.key) == ("llm.usage", b"a")
    assert release.record == BudgetRelease(budget="a", claim_id="r1/0/1")
    assert (outcome.topic, outcome.key) == ("llm.outcomes", b"r1")
    refused = outcome.record
    assert isinstance(refused, AttemptOutcome)
    assert (refused.status, refused.usage, refused.cost_usd) == ("failed", None, None)
    assert refused.error is not None
    assert refused.error.code == REFUSED
    assert "budget 'b' has 1 of 1 US dollars left" in refused.error.message
    assert refused.finished_at == EPOCH + timedelta(seconds=2)
    assert refused.timing.queued_ms == 2000
    assert bench.refusals == ["b"]


@pytest.mark.parametrize(("candidates", "end"), [(1, "error"), (2, "restarted")])
async def test_a_streamed_request_sees_the_attempt_end(candidates: int, end: str) -> None:
    """As every attempt ends in its chunks, with whether another may follow."""
    call = make_call(make_job(stream=True), make_plan(candidates))
    (chunk, _) = await Bench().read(claim(call, usd="3", pending=("a",)))

    assert (chunk.topic, chunk.key) == ("llm.chunks", b"r1")
    assert isinstance(chunk.record, Chunk)
    assert (chunk.record.sequence, chunk.record.end) == (0, end)


async def test_a_burst_is_granted_what_fits_and_the_rest_is_refused() -> None:
    """Each request gets its own answer."""
    bench = Bench()
    topics = []
    for number in range(5):
        call = make_call(make_job(f"r{number}"))
        topics += [each.topic for each in await bench.read(claim(call, pending=("a",)))]

    assert topics == ["llm.calls.p00"] * 2 + ["llm.outcomes"] * 3
    assert bench.sums == {"a": ("0", "2")}


async def test_settlements_and_releases_change_the_sums_and_send_nothing() -> None:
    """Until a share is reached."""
    bench = Bench()
    await bench.read(claim())
    await bench.read(claim(make_call(make_job("r2"))))

    assert await bench.read(settlement(usd="0.25")) == []
    assert await bench.read(BudgetRelease(budget="a", claim_id="r2/0/1")) == []
    assert bench.sums == {"a": ("0.25", "0")}


async def test_a_share_that_is_reached_is_announced_on_the_topic_and_to_the_process() -> None:
    """Under the budget's name."""
    bench = Bench()
    (sent,) = await bench.read(settlement(usd="1.1"), seconds=3)

    assert (sent.topic, sent.key) == ("llm.usage", b"a")
    alert = sent.record
    assert isinstance(alert, BudgetAlert)
    assert bench.alerts == [alert]
    assert (alert.share, alert.spent_usd, alert.limit_usd) == (Decimal("0.5"), Decimal("1.1"), 2)
    assert (str(alert.window_start), alert.at) == ("2026-03-01", EPOCH + timedelta(seconds=3))


async def test_sums_reservations_and_alerts_survive_a_restart() -> None:
    """The next process decides as this one would have."""
    bench = Bench()
    await bench.read(settlement(usd="1", claim_id="r0/0/1"))
    await bench.read(claim(usd="0.75", pending=("a",)))
    bench.restart()

    assert bench.sums == {"a": ("1", "0.75")}
    refused = await bench.read(claim(make_call(make_job("r2")), usd="0.5", pending=("a",)))
    assert [each.topic for each in refused] == ["llm.outcomes"]
    assert await bench.read(settlement(usd="0.5")) == []
    assert bench.sums == {"a": ("1.5", "0")}


async def test_a_record_that_is_read_again_is_kept_again_and_sends_nothing() -> None:
    """What followed from it has been sent; its state may not have been written."""
    bench = Bench()
    await bench.read(claim())
    before = dict(bench.changelog)
    bench.changelog.clear()

    assert await bench.read(claim(), offset=0) == []
    assert bench.changelog == before


async def test_a_claim_that_is_written_twice_goes_on_twice_and_is_reserved_once() -> None:
    """Whoever wrote it may have crashed before it knew that it had."""
    bench = Bench()
    first, second = await bench.read(claim()), await bench.read(claim())

    assert [each.record for each in first] == [each.record for each in second]
    assert bench.sums == {"a": ("0", "1")}


async def test_what_has_been_settled_does_not_stay_for_ever() -> None:
    """After a while only the account is left."""
    bench = Bench()
    await bench.read(claim(pending=("a",)))
    await bench.read(settlement())
    assert set(bench.changelog) == {b"a", b"a/r1/0/1"}

    await bench.read(settlement("a", "0", claim_id="x", invocation="i2"), seconds=3600)
    assert set(bench.changelog) == {b"a"}


async def test_the_partitions_of_others_are_left_to_them() -> None:
    """Their sums may be old here."""
    bench = Bench()
    await bench.read(claim())
    bench.processor.restore({1})

    assert bench.sums == {}


async def test_a_claim_passes_a_budget_that_is_configured_no_more() -> None:
    """It is not among those that are told the cost; what else names it is not counted."""
    bench = Bench(budgets=(B,))
    (sent,) = await bench.read(claim())

    assert sent.record == claim(pending=("b",))
    assert await bench.read(settlement("a")) == []
    assert bench.changelog == {}


async def test_other_records_of_the_topic_are_not_looked_at() -> None:
    """The ledger's events, and its own alerts."""
    bench = Bench()
    outputs = Outputs()
    for headers in ((), (("schema", b"usage-event"),), (("schema", b"budget-alert"),)):
        await bench.processor.process(make_raw(b"not even JSON", headers=headers), outputs)

    assert (outputs.deliveries, outputs.states) == ([], [])


async def test_a_broken_record_is_refused() -> None:
    """It is set aside, and its neighbours do not notice."""
    raw = make_raw(b"{}", headers=(("schema", b"budget-claim"),))

    with pytest.raises(InvalidEventError, match="not a valid budget-claim"):
        await Bench().processor.process(raw, Outputs())


async def test_what_no_budget_wrote_to_the_changelog_stops_none() -> None:
    """Bytes that are no state, and states that are none of these."""
    bench = Bench()
    bench.changelog = {
        b"\xff": b"[0, 1.0, [1]]",
        b"no json": b"\x00\xff",
        b"no state": b'{"a": 1}',
        b"empty": b"",
        b"b": b"[0, 1.0, 7]",
        b"b/claim": b'[0, 1.0, ["x"]]',
        b"decimal": b'[0, 1.0, ["2026-03-01", "x", 0, "0", 0, "0", 0]]',
    }
    bench.restart()

    assert bench.processor.accounts() == {}
