"""Decides which models are asked for a job, in which order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import get_args

from millrace.agents.classify_task import TaskGuess
from millrace.agents.compose_strategy import (
    Choice,
    Composed,
    Shortage,
    ask_one,
    cascade,
    delegate,
    ensemble,
    race,
)
from millrace.agents.constraints import Constraints, Sizes, dollars
from millrace.agents.estimate_complexity import estimate_complexity
from millrace.agents.health import HealthOf
from millrace.agents.heed_health import heed_health, ordered_by_health
from millrace.agents.offers import Offer
from millrace.agents.plan_embedding import MAX_OUTCOME_BYTES, plan_embedding
from millrace.agents.policy import RoutePolicy, TaskRoute
from millrace.agents.rank_offers import MAX_PASSED_OVER, RankOffers
from millrace.agents.route_wishes import RouteWishes, route_wishes
from millrace.agents.screen_offers import Screen
from millrace.agents.validation.policy import ValidationPolicy
from millrace.schemas.call import Job, PassedOver, Plan
from millrace.schemas.errors import ConfigurationError, InvalidEventError
from millrace.schemas.message import ImagePart, Message
from millrace.schemas.record import canonical_json
from millrace.schemas.request import Route
from millrace.schemas.unchecked import unchecked
from millrace.schemas.vocabulary import Capability, Strategy, TaskType

_NEAREST_SHOWN = 5
_BAR_STEP = 5
_MOST_REMEMBERED = 4_096
"""Plans: of a task, one for each size and complexity that requests have."""

_plan = unchecked(Plan)

_COMPOSE: dict[Strategy, Callable[[Choice, RouteWishes], Composed]] = {
    "parallel": race,
    "ensemble": ensemble,
    "cascade": cascade,
    "delegate": delegate,
}
"""The strategies that take more than one model; all others ask one at a time."""


@dataclass(frozen=True, kw_only=True)
class PlanRoute:
    """Plans routes over the offers of a deployment.

    Deterministic: the same job, route, offers, policy and health make the same plan, whatever the
    order of the offers. Health changes, so a request that is read again may get another plan. A
    private job is planned for local hardware only, whatever else is asked.

    Raises:
        ConfigurationError: Two offers have the same provider and model.
    """

    offers: tuple[Offer, ...]
    policy: RoutePolicy
    count_tokens: Callable[[Sequence[Message]], int]
    """Estimates the tokens of messages."""
    max_outcome_bytes: int = MAX_OUTCOME_BYTES
    """What a record with an answer may have at most, which bounds how many vectors go into it."""
    health: HealthOf | None = None
    """Models that are not well are asked after those that are; None leaves the ranking alone."""
    validation: ValidationPolicy = field(default_factory=ValidationPolicy)
    """Says how often an answer may be repaired."""
    _ranking: RankOffers = field(init=False, repr=False, compare=False)
    _routes: dict[TaskType, TaskRoute] = field(init=False, repr=False, compare=False)
    _remembered: dict[object, Plan] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        names = sorted(offer.qualified_name for offer in self.offers)
        twice = [name for name, following in pairwise(names) if name == following]
        if twice:
            raise ConfigurationError(f"models are offered twice: {', '.join(twice)}")
        object.__setattr__(self, "_ranking", RankOffers(offers=self.offers, policy=self.policy))
        routes = {task: self.policy.for_task(task) for task in get_args(TaskType)}
        object.__setattr__(self, "_routes", routes)

    def plan(self, job: Job, route: Route, guess: TaskGuess | None = None) -> Plan:
        """Choose the candidates of each member, at every stage.

        `guess` says how the job's task was found, where the request did not name it. Costs are
        estimated from the counted prompt and the longest answer asked for; a plan of several
        calls divides `max_cost_usd` among them, and a cascade keeps all its tiers within it.
        Calls that fail and are made again elsewhere are not included.

        Raises:
            InvalidEventError: `no_route`: nothing fits; the message says what was asked and
                why the nearest models were passed over. `invalid_request`: the quorum exceeds
                the members. `too_large`: no record holds the vectors of so many inputs.
        """
        policy = self._routes[job.task]
        if job.inputs:
            return plan_embedding(
                job,
                route,
                ranking=self._ranking,
                task_route=policy,
                count_tokens=self.count_tokens,
                max_outcome_bytes=self.max_outcome_bytes,
                health=self.health,
            )
        strategy = policy.strategy if route.strategy == "auto" else route.strategy
        if not self.offers:
            raise _no_route("no provider entry offers a model: add one to the config")
        sizes = self._sizes(job, route)
        complexity = estimate_complexity(job, prompt_tokens=sizes.prompt_tokens)
        constraints = _constraints(job, route, strategy, _bar(route, policy, complexity.value))
        ranked = self._ranking.rank(constraints)
        selection = ranked.within(sizes)
        heeded = heed_health(
            selection,
            self.health,
            max_local_lag=policy.max_local_lag if strategy == "local_first" else None,
        )
        repairs = self.validation.repairs(job.output, job.task)
        compose = _COMPOSE.get(strategy)
        # While all is well, requests that are alike in this get the same plan.
        key = None
        if compose is None and heeded.selection is selection and route.max_latency_s is None:
            key = (constraints, sizes.key, complexity, guess, repairs, route.strategy)
            known = self._remembered.get(key)
            if known is not None:
                return known
        choice = Choice(
            selection=heeded.selection,
            sizes=sizes,
            new_screen=partial(self._screen, route.max_latency_s),
            judges=partial(self._judges, constraints, route.judge),
            embedders=partial(self._embedders, constraints, route.embedder),
            by_side=strategy in {"local_first", "cloud_first"},
            limit=policy.max_candidates,
        )
        if compose is None:
            draft, screen = ask_one(choice)
        else:
            wishes = route_wishes(
                route, policy, strategy=strategy, task=job.task, complexity=complexity.value
            )
            draft, screen = compose(choice, wishes)
        members = () if isinstance(draft, Shortage) else draft.members
        unwell, later = heeded.told(
            (each.provider, each.model) for member in members for each in member.candidates
        )
        passed_over = (*unwell, *screen.refused, *selection.passed_over)[:MAX_PASSED_OVER]
        if isinstance(draft, Shortage):
            raise _no_route(
                f"{draft.found}; "
                f"asked: {', '.join([f'strategy {strategy}', *_demands(constraints, sizes)])}; "
                f"{self._unknown_names(route)}"
                f"passed over: {_nearest(selection.nearest or passed_over)}"
            )
        plan = _plan(
            strategy=strategy,
            members=draft.members,
            mode=draft.mode,
            quorum=draft.quorum,
            member_timeout_s=draft.member_timeout_s,
            vote=draft.vote,
            cascade=draft.cascade,
            max_repairs=repairs,
            reasons=(
                *self._reasons(route, constraints, sizes, len(ranked.fitting)),
                *((str(guess),) if guess is not None else ()),
                str(complexity),
                *heeded.notes,
                *later,
                *draft.notes,
                *_latency(route, screen),
            ),
            passed_over=passed_over,
            complexity=complexity.value,
            task_source="named" if guess is None else guess.source,
            task_confidence=None if guess is None else guess.confidence,
            estimated_cost_usd=draft.cost,
        )
        if key is not None:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = plan
        return plan

    def estimated_cost(self, job: Job, offer: Offer) -> Decimal | None:
        """US dollars for one answer to the job as it stands; None when a price is unknown."""
        return self._sizes(job, Route()).estimated_cost(offer)

    def _judges(self, constraints: Constraints, named: str | None) -> tuple[Offer, ...]:
        return self._well_first(self._ranking.judges(constraints, named))

    def _embedders(self, constraints: Constraints, named: str | None) -> tuple[Offer, ...]:
        return self._well_first(self._ranking.embedders(constraints, named))

    def _well_first(self, offers: tuple[Offer, ...]) -> tuple[Offer, ...]:
        return offers if self.health is None else ordered_by_health(offers, self.health).offers

    def _screen(self, max_latency_s: float | None, sizes: Sizes) -> Screen:
        return Screen(sizes=sizes, max_latency_s=max_latency_s, health=self.health)

    def _sizes(self, job: Job, route: Route) -> Sizes:
        counted = job.messages
        if job.tools:
            tools = canonical_json([tool.model_dump() for tool in job.tools]).decode()
            counted = (*counted, Message(role="system", content=tools))
        return Sizes(
            prompt_tokens=self.count_tokens(counted),
            max_output_tokens=job.parameters.max_output_tokens,
            max_cost_usd=route.max_cost_usd,
        )

    def _reasons(
        self,
        route: Route,
        constraints: Constraints,
        sizes: Sizes,
        fitting: int,
    ) -> tuple[str, ...]:
        section = f"[{self.policy.section(constraints.task)}]"
        origin = f"from {section}" if route.strategy == "auto" else "as asked"
        reasons = [
            f"strategy {constraints.strategy} {origin}",
            *_demands(constraints, sizes),
            f"{fitting} of {len(self.offers)} models fit but for sizes",
        ]
        return tuple(reasons)

    def _unknown_names(self, route: Route) -> str:
        if not route.providers and not route.models:
            return ""
        providers = {offer.provider for offer in self.offers}
        models = {name for offer in self.offers for name in (offer.model, offer.qualified_name)}
        unknown = [f"provider {name!r}" for name in route.providers if name not in providers]
        unknown += [f"model {name!r}" for name in route.models if name not in models]
        return f"unknown: {', '.join(unknown)}; " if unknown else ""


def _bar(route: Route, policy: TaskRoute, complexity: float) -> int:
    """The least quality: the request's, or the operator's, which may rise with complexity.

    In steps of five, as what fits is remembered for each bar.
    """
    if route.min_quality is not None:
        return route.min_quality
    low, high = policy.min_quality, policy.complex_min_quality
    if high is None or high <= low:
        return low
    return low + round((high - low) * complexity / _BAR_STEP) * _BAR_STEP


def _constraints(job: Job, route: Route, strategy: Strategy, min_quality: int) -> Constraints:
    needs: list[Capability] = []
    if job.tools:
        needs.append("tools")
    if any(
        isinstance(part, ImagePart)
        for message in job.messages
        if not isinstance(message.content, str)
        for part in message.content
    ):
        needs.append("vision")
    helpful: Capability | None = None
    if job.output.format == "json":
        helpful = "json" if job.output.json_schema is None else "json_schema"
    return Constraints.of(
        job, route, strategy, capabilities=needs, output=helpful, min_quality=min_quality
    )


def _latency(route: Route, screen: Screen) -> tuple[str, ...]:
    if route.max_latency_s is None:
        return ()
    unmeasured = f"; {screen.unmeasured} model(s) not measured yet" if screen.unmeasured else ""
    return (f"answers within {route.max_latency_s:g} s{unmeasured}",)


def _demands(constraints: Constraints, sizes: Sizes) -> list[str]:
    parts = []
    if constraints.private:
        parts.append("private, so local hardware only")
    if constraints.hardware != "any":
        parts.append(f"hardware {constraints.hardware}")
    if constraints.providers:
        parts.append(f"providers {' or '.join(constraints.providers)}")
    if constraints.models:
        parts.append(f"models {' or '.join(constraints.models)}")
    if constraints.capabilities:
        parts.append(f"capabilities {' and '.join(sorted(constraints.capabilities))}")
    if constraints.min_quality:
        parts.append(f"quality of at least {constraints.min_quality}")
    parts.append(f"about {sizes.prompt_tokens} prompt tokens")
    if sizes.max_output_tokens is not None:
        parts.append(f"an answer of up to {sizes.max_output_tokens} tokens")
    if sizes.max_cost_usd is not None:
        parts.append(f"at most {dollars(sizes.max_cost_usd)} in all")
    return parts


def _nearest(passed_over: Sequence[PassedOver]) -> str:
    shown = [
        f"{each.provider}/{each.model}: {each.reason}" for each in passed_over[:_NEAREST_SHOWN]
    ]
    return "; ".join(shown) or "none"


def _no_route(message: str) -> InvalidEventError:
    return InvalidEventError(message, code="no_route")
