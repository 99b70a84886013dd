"""A call whose texts are turned into vectors, from its record to everything said about it."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from itertools import count

import pytest
from pipeline_doubles import RecordingPublisher, ScriptedProvider, Step, never, until
from pipeline_records import at, make_call, make_job

from millrace.providers.backoff import Backoff, BackoffSettings
from millrace.providers.circuit import Circuits, CircuitSettings
from millrace.providers.entry import ProviderEntry
from millrace.providers.pricing import Pricing
from millrace.providers.protocol import EmbeddingReply, EmbeddingRequest
from millrace.providers.rate_limit import RateLimiter, RateLimits
from millrace.providers.tokens import estimate_call, estimate_text
from millrace.schemas.call import Call
from millrace.schemas.cancellation import Cancellation
from millrace.schemas.errors import (
    BrokerError,
    ErrorCode,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    ReplyInvalidError,
    RequestRefusedError,
)
from millrace.schemas.record import Record
from millrace.schemas.usage import Usage
from millrace.schemas.vocabulary import CostSource
from millrace.streams.call_records import CallRecords, ExchangeTopics
from millrace.streams.cancellations import Cancellations
from millrace.streams.conversation import Conversation
from millrace.streams.exchange import Exchange
from millrace.streams.loop_turns import LoopTurns
from millrace.streams.quotas import Quotas
from millrace.streams.reckoning import Reckoning
from millrace.streams.retrying import Retrying
from millrace.streams.unmade import Unmade

VECTORS = ((0.1, -0.2), (1.0, 0.006929283495992422))
REPLY = EmbeddingReply(vectors=VECTORS, usage=Usage(input_tokens=9), key_alias="SOME_KEY")
ENTRY = ProviderEntry.model_validate(
    {
        "wire": "openai",
        "base_url": "https://api.openai.com/v1",
        "prices": "openai",
        "models": {"m0": {"price_as": "text-embedding-3-small"}},
    }
)
PRICING = Pricing(now=lambda: at(1))


class Counted:
    """The estimates that callers use."""

    def request(self, call: Call) -> int:
        return estimate_call(call)

    def text(self, text: str) -> int:
        return estimate_text(text)


def price(model: str, usage: Usage, reported: Decimal | None) -> tuple[Decimal | None, CostSource]:
    """The price table's."""
    return PRICING.cost(ENTRY, model, usage, reported)


class NarrowPublisher(RecordingPublisher):
    """Takes no record with vectors on the outcomes topic, as a broker with a small limit."""

    async def publish(self, topic: str, record: Record, **rest: object) -> "asyncio.Future[object]":
        if getattr(record, "embeddings", ()):
            raise BrokerError("the record is too large for the topic", code="too_large")
        return await super().publish(topic, record, **rest)  # type: ignore[arg-type]


@dataclass
class Bench:
    """An exchange with a scripted provider, at one second past the request's acceptance."""

    provider: ScriptedProvider
    publisher: RecordingPublisher = field(default_factory=RecordingPublisher)
    max_tries: int = 1
    cancellations: Cancellations = field(
        default_factory=lambda: Cancellations(window=timedelta(hours=1), clock=lambda: at(1))
    )

    async def run(self, call: Call) -> None:
        """Make a call."""
        ids = count(1)
        records = CallRecords(
            publisher=self.publisher,  # type: ignore[arg-type]
            patient=self.publisher,  # type: ignore[arg-type]
            topics=ExchangeTopics(chunks="chunks", outcomes="outcomes", usage="usage"),
            flush_seconds=3600.0,
        )
        exchange = Exchange(
            conversation=Conversation(
                provider=self.provider, cancellations=self.cancellations, clock=lambda: at(1)
            ),
            unmade=Unmade(
                local=True,
                records=records,
                cancellations=self.cancellations,
                clock=lambda: at(1),
                new_id=lambda: f"i{next(ids)}",
            ),
            reckoning=Reckoning(price=price, count_tokens=Counted(), clock=lambda: at(1)),
            records=records,
            quotas=Quotas(limiter=RateLimiter(limits=RateLimits(), now=time.monotonic)),
            retrying=Retrying(
                backoff=Backoff(
                    settings=BackoffSettings(max_tries=self.max_tries), draw=lambda: 0.0
                ),
                circuits=Circuits(settings=CircuitSettings(), now=time.monotonic),
                cancellations=self.cancellations,
                publisher=self.publisher,  # type: ignore[arg-type]
                topic="retries",
                clock=lambda: at(1),
            ),
            cancellations=self.cancellations,
            turns=LoopTurns(each=1),
            clock=lambda: at(1),
            new_id=lambda: f"i{next(ids)}",
        )
        await exchange.run(call)


def bench(*steps: Step, **fields: object) -> Bench:
    """A bench whose provider takes these steps."""
    return Bench(ScriptedProvider(steps), **fields)  # type: ignore[arg-type]


def texts(*, dimensions: int | None = None) -> Call:
    """A call with two texts."""
    return make_call(make_job(messages=(), inputs=("a mill", "a river"), dimensions=dimensions))


async def test_a_batch_is_one_exchange_one_row_and_no_chunk() -> None:
    """Reserved by an estimate of its texts, spent by the provider's count, priced by the table."""
    at_bench = bench(REPLY)
    await at_bench.run(texts(dimensions=2))

    written = at_bench.publisher
    (outcome,) = written.outcomes
    assert at_bench.provider.embedded == [
        EmbeddingRequest(model="m0", inputs=("a mill", "a river"), dimensions=2)
    ]
    assert at_bench.provider.asked == []
    assert (outcome.status, outcome.text, outcome.embeddings) == ("completed", "", VECTORS)
    assert (outcome.usage, outcome.finish_reason) == (Usage(input_tokens=9), "stop")
    assert (outcome.cost_usd, outcome.cost_source) == (Decimal("0.00000018"), "price_table")
    assert outcome.timing.time_to_first_token_ms is None
    assert written.chunks == []
    assert [each.event for each in written.ledger] == ["reserved", "spent"]
    assert {each.row_id for each in written.ledger} == {"r1/0/1/i1"}
    assert written.ledger[0].usage.input_tokens == estimate_text("a mill") + estimate_text(
        "a river"
    )
    assert written.ledger[1].usage == Usage(input_tokens=9)
    assert written.ledger[1].key_alias == "SOME_KEY"


async def test_what_the_provider_says_it_charged_is_taken() -> None:
    """Over the price table."""
    charged = EmbeddingReply(
        vectors=VECTORS, usage=Usage(input_tokens=9), reported_cost_usd=Decimal("0.5")
    )
    at_bench = bench(charged)
    await at_bench.run(texts())

    (outcome,) = at_bench.publisher.outcomes
    assert (outcome.cost_usd, outcome.cost_source) == (Decimal("0.5"), "provider")


@pytest.mark.parametrize(
    ("error", "code", "tokens"),
    [
        (RateLimitedError("slower"), "rate_limited", 0),
        (RequestRefusedError("no embeddings"), "request_refused", 0),
        (ProviderUnavailableError("down"), "provider_unavailable", 0),
        (ProviderUnavailableError("cut", code="stream_truncated"), "stream_truncated", 3),
        (ProviderUnavailableError("late", code="provider_timeout"), "provider_timeout", 3),
        (ReplyInvalidError("odd"), "reply_invalid", 3),
    ],
)
async def test_a_failure_costs_what_may_have_been_worked_on(
    error: ProviderError, code: ErrorCode, tokens: int
) -> None:
    """An estimate of the texts, or nothing where the provider refused."""
    at_bench = bench(error)
    await at_bench.run(texts())

    (outcome,) = at_bench.publisher.outcomes
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code, outcome.embeddings) == ("failed", code, ())
    assert outcome.usage is not None
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (tokens, 0)
    assert at_bench.publisher.ledger[-1].usage == outcome.usage


async def test_another_try_is_another_row() -> None:
    """At the same model."""
    failures = iter([ProviderUnavailableError("down")])

    async def fail_once() -> None:
        for failure in failures:
            raise failure

    at_bench = bench(fail_once, REPLY, max_tries=2)
    await at_bench.run(texts())

    (outcome,) = at_bench.publisher.outcomes
    assert (outcome.status, outcome.call.attempt) == ("completed", 2)
    assert [(each.row_id, each.event) for each in at_bench.publisher.ledger] == [
        ("r1/0/1/i1", "reserved"),
        ("r1/0/1/i1", "spent"),
        ("r1/0/2/i2", "reserved"),
        ("r1/0/2/i2", "spent"),
    ]


async def test_a_cancelled_batch_is_broken_off_and_booked_as_an_estimate() -> None:
    """The provider may have worked on it."""
    at_bench = bench(never)
    running = asyncio.create_task(at_bench.run(texts()))
    await until(lambda: bool(at_bench.provider.embedded))
    at_bench.cancellations.add(Cancellation(request_id="r1", cancelled_at=at(1)))
    await running

    (outcome,) = at_bench.publisher.outcomes
    assert outcome.status == "cancelled"
    assert outcome.usage == Usage(input_tokens=3, source="estimated")


async def test_vectors_that_no_topic_takes_end_the_attempt_and_stay_in_the_books() -> None:
    """The calls behind them must not stop for it."""
    at_bench = bench(REPLY, publisher=NarrowPublisher())
    await at_bench.run(texts())

    (outcome,) = at_bench.publisher.outcomes
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code, outcome.embeddings) == ("failed", "too_large", ())
    assert outcome.usage == Usage(input_tokens=9)
