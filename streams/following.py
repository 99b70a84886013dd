"""What the parts of a process do with new settings; see `LiveSettings`."""

from collections.abc import Callable, Mapping
from typing import Protocol

from millrace.agents.accept_request import AcceptRequest
from millrace.agents.ask_task import AskTask
from millrace.agents.join import Join
from millrace.agents.plan_route import PlanRoute
from millrace.providers.protocol import ModelServer
from millrace.providers.rate_limit import RateLimiter
from millrace.streams.budget_gate import BudgetGate
from millrace.streams.budget_processor import BudgetProcessor
from millrace.streams.caller import Caller
from millrace.streams.exchange import Exchange
from millrace.streams.live_settings import Commit, Prepare
from millrace.streams.outcomes import OutcomesProcessor
from millrace.streams.reckoning import Reckoning
from millrace.streams.router import Router
from millrace.streams.settings import Settings


class Gated(Protocol):
    """Whoever asks a budget gate."""

    gate: BudgetGate


def router_follows(
    router: Router,
    *,
    accept: Callable[[Settings], AcceptRequest],
    plan: Callable[[Settings], PlanRoute],
    ask_task: Callable[[Settings], AskTask],
    gate: Callable[[Settings], BudgetGate],
) -> Prepare:
    """Have a router accept, plan and reserve by new settings, from the next record on."""

    def prepare(settings: Settings, _: Mapping[str, str]) -> Commit:
        accepting, planning, gating = accept(settings), plan(settings), gate(settings)
        asking = ask_task(settings)

        async def commit() -> None:
            router.accept, router.plan, router.gate = accepting, planning, gating
            router.ask_task = asking
            router.max_request_bytes = settings.requests.max_request_bytes

        return commit

    return prepare


def joins_follow(outcomes: OutcomesProcessor, join: Callable[[Settings], Join]) -> Prepare:
    """Have the joins plan requests whose task was asked for by new settings."""

    def prepare(settings: Settings, _: Mapping[str, str]) -> Commit:
        fresh = join(settings)

        async def commit() -> None:
            outcomes.join = fresh

        return commit

    return prepare


def gate_follows(gated: Gated, gate: Callable[[Settings], BudgetGate]) -> Prepare:
    """Have whoever asks a budget gate ask a new one."""

    def prepare(settings: Settings, _: Mapping[str, str]) -> Commit:
        fresh = gate(settings)

        async def commit() -> None:
            gated.gate = fresh

        return commit

    return prepare


def budgets_follow(processor: BudgetProcessor, held: Callable[[], set[int]]) -> Prepare:
    """Have budgets decide by new limits; what has been spent stays."""

    def prepare(settings: Settings, _: Mapping[str, str]) -> Commit:
        async def commit() -> None:
            processor.policy = settings.budgets
            processor.restore(held())

        return commit

    return prepare


def caller_follows(
    caller: Caller, exchange: Exchange, reckoning: Callable[[Settings], Reckoning]
) -> Prepare:
    """Have a caller price calls, and bound them, by new settings, from the next call on."""

    def prepare(settings: Settings, _: Mapping[str, str]) -> Commit:
        entry = settings.providers[caller.provider]
        fresh = reckoning(settings)

        async def commit() -> None:
            exchange.reckoning = fresh
            caller.allow(entry.limits.in_flight)

        return commit

    return prepare


def limiter_follows(name: str, provider: ModelServer, limiter: RateLimiter) -> Prepare:
    """Have an entry's rate limits, and the keys they are told of, be those of new settings.

    To be put in force after the provider itself, whose accounts it asks for.
    """

    def prepare(settings: Settings, _: Mapping[str, str]) -> Commit:
        limits = settings.providers[name].limits

        async def commit() -> None:
            limiter.renew(limits=limits, accounts=provider.accounts)

        return commit

    return prepare
