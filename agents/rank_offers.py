"""Orders the offers for a kind of request: which fit, best first, and why others do not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from heapq import nsmallest
from typing import Any

from millrace.agents.climb_tiers import tiers_of
from millrace.agents.constraints import Constraints, Floor, Sizes
from millrace.agents.offers import Offer
from millrace.agents.policy import RoutePolicy, TaskRoute
from millrace.schemas.call import PassedOver
from millrace.schemas.vocabulary import Capability, TaskType

MAX_PASSED_OVER = 10
"""A plan travels in every call, so it names no more than this many models it passed over."""

_MAX_NEAREST = 5
_CACHED_SELECTIONS = 256
_DEALT = frozenset({"ensemble", "parallel"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The outcome for one set of constraints."""

    fitting: tuple[Offer, ...]
    """Best first."""
    by_provider: tuple[tuple[tuple[int, Offer], ...], ...]
    """For ensembles and races the same, with ranks, apart for each provider."""
    tiers: tuple[tuple[Offer, ...], ...]
    """For cascades the same, cheapest tier first."""
    fallbacks: tuple[Offer, ...]
    """The policy's, in its order: they need not be listed, nor rated as well as others."""
    last_resort: tuple[Offer, ...]
    """The policy's default model, where the request may go there at all."""
    passed_over: tuple[PassedOver, ...]
    """The best of those that do not fit, each with its first reason."""
    nearest: tuple[PassedOver, ...]
    """When none fits: those that fall short in the fewest ways, with all reasons."""
    floor: Floor | None
    """What none of the fitting with known prices is below; None where there are none."""

    def within(self, sizes: Sizes) -> "Selection":
        """The same, cut to the best few where even the cheapest would cost too much.

        Those few say why; thousands need not be asked.
        """
        if self.floor is None or sizes.affords(self.floor):
            return self
        return replace(
            self,
            fitting=self.fitting[:MAX_PASSED_OVER],
            by_provider=tuple(offers[:1] for offers in self.by_provider[:MAX_PASSED_OVER]),
            tiers=tuple(offers[:MAX_PASSED_OVER] for offers in self.tiers),
        )


@dataclass(frozen=True, kw_only=True)
class RankOffers:
    """Ranks offers under the operator's policy.

    The order, most important first: what the request prefers; the side that `local_first` or
    `cloud_first` names; the policy's candidates; support of the output format; quality and price
    (unknown ones last) as `order_by` says; the name. It does not depend on the order in which
    offers are given.
    """

    offers: tuple[Offer, ...]
    policy: RoutePolicy
    _select: Any = field(init=False, repr=False, compare=False)
    _ordered: Any = field(init=False, repr=False, compare=False)
    _judging: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_select", lru_cache(_CACHED_SELECTIONS)(self._selection))
        object.__setattr__(self, "_ordered", lru_cache(maxsize=None)(self._order))
        object.__setattr__(self, "_judging", lru_cache(_CACHED_SELECTIONS)(self._judges))

    def rank(self, constraints: Constraints) -> Selection:
        """Find what fits; remembered for constraints seen lately."""
        selection: Selection = self._select(constraints)
        return selection

    def judges(self, constraints: Constraints, named: str | None) -> tuple[Offer, ...]:
        """Find who may judge, merge, plan or combine: the one named, the policy's, the best.

        They stay where the request's answers may be made. A named model need not be among the
        models that answer.
        """
        judges: tuple[Offer, ...] = self._judging(constraints, named)
        return judges

    def embedders(self, constraints: Constraints, named: str | None) -> tuple[Offer, ...]:
        """Find who may turn the members' answers into vectors: as `judges`, of those that can."""
        wanted = constraints._replace(
            capabilities=frozenset({"embeddings"}),
            providers=(),
            models=(),
            min_quality=0,
        )
        embedders: tuple[Offer, ...] = self._judging(wanted, named)
        return embedders

    def _judges(self, wanted: Constraints, named: str | None) -> tuple[Offer, ...]:
        route = self.policy.for_task(wanted.task)
        wishes = route.embedder if "embeddings" in wanted.capabilities else route.judge

        def key(offer: Offer) -> tuple[Any, ...]:
            is_named = named is not None and named in {offer.model, offer.qualified_name}
            place = _first_match(wishes, offer.qualified_name)
            price = offer.price
            return (not is_named, place, -offer.quality_for(wanted.task), price)

        found = []
        for listed, offer in self._ordered(wanted.task, None):
            if next(wanted.out_of_bounds(offer), None) is not None:
                continue
            unnamed, place, *_ = ranked = key(offer)
            wished = listed or route.allow_unlisted or place < len(wishes)
            if not unnamed or (wished and next(wanted.shortcomings(offer), None) is None):
                found.append((ranked, offer))
        return tuple(offer for _, offer in sorted(found, key=lambda each: each[0]))

    def _selection(self, wanted: Constraints) -> Selection:
        route = self.policy.for_task(wanted.task)
        fitting: list[Offer] = []
        passed_over: list[PassedOver] = []
        for listed, offer in self._ordered(wanted.task, wanted.output):
            if (listed or route.allow_unlisted) and wanted.admits(offer):
                fitting.append(offer)
            elif len(passed_over) < MAX_PASSED_OVER:
                reasons = self._misfits(wanted, offer, unlisted=not listed, route=route)
                passed_over.append(_passed_over(offer, next(reasons)))
        sided = wanted.strategy.endswith("_first")
        if wanted.prefer_models or wanted.prefer_providers or sided:
            local_first = wanted.strategy == "local_first"
            fitting.sort(
                key=lambda offer: (
                    *wanted.preference(offer),
                    sided and offer.local is not local_first,
                )
            )
        return Selection(
            fitting=tuple(fitting),
            by_provider=_grouped(fitting) if wanted.strategy in _DEALT else (),
            tiers=tiers_of(fitting, wanted.task, route) if wanted.strategy == "cascade" else (),
            fallbacks=tuple(
                offer
                for offer in self._matching(wanted, route.fallbacks)
                if next(wanted.shortcomings(offer), None) is None
            ),
            last_resort=self._matching(
                wanted, (route.default_model,) if route.default_model else ()
            ),
            passed_over=tuple(passed_over),
            nearest=() if fitting else self._nearest(wanted, route),
            floor=_floor(fitting),
        )

    def _matching(self, wanted: Constraints, patterns: tuple[str, ...]) -> tuple[Offer, ...]:
        """Offers by the patterns' order, wherever the request may go."""
        found = []
        for _, offer in self._ordered(wanted.task, wanted.output) if patterns else ():
            place = _first_match(patterns, offer.qualified_name)
            if place < len(patterns) and next(wanted.out_of_bounds(offer), None) is None:
                found.append((place, offer))
        return tuple(offer for _, offer in sorted(found, key=lambda each: each[0]))

    def _nearest(self, wanted: Constraints, route: TaskRoute) -> tuple[PassedOver, ...]:
        short = []
        for rank, (listed, offer) in enumerate(self._ordered(wanted.task, wanted.output)):
            reasons = list(self._misfits(wanted, offer, unlisted=not listed, route=route))
            short.append((len(reasons), rank, offer, reasons))
        return tuple(
            _passed_over(offer, " and ".join(reasons))
            for _, _, offer, reasons in nsmallest(_MAX_NEAREST, short)
        )

    def _misfits(
        self, wanted: Constraints, offer: Offer, *, unlisted: bool, route: TaskRoute
    ) -> Iterator[str]:
        yield from wanted.misfits(offer)
        if unlisted and not route.allow_unlisted:
            yield f"not among the candidates of [{self.policy.section(wanted.task)}]"

    def _order(self, task: TaskType, output: Capability | None) -> tuple[tuple[bool, Offer], ...]:
        route = self.policy.for_task(task)
        patterns = route.candidates

        def key(offer: Offer) -> tuple[Any, ...]:
            quality, price = -offer.quality_for(task), offer.price
            wish = (price, quality) if route.order_by == "price" else (quality, price)
            place = _first_match(patterns, offer.qualified_name)
            return (place, _shortfall(offer, output), *wish, offer.provider, offer.model)

        keyed = sorted((key(offer), index) for index, offer in enumerate(self.offers))
        return tuple((key[0] < len(patterns), self.offers[index]) for key, index in keyed)


def _floor(fitting: Sequence[Offer]) -> Floor | None:
    rates = [offer.rates for offer in fitting if offer.rates is not None]
    if not rates:
        return None
    prompt, answer = map(min, zip(*rates, strict=True))
    return Floor(prompt, answer, min(offer.likely_answer for offer in fitting))


def _grouped(fitting: Sequence[Offer]) -> tuple[tuple[tuple[int, Offer], ...], ...]:
    groups: dict[str, list[tuple[int, Offer]]] = {}
    for ranked in enumerate(fitting):
        groups.setdefault(ranked[1].provider, []).append(ranked)
    return tuple(map(tuple, groups.values()))


def _first_match(patterns: tuple[str, ...], name: str) -> int:
    return next((i for i, each in enumerate(patterns) if fnmatchcase(name, each)), len(patterns))


def _shortfall(offer: Offer, output: Capability | None) -> int:
    if output is None or output in offer.capabilities:
        return 0
    if output == "json" and "json_schema" in offer.capabilities:
        return 0
    return 1 if "json" in offer.capabilities else 2


def _passed_over(offer: Offer, reason: str) -> PassedOver:
    return PassedOver(provider=offer.provider, model=offer.model, reason=reason)
