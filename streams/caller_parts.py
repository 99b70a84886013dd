"""Makes what a caller process consists of: a caller for each provider entry."""

import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial

from millrace.providers.backoff import Backoff
from millrace.providers.entry import ProviderEntry
from millrace.providers.pricing import Pricing
from millrace.providers.rate_limit import RateLimiter
from millrace.providers.tokens import estimate_call, estimate_text
from millrace.schemas.call import Call
from millrace.schemas.ids import uuid7
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.usage import Usage
from millrace.schemas.vocabulary import LOCAL_HARDWARE, CostSource
from millrace.streams.admission import Admission
from millrace.streams.attempts import Attempts
from millrace.streams.call_records import CallRecords, ExchangeTopics
from millrace.streams.called_entries import CalledEntries, CalledEntry
from millrace.streams.caller import Caller
from millrace.streams.cancellations import CancellationReader, Cancellations
from millrace.streams.conversation import Conversation
from millrace.streams.dead_letters import utc_now
from millrace.streams.exchange import Exchange
from millrace.streams.following import caller_follows, limiter_follows
from millrace.streams.loop_turns import LoopTurns
from millrace.streams.parts import Parts
from millrace.streams.quotas import Quotas
from millrace.streams.reckoning import Price, Reckoning
from millrace.streams.retries import Retries
from millrace.streams.retrying import Retrying
from millrace.streams.settings import Settings
from millrace.streams.unmade import Unmade

_LEAST_AHEAD = 16
_MOST_AHEAD = 2000
_BYTES_AHEAD = 32 * 1024 * 1024
"""How many calls a caller reads ahead, so that it has some to choose from."""
_ENDED_AT_ONCE = 16
"""Calls whose answers are booked in one turn of the event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerParts:
    """How each part of the caller role is made."""

    shared: Parts

    def cancellation_reader(
        self, cancellations: Cancellations, window: timedelta
    ) -> CancellationReader:
        """What tells callers which work to stop."""
        return CancellationReader(
            settings=self.shared.settings.kafka,
            topic=self.shared.topics.cancellations,
            cancellations=cancellations,
            set_aside=self.shared.set_aside,
            window=window,
        )

    def called_entries(self) -> CalledEntries:
        """What the callers of this process know of their entries."""
        return CalledEntries(
            settings=self.shared.settings.health,
            environ=self.shared.environ,
            reporter=uuid7(),
            clock=utc_now,
            publisher=self.shared.publisher,
            topic=self.shared.topics.provider_health,
        )

    def callers(
        self, stack: AsyncExitStack, cancellations: Cancellations, entries: CalledEntries
    ) -> list[Caller]:
        """The caller role: one for each provider entry, each following new settings."""
        shared = self.shared
        records = self._records(entries)
        turns = LoopTurns(each=_ENDED_AT_ONCE)
        made = []
        limiters = []
        for name, entry in shared.settings.enabled_providers.items():
            called = entries.add(name, entry, circuit=shared.settings.caller.circuit)
            stack.push_async_callback(called.provider.aclose)
            reckoning = partial(_reckoning, name)
            # Without a share until partitions are assigned: no restart makes a burst.
            limiter = RateLimiter(
                limits=entry.limits,
                now=time.monotonic,
                accounts=called.provider.accounts,
                share=0.0,
            )
            exchange = Exchange(
                conversation=Conversation(
                    provider=called.provider, cancellations=cancellations, clock=utc_now
                ),
                unmade=Unmade(
                    local=entry.hardware in LOCAL_HARDWARE,
                    records=records,
                    cancellations=cancellations,
                    clock=utc_now,
                    new_id=uuid7,
                ),
                reckoning=reckoning(shared.settings),
                records=records,
                retrying=self._retrying(called, cancellations),
                quotas=Quotas(limiter=limiter),
                cancellations=cancellations,
                turns=turns,
                clock=utc_now,
                new_id=uuid7,
            )
            caller = self._caller(name, entry, exchange, limiter)
            called.health.in_flight = partial(_in_flight, caller)
            shared.live.follow(caller_follows(caller, exchange, reckoning))
            limiters.append(limiter_follows(name, called.provider, limiter))
            made.append(caller)
        shared.live.follow(entries.prepare)
        for follows in limiters:
            shared.live.follow(follows)
        return made

    def _caller(
        self, name: str, entry: ProviderEntry, exchange: Exchange, limiter: RateLimiter
    ) -> Caller:
        shared, settings = self.shared, self.shared.settings
        in_flight = entry.limits.in_flight
        return Caller(
            provider=name,
            topic=shared.topics.calls(name),
            group=f"{settings.app_id}-caller-{name}",
            in_flight=in_flight,
            kafka=settings.kafka,
            settings=settings.caller,
            exchange=exchange,
            attempts=Attempts(remembered=settings.caller.remembered_attempts),
            set_aside=shared.set_aside,
            admission=Admission(
                provider=name,
                limiter=limiter,
                settings=settings.caller.lanes,
                records=min(max(in_flight, _LEAST_AHEAD), _MOST_AHEAD),
                content_bytes=_BYTES_AHEAD,
                count_tokens=estimate_call,
                is_over=exchange.unmade.is_over,
                is_turned_away=exchange.is_turned_away,
                now=time.monotonic,
            ),
        )

    def _records(self, entries: CalledEntries) -> CallRecords:
        shared = self.shared
        topics = shared.topics

        def spent(event: UsageEvent) -> None:
            shared.tally.spent(event)
            entries.spent(event)

        return CallRecords(
            publisher=shared.publisher,
            patient=shared.patient,
            topics=ExchangeTopics(
                chunks=topics.chunks, outcomes=topics.outcomes, usage=topics.usage
            ),
            flush_seconds=shared.settings.caller.chunk_flush_seconds,
            on_spent=spent,
        )

    def _retrying(self, called: CalledEntry, cancellations: Cancellations) -> Retrying:
        return Retrying(
            backoff=Backoff(settings=self.shared.settings.caller.backoff, draw=random.random),
            circuits=called.circuits,
            available=called.health.is_available,
            cancellations=cancellations,
            publisher=self.shared.publisher,
            topic=self.shared.topics.retries,
            clock=utc_now,
        )

    def retries(self, cancellations: Cancellations) -> Retries:
        """What sends calls on once their time has come."""
        return Retries(
            topic=self.shared.topics.retries,
            group=f"{self.shared.settings.app_id}-retries",
            calls_topic=self.shared.topics.calls,
            kafka=self.shared.settings.kafka,
            settings=self.shared.settings.retries,
            publisher=self.shared.publisher,
            set_aside=self.shared.set_aside,
            cancellations=cancellations,
            clock=utc_now,
        )


def _in_flight(caller: Caller) -> int:
    return caller.in_flight


def _reckoning(provider: str, settings: Settings) -> Reckoning:
    price = _price(Pricing(now=utc_now), settings.providers[provider])
    return Reckoning(price=price, count_tokens=_EstimatedTokens(), clock=utc_now)


class _EstimatedTokens:
    """Counts where a provider does not say."""

    def request(self, call: Call) -> int:
        return estimate_call(call)

    def text(self, text: str) -> int:
        return estimate_text(text)


def _price(pricing: Pricing, entry: ProviderEntry) -> Price:
    def price(
        model: str, usage: Usage, reported: Decimal | None
    ) -> tuple[Decimal | None, CostSource]:
        return pricing.cost(entry, model, usage, reported)

    return price
