"""How long a routing decision takes with 20 provider entries of 200 models each.

Beside it stands a plain linear scan that filters and sorts every offer for each request, measured
in the same run and in turns with it, so that the ratio holds on any machine. The scan only finds
the first candidates of a plain request; the planner also counts tokens, estimates complexity and
cost, and says why.

    .venv/bin/python -m bench.routing [--seconds 2]
"""

import sys

if not __package__:  # run by its path: this folder would hide Python's own `http`
    sys.path[0] = sys.path[0].rpartition("/")[0]

import argparse
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from statistics import median, quantiles

from millrace.agents.classify_task import classify_task
from millrace.agents.health import ModelHealth
from millrace.agents.offers import Offer
from millrace.agents.plan_route import PlanRoute
from millrace.agents.policy import RoutePolicy
from millrace.providers.tokens import estimate_messages
from millrace.schemas.call import Job, Plan
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.message import Message
from millrace.schemas.request import Route
from millrace.schemas.vocabulary import TaskType

PROVIDERS, MODELS = 20, 200
GOAL_MS = 1.0
BOUND = Decimal("0.05")
CAPABILITIES = ("tools", "vision", "json", "json_schema", "code")
TASKS: tuple[TaskType, ...] = ("general", "code_review", "reasoning", "summarization")
TEXT = "Review the function below for mistakes, and say what you would change.\n" * 12

ROUTES = {
    "auto": Route(),
    "auto, bounded": Route(capabilities=("tools",), max_cost_usd=BOUND, max_latency_s=5),
    "auto, nothing cheap enough": Route(max_cost_usd=Decimal("0.0000001"), hardware="local"),
    "local_first, private": Route(strategy="local_first", sensitivity="private"),
    "ensemble of 5, best_of": Route(strategy="ensemble", members=5, mode="best_of", judge="m0"),
    "parallel of 3": Route(strategy="parallel", members=3),
    "cascade": Route(strategy="cascade", max_cost_usd=BOUND),
    "delegate": Route(strategy="delegate"),
}


def made_offers(draw: random.Random) -> tuple[Offer, ...]:
    """Offers of all kinds; a quarter runs on local hardware."""
    return tuple(
        Offer(
            provider=f"p{provider}",
            model=f"m{model}",
            hardware=draw.choice(("gpu", "cpu")) if provider % 4 == 0 else "cloud",
            capabilities=frozenset(draw.sample(CAPABILITIES, 3)),
            context_window=draw.choice((8_000, 32_000, 200_000)),
            quality=draw.randrange(100),
            input_usd_per_million=Decimal(draw.randrange(10, 1_000)) / 100,
            output_usd_per_million=Decimal(draw.randrange(40, 4_000)) / 100,
        )
        for provider in range(PROVIDERS)
        for model in range(MODELS)
    )


class MadeHealth(dict[tuple[str, str], ModelHealth]):
    """What is known of each model."""

    def of(self, provider: str, model: str) -> ModelHealth | None:
        """As routers ask."""
        return self.get((provider, model))


def made_health(offers: tuple[Offer, ...]) -> MadeHealth:
    """Every model is spoken of; those of one entry are down."""
    return MadeHealth(
        {
            (offer.provider, offer.model): ModelHealth(
                usable=offer.provider != "p7", total_ms=800.0, lag=3
            )
            for offer in offers
        }
    )


def job(task: TaskType) -> Job:
    """Work of about 200 tokens."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Job(
        request_id="r",
        task=task,
        messages=(Message(role="user", content=TEXT),),
        accepted_at=now,
        deadline=now + timedelta(minutes=1),
    )


def scan(offers: tuple[Offer, ...], prompt_tokens: int) -> list[Offer]:
    """The baseline: every offer looked at for each request."""
    fitting = [
        offer
        for offer in offers
        if offer.prices is not None
        and (offer.context_window or 0) >= prompt_tokens + 1_024
        and offer.prices[0] * prompt_tokens + offer.prices[1] * 1_024 <= BOUND * 1_000_000
    ]
    fitting.sort(key=lambda offer: (-offer.quality, sum(offer.prices or ()), offer.qualified_name))
    return fitting[:4]


def decide(planner: PlanRoute, work: Job, route: Route) -> Plan | InvalidEventError:
    """Plan; a refusal is a decision, too."""
    try:
        return planner.plan(work, route)
    except InvalidEventError as refusal:
        return refusal


def timed(work: Callable[..., object], *given: object) -> float:
    """Microseconds of CPU time of one call."""
    begun = time.process_time_ns()
    work(*given)
    return (time.process_time_ns() - begun) / 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each kind of request")
    seconds = parser.parse_args().seconds
    offers = made_offers(random.Random(7))
    policy = RoutePolicy.model_validate({"code_review": {"candidates": ["p1/*", "p4/*"]}})
    planner = PlanRoute(
        offers=offers, policy=policy, count_tokens=estimate_messages, health=made_health(offers).of
    )
    jobs = [job(task) for task in TASKS]
    print(f"{PROVIDERS} entries x {MODELS} models; microseconds of CPU time a decision")
    print(f"{'':28}{'median':>9}{'p99':>9}{'worst':>9}{'first':>9}{'scan':>9}  scan/planner")
    slowest = 0.0
    for name, route in ROUTES.items():
        first = max(timed(decide, planner, each, route) for each in jobs)
        planned, scanned = [], []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            scanned.append(timed(scan, offers, 200))
            planned += [timed(decide, planner, each, route) for each in jobs * 5]
        p99 = quantiles(planned, n=100)[-1]
        slowest = max(slowest, p99)
        print(
            f"{name:28}{median(planned):9.1f}{p99:9.1f}{max(planned):9.1f}{first:9.1f}"
            f"{median(scanned):9.1f}{median(scanned) / median(planned):9.1f}x"
        )
    guesses = [timed(classify_task, jobs[0].messages) for _ in range(500)]
    print(f"{'guessing the task':28}{median(guesses):9.1f}{quantiles(guesses, n=100)[-1]:9.1f}")
    verdict = "met" if slowest < GOAL_MS * 1e3 else "MISSED"
    print(f"goal: p99 under {GOAL_MS:g} ms for every kind of request: {verdict}")


if __name__ == "__main__":
    main()
