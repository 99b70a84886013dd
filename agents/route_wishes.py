"""What a request and its operator want of a strategy with several members or tiers."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from millrace.agents.offers import Offer
from millrace.agents.policy import TaskRoute
from millrace.schemas.call import VoteRule
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.request import Route
from millrace.schemas.vocabulary import ConfidenceSource, EnsembleMode, Strategy, TaskType

_LEAST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteWishes:
    """The request's wishes, and the operator's where it has none."""

    strategy: Strategy
    task: TaskType
    mode: EnsembleMode
    members: int
    needed: int
    """With fewer members the work is not begun."""
    quorum: int | None
    member_timeout_s: float | None
    vote: VoteRule
    weights: Mapping[str, float]
    embedder: str | None
    """The one that the request names."""
    judge: str | None
    """The one that the request names."""
    judged: bool
    """Whether anybody named a judge."""
    confidence: ConfidenceSource
    thresholds: tuple[float, ...]
    first_tier: int
    max_parts: int
    limit: int
    """Candidates of a member, or of a tier."""

    def weight(self, offer: Offer) -> float:
        """What the answer of a model counts."""
        for pattern, weight in self.weights.items():
            if fnmatchcase(offer.qualified_name, pattern) or offer.model == pattern:
                return weight
        return max(offer.quality_for(self.task), 1) / 100

    def threshold(self, tier: int) -> float:
        """The least confidence in an answer of a tier."""
        return self.thresholds[min(tier, len(self.thresholds) - 1)]

    def quorum_of(self, members: int) -> int:
        """How many of so many members must have answered.

        Raises:
            InvalidEventError: More than there are.
        """
        quorum = self.quorum or members // 2 + 1
        if quorum > members:
            raise InvalidEventError(f"a quorum of {quorum} cannot be reached by {members} members")
        return quorum


def route_wishes(
    route: Route, policy: TaskRoute, *, strategy: Strategy, task: TaskType, complexity: float
) -> RouteWishes:
    """Take each wish from the request, else from the operator's route."""
    least = policy.min_members if strategy == "ensemble" else 1
    needed = route.min_members or route.members or least
    skips = policy.skip_tier_from is not None and complexity >= policy.skip_tier_from
    return RouteWishes(
        strategy=strategy,
        task=task,
        mode=route.mode or policy.mode,
        members=route.members or policy.members,
        needed=max(needed, _LEAST) if strategy == "ensemble" else needed,
        quorum=route.quorum or policy.quorum,
        member_timeout_s=route.member_timeout_s or policy.member_timeout_s,
        vote=_vote(route, policy),
        weights=route.weights or policy.weights,
        embedder=route.embedder,
        judge=route.judge,
        judged=route.judge is not None or bool(policy.judge),
        confidence=route.confidence or policy.confidence,
        thresholds=route.thresholds or policy.thresholds,
        first_tier=int(skips) if route.min_tier is None else route.min_tier,
        max_parts=route.max_parts or policy.max_parts,
        limit=policy.max_candidates,
    )


def _vote(route: Route, policy: TaskRoute) -> VoteRule:
    similarity = policy.vote_similarity if route.vote_similarity is None else route.vote_similarity
    by = "field" if route.vote_field is not None else route.vote_by or policy.vote_by
    named = (route.vote_field or policy.vote_field) if by == "field" else None
    return VoteRule(by=by, field=named, similarity=similarity)
