"""Orders the offers for a kind of request: which fit, best first, and why others do not."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from heapq import nsmallest
from typing import Any

from millrace.agents.constraints import Constraints
from millrace.agents.offers import Offer
from millrace.agents.policy import RoutePolicy, TaskRoute
from millrace.schemas.call import PassedOver
from millrace.schemas.vocabulary import Capability, TaskType

MAX_PASSED_OVER = 20
"""A plan travels in every call, so it names no more than this many models it passed over."""

_MAX_NEAREST = 5
_CACHED_SELECTIONS = 256
_UNKNOWN = Decimal("Infinity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The outcome for one set of constraints."""

    fitting: tuple[Offer, ...]
    """Best first."""
    by_provider: tuple[tuple[tuple[int, Offer], ...], ...]
    """For ensembles the same, with ranks, apart for each provider."""
    passed_over: tuple[PassedOver, ...]
    """The best of those that do not fit, each with its first reason."""
    nearest: tuple[PassedOver, ...]
    """When none fits: those that fall short in the fewest ways, with all reasons."""


@dataclass(frozen=True, kw_only=True)
class RankOffers:
    """Ranks offers under the operator's policy.

    The order, most important first: what the request prefers; the side that `local_first` or
    `cloud_first` names; the policy's candidates; support of the output format; quality; price
    (unknown ones last); the name. It does not depend on the order in which offers are given.
    """

    offers: tuple[Offer, ...]
    policy: RoutePolicy
    _select: Any = field(init=False, repr=False, compare=False)
    _ordered: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_select", lru_cache(_CACHED_SELECTIONS)(self._selection))
        object.__setattr__(self, "_ordered", lru_cache(maxsize=None)(self._order))

    def rank(self, constraints: Constraints) -> Selection:
        """Find what fits; remembered for constraints seen lately."""
        selection: Selection = self._select(constraints)
        return selection

    def _selection(self, wanted: Constraints) -> Selection:
        route = self.policy.for_task(wanted.task)
        fitting: list[Offer] = []
        passed_over: list[PassedOver] = []
        for listed, offer in self._ordered(wanted.task, wanted.output):
            reason = next(wanted.misfits(offer), None)
            if reason is None and not (listed or route.allow_unlisted):
                reason = self._unlisted(wanted.task)
            if reason is None:
                fitting.append(offer)
            elif len(passed_over) < MAX_PASSED_OVER:
                passed_over.append(_passed_over(offer, reason))
        if wanted.prefer_models or wanted.prefer_providers or wanted.strategy.endswith("_first"):
            local_first = wanted.strategy == "local_first"
            sided = wanted.strategy.endswith("_first")
            fitting.sort(
                key=lambda offer: (
                    *wanted.preference(offer),
                    sided and offer.local is not local_first,
                )
            )
        return Selection(
            fitting=tuple(fitting),
            by_provider=grouped(fitting) if wanted.strategy == "ensemble" else (),
            passed_over=tuple(passed_over),
            nearest=() if fitting else self._nearest(wanted, route),
        )

    def _nearest(self, wanted: Constraints, route: TaskRoute) -> tuple[PassedOver, ...]:
        short = []
        for rank, (listed, offer) in enumerate(self._ordered(wanted.task, wanted.output)):
            reasons = list(wanted.misfits(offer))
            if not (listed or route.allow_unlisted):
                reasons.append(self._unlisted(wanted.task))
            short.append((len(reasons), rank, offer, reasons))
        return tuple(
            _passed_over(offer, " and ".join(reasons))
            for _, _, offer, reasons in nsmallest(_MAX_NEAREST, short)
        )

    def _unlisted(self, task: TaskType) -> str:
        return f"not among the candidates of [{self.policy.section(task)}]"

    def _order(self, task: TaskType, output: Capability | None) -> tuple[tuple[bool, Offer], ...]:
        patterns = self.policy.for_task(task).candidates
        keyed = sorted(
            (
                (
                    _first_match(patterns, offer.qualified_name),
                    _shortfall(offer, output),
                    -offer.quality,
                    sum(offer.prices or (_UNKNOWN,)),
                    offer.provider,
                    offer.model,
                ),
                index,
            )
            for index, offer in enumerate(self.offers)
        )
        return tuple((key[0] < len(patterns), self.offers[index]) for key, index in keyed)


def grouped(fitting: Sequence[Offer]) -> tuple[tuple[tuple[int, Offer], ...], ...]:
    """The offers with their ranks, apart for each provider."""
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
