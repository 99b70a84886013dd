"""Decides which models are asked for a job, in which order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from millrace.agents.compose_members import deal, line_up
from millrace.agents.constraints import Constraints, Sizes, dollars
from millrace.agents.offers import Offer
from millrace.agents.plan_embedding import MAX_OUTCOME_BYTES, plan_embedding
from millrace.agents.policy import RoutePolicy, TaskRoute
from millrace.agents.rank_offers import MAX_PASSED_OVER, RankOffers, Selection
from millrace.schemas.call import Job, MemberPlan, PassedOver, Plan
from millrace.schemas.errors import ConfigurationError, InvalidEventError
from millrace.schemas.message import ImagePart, Message
from millrace.schemas.record import canonical_json
from millrace.schemas.request import Route
from millrace.schemas.vocabulary import Capability, Strategy

_MIN_MEMBERS = 2
_NEAREST_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class PlanRoute:
    """Plans routes over the offers of a deployment.

    Deterministic: the same job, route, offers and policy make the same plan, whatever the order
    of the offers. A private job is planned for local hardware only, whatever else is asked.

    Raises:
        ConfigurationError: Two offers have the same provider and model.
    """

    offers: tuple[Offer, ...]
    policy: RoutePolicy
    count_tokens: Callable[[Sequence[Message]], int]
    """Estimates the tokens of messages."""
    max_outcome_bytes: int = MAX_OUTCOME_BYTES
    """What a record with an answer may have at most, which bounds how many vectors go into it."""
    _ranking: RankOffers = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = sorted(offer.qualified_name for offer in self.offers)
        twice = [name for name, following in pairwise(names) if name == following]
        if twice:
            raise ConfigurationError(f"models are offered twice: {', '.join(twice)}")
        object.__setattr__(self, "_ranking", RankOffers(offers=self.offers, policy=self.policy))

    def plan(self, job: Job, route: Route) -> Plan:
        """Choose the candidates of each member.

        Costs are estimated from the counted prompt and the longest answer asked for; an ensemble
        splits `max_cost_usd` evenly. Calls that fail and are made again elsewhere are not
        included. `max_latency_s` is noted only.

        Raises:
            InvalidEventError: `no_route`: nothing fits; the message says what was asked and
                why the nearest models were passed over. `invalid_request`: the quorum exceeds
                the members. `too_large`: no record holds the vectors of so many inputs.
        """
        task_route = self.policy.for_task(job.task)
        if job.inputs:
            return plan_embedding(
                job,
                route,
                ranking=self._ranking,
                task_route=task_route,
                count_tokens=self.count_tokens,
                max_outcome_bytes=self.max_outcome_bytes,
            )
        strategy = task_route.strategy if route.strategy == "auto" else route.strategy
        if strategy in {"parallel", "cascade"}:
            raise _no_route(f"strategy {strategy!r} is not available yet")
        if not self.offers:
            raise _no_route("no provider entry offers a model: add one to the config")
        ensemble = strategy == "ensemble"
        members = (route.members or task_route.members) if ensemble else 1
        needed = (route.members or _MIN_MEMBERS) if ensemble else 1
        constraints = _constraints(job, route, strategy)
        sizes = self._sizes(job, route, members)
        selection = self._ranking.rank(constraints)
        screen = _Screen(sizes)
        limit = task_route.max_candidates
        if ensemble:
            hands = deal(selection.by_provider, screen.passes, members=members, limit=limit)
        else:
            by_side = strategy in {"local_first", "cloud_first"}
            chosen = line_up(selection.fitting, screen.passes, limit=limit, by_side=by_side)
            hands = [chosen] if chosen else []
        passed_over = (*screen.refused, *selection.passed_over)[:MAX_PASSED_OVER]
        if len(hands) < needed:
            found = f"an ensemble needs {needed} models and {len(hands)} fit"
            raise _no_route(
                f"{found if ensemble else 'no model fits'}; "
                f"asked: {', '.join([f'strategy {strategy}', *_demands(constraints, sizes)])}; "
                f"{self._unknown_names(route)}"
                f"passed over: {_nearest(selection.nearest or passed_over)}"
            )
        return Plan(
            strategy=strategy,
            members=tuple(
                MemberPlan(candidates=tuple(offer.candidate() for offer in hand)) for hand in hands
            ),
            mode=route.mode if ensemble else None,
            quorum=_quorum(route, task_route, len(hands)) if ensemble else 1,
            reasons=self._reasons(route, constraints, sizes, selection, members - len(hands)),
            passed_over=passed_over,
        )

    def _sizes(self, job: Job, route: Route, members: int) -> Sizes:
        counted = job.messages
        if job.tools:
            tools = canonical_json([tool.model_dump() for tool in job.tools]).decode()
            counted = (*counted, Message(role="system", content=tools))
        return Sizes(
            prompt_tokens=self.count_tokens(counted),
            max_output_tokens=job.parameters.max_output_tokens,
            max_cost_usd=None if route.max_cost_usd is None else route.max_cost_usd / members,
        )

    def _reasons(
        self,
        route: Route,
        constraints: Constraints,
        sizes: Sizes,
        selection: Selection,
        members_short: int,
    ) -> tuple[str, ...]:
        section = f"[{self.policy.section(constraints.task)}]"
        origin = f"from {section}" if route.strategy == "auto" else "as asked"
        reasons = [
            f"strategy {constraints.strategy} {origin}",
            *_demands(constraints, sizes),
            f"{len(selection.fitting)} of {len(self.offers)} models fit but for sizes",
        ]
        if members_short:
            reasons.append(f"{members_short} members fewer than in {section}: no more models fit")
        if route.max_latency_s is not None:
            reasons.append(f"max_latency_s {route.max_latency_s:g} noted, not used for choosing")
        return tuple(reasons)

    def _unknown_names(self, route: Route) -> str:
        providers = {offer.provider for offer in self.offers}
        models = {name for offer in self.offers for name in (offer.model, offer.qualified_name)}
        unknown = [f"provider {name!r}" for name in route.providers if name not in providers]
        unknown += [f"model {name!r}" for name in route.models if name not in models]
        return f"unknown: {', '.join(unknown)}; " if unknown else ""


class _Screen:
    """Lets offers of a fitting size pass, and keeps the reasons of the others."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self.refused: list[PassedOver] = []

    def passes(self, offer: Offer) -> bool:
        if self._sizes.fits(offer):
            return True
        if len(self.refused) < MAX_PASSED_OVER:
            reason = self._sizes.misfit(offer)
            self.refused.append(
                PassedOver(provider=offer.provider, model=offer.model, reason=reason)
            )
        return False


def _constraints(job: Job, route: Route, strategy: Strategy) -> Constraints:
    needs: set[Capability] = set(route.capabilities)
    if job.tools:
        needs.add("tools")
    if any(
        isinstance(part, ImagePart)
        for message in job.messages
        if not isinstance(message.content, str)
        for part in message.content
    ):
        needs.add("vision")
    helpful: Capability | None = None
    if job.output.format == "json":
        helpful = "json" if job.output.json_schema is None else "json_schema"
    return Constraints(
        task=job.task,
        strategy=strategy,
        private="private" in {job.sensitivity, route.sensitivity},
        hardware=route.hardware,
        providers=route.providers,
        models=route.models,
        prefer_providers=route.prefer_providers,
        prefer_models=route.prefer_models,
        capabilities=frozenset(needs),
        output=helpful,
    )


def _quorum(route: Route, task_route: TaskRoute, members: int) -> int:
    quorum = route.quorum or task_route.quorum or members // 2 + 1
    if quorum > members:
        raise InvalidEventError(f"a quorum of {quorum} cannot be reached by {members} members")
    return quorum


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
    parts.append(f"about {sizes.prompt_tokens} prompt tokens")
    if sizes.max_output_tokens is not None:
        parts.append(f"an answer of up to {sizes.max_output_tokens} tokens")
    if sizes.max_cost_usd is not None:
        parts.append(f"at most {dollars(sizes.max_cost_usd)} a call")
    return parts


def _nearest(passed_over: Sequence[PassedOver]) -> str:
    shown = [
        f"{each.provider}/{each.model}: {each.reason}" for each in passed_over[:_NEAREST_SHOWN]
    ]
    return "; ".join(shown) or "none"


def _no_route(message: str) -> InvalidEventError:
    return InvalidEventError(message, code="no_route")
