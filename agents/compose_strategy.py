"""Makes the members of a plan from the models that fit: one function for each strategy."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice

from millrace.agents.compose_members import deal, line_up
from millrace.agents.constraints import Sizes
from millrace.agents.find_embedders import Found, find_embedders
from millrace.agents.offers import Offer
from millrace.agents.rank_offers import Selection
from millrace.agents.route_wishes import RouteWishes
from millrace.agents.screen_offers import Screen
from millrace.schemas.call import CascadeRule, MemberPlan, VoteRule
from millrace.schemas.unchecked import unchecked
from millrace.schemas.vocabulary import EnsembleMode, MemberRole

_PAIR = 2

_planned = unchecked(MemberPlan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What there is to compose a plan from."""

    selection: Selection
    sizes: Sizes
    """With the cost bound of the whole plan."""
    new_screen: Callable[[Sizes], Screen]
    judges: Callable[[], tuple[Offer, ...]]
    """Whom to ask to judge, merge, plan or combine, best first."""
    embedders: Callable[[], tuple[Offer, ...]]
    """Whom to ask for vectors of the answers, best first."""
    by_side: bool
    """Whether the last candidate should be of the other side than the rest."""
    limit: int

    def share(self, calls: int) -> Sizes:
        """The sizes of one of so many calls, with its part of the cost bound."""
        most = self.sizes.max_cost_usd
        return replace(self.sizes, max_cost_usd=None if most is None else most / calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The members of a plan, and how their answers become one."""

    members: tuple[MemberPlan, ...]
    cost: Decimal | None
    """US dollars when everyone's first candidate is called, as estimated; of a cascade, the
    first tier's."""
    mode: EnsembleMode | None = None
    quorum: int = 1
    member_timeout_s: float | None = None
    vote: VoteRule | None = None
    cascade: CascadeRule | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shortage:
    """Too few models fit."""

    found: str


Composed = tuple[Draft | Shortage, Screen]


def ask_one(choice: Choice) -> Composed:
    """One member: the best, those to try after it, and the operator's fallbacks."""
    screen = choice.new_screen(choice.sizes)
    selection = choice.selection
    hand = line_up(selection.fitting, screen.passes, limit=choice.limit, by_side=choice.by_side)
    hand += [each for each in selection.fallbacks if each not in hand and screen.passes(each)]
    notes: tuple[str, ...] = ()
    if not hand:
        hand = [each for each in selection.last_resort if choice.sizes.fits(each)]
        if not hand:
            return Shortage("no model fits"), screen
        notes = (f"no model fits, so the default model {hand[0].qualified_name}",)
    return Draft(members=(_member(hand),), cost=screen.cost(hand[0]), notes=notes), screen


def race(choice: Choice, wishes: RouteWishes) -> Composed:
    """Members of different providers; the first valid answer wins."""
    hands, screen = _deal(choice, wishes, calls=wishes.members)
    if len(hands) < wishes.needed:
        return Shortage(f"a race needs {wishes.needed} models and {len(hands)} fit"), screen
    return Draft(
        members=tuple(map(_member, hands)),
        cost=_sum(screen.cost(hand[0]) for hand in hands),
        member_timeout_s=wishes.member_timeout_s,
        notes=_short(hands, wishes),
    ), screen


def ensemble(choice: Choice, wishes: RouteWishes) -> Composed:
    """Members of different providers, and for some modes one more that works on their answers."""
    mode = wishes.mode
    last = _last_role(wishes)
    hands, screen = _deal(choice, wishes, calls=wishes.members + (last is not None))
    if len(hands) < wishes.needed:
        return Shortage(f"an ensemble needs {wishes.needed} models and {len(hands)} fit"), screen
    cost = _sum(screen.cost(hand[0]) for hand in hands)
    members = [
        _member(
            hand,
            role="refine" if mode == "chain" and place else "answer",
            stage=place if mode == "chain" else 0,
            weight=wishes.weight(hand[0]) if mode == "weighted" else 1.0,
        )
        for place, hand in enumerate(hands)
    ]
    if last is not None:
        share = choice.share(wishes.members + 1)
        answering = [hand[0] for hand in hands]
        if last == "embed":
            found = find_embedders(choice.embedders(), answering, sizes=share, limit=choice.limit)
        else:
            found = _find_judges(choice, _reading(share, answering))
        if not found.offers:
            screen.refused.extend(found.refused)
            return Shortage(f"no model fits as the one to {last}"), screen
        members.append(_member(found.offers, role=last, stage=1))
        cost = _sum((cost, found.cost))
    return Draft(
        members=tuple(members),
        cost=cost,
        mode=mode,
        quorum=1 if mode == "chain" else wishes.quorum_of(len(hands)),
        member_timeout_s=wishes.member_timeout_s,
        vote=wishes.vote,
        notes=_short(hands, wishes),
    ), screen


def cascade(choice: Choice, wishes: RouteWishes) -> Composed:
    """Tiers from cheap to dear, each asked when the one before is not trusted."""
    everything = choice.share(1)
    screen = choice.new_screen(everything)
    given = choice.selection.tiers
    start = min(wishes.first_tier, max(len(given) - 1, 0))
    tiers: list[list[Offer]] = []
    spent = Decimal(0)
    for offers in given[start:]:
        # What dearer tiers cost comes on top of what the cheaper ones have cost by then.
        screen.sizes = _less(everything, spent)
        tier = list(islice(filter(screen.passes, offers), choice.limit))
        if tier:
            spent += max((screen.cost(offer) or Decimal(0)) for offer in tier)
            tiers.append(tier)
    screen.sizes = everything
    if not tiers:
        return ask_one(choice)
    notes = [f"begins with tier {start} of {len(given)}"] if start else []
    rule = CascadeRule(
        confidence=wishes.confidence,
        thresholds=tuple(wishes.threshold(tier) for tier in range(len(tiers) - 1)),
    )
    cost = screen.cost(tiers[0][0])
    whole = _sum(screen.cost(tier[0]) for tier in tiers)
    if whole is not None:
        notes.append(f"up to ${whole.normalize():f} when every one of {len(tiers)} tiers is asked")
    members: tuple[MemberPlan, ...] = (_tiered(tiers),)
    if rule.confidence == "agreement":
        pair = _pair(tiers)
        if pair is None:
            rule = rule.model_copy(update={"confidence": "score"})
            notes.append("by score: agreement takes two cheap models and a stronger one")
        else:
            cheap, stronger = pair
            cost = _sum(screen.cost(offer) for offer in cheap)
            members = (*(_member([offer]) for offer in cheap), _tiered(stronger, first=1, stage=1))
            rule = rule.model_copy(
                update={"thresholds": tuple(wishes.threshold(n) for n in range(len(stronger)))}
            )
    return Draft(
        members=members,
        cost=cost,
        member_timeout_s=wishes.member_timeout_s,
        cascade=rule,
        vote=wishes.vote if len(members) > 1 else None,
        notes=tuple(notes),
    ), screen


def delegate(choice: Choice, wishes: RouteWishes) -> Composed:
    """One model divides the work, several do a part each, and one combines the parts."""
    parts = wishes.max_parts
    share = choice.share(parts + 2)
    screen = choice.new_screen(share)
    able = line_up(
        choice.selection.fitting, screen.passes, limit=choice.limit, by_side=choice.by_side
    )
    reading = choice.new_screen(_reading(share, able[:1] * parts))
    judges = choice.judges()
    planner = list(islice(filter(screen.passes, judges), choice.limit))
    combiner = list(islice(filter(reading.passes, judges), choice.limit))
    if not able or not planner or not combiner:
        screen.refused.extend(reading.refused)
        wanting = "the parts" if not able else "planning" if not planner else "combining"
        return Shortage(f"no model fits for {wanting}"), screen
    # Each part begins with another model, so that they are worked on side by side.
    turns = [[*able[turn % len(able) :], *able[: turn % len(able)]] for turn in range(parts)]
    costs = [screen.cost(planner[0]), *(screen.cost(turn[0]) for turn in turns)]
    return Draft(
        members=(
            _member(planner, role="plan"),
            *(_member(turn, role="part", stage=1) for turn in turns),
            _member(combiner, role="combine", stage=2),
        ),
        cost=_sum((*costs, reading.cost(combiner[0]))),
        member_timeout_s=wishes.member_timeout_s,
    ), screen


def _last_role(wishes: RouteWishes) -> MemberRole | None:
    """What a further member does once the others have answered, if there is one."""
    if wishes.mode == "merge":
        return "merge"
    if wishes.mode == "best_of":
        return "judge" if wishes.judged else None
    votes = wishes.mode in {"vote", "weighted"}
    return "embed" if votes and wishes.vote.by == "embedding" else None


def _find_judges(choice: Choice, reading: Sizes) -> Found:
    screen = choice.new_screen(reading)
    judges = list(islice(filter(screen.passes, choice.judges()), choice.limit))
    cost = screen.cost(judges[0]) if judges else None
    return Found(offers=judges, cost=cost, refused=screen.refused)


def _deal(choice: Choice, wishes: RouteWishes, *, calls: int) -> tuple[list[list[Offer]], Screen]:
    screen = choice.new_screen(choice.share(calls))
    hands = deal(
        choice.selection.by_provider, screen.passes, members=wishes.members, limit=wishes.limit
    )
    taken = {offer for hand in hands for offer in hand}
    spare = [each for each in choice.selection.fallbacks if each not in taken]
    for hand, offer in zip(hands, filter(screen.passes, spare), strict=False):
        hand.append(offer)
    return hands, screen


def _member(
    hand: Sequence[Offer], *, role: MemberRole = "answer", stage: int = 0, weight: float = 1.0
) -> MemberPlan:
    return _planned(
        candidates=tuple(offer.planned for offer in hand), role=role, stage=stage, weight=weight
    )


def _tiered(tiers: Sequence[Sequence[Offer]], *, first: int = 0, stage: int = 0) -> MemberPlan:
    return MemberPlan(
        candidates=tuple(
            offer.in_tier(tier) for tier, offers in enumerate(tiers, first) for offer in offers
        ),
        stage=stage,
    )


def _pair(tiers: list[list[Offer]]) -> tuple[list[Offer], list[list[Offer]]] | None:
    """Two cheap models, of two providers where the tier has them, and the tiers above them."""
    first, *stronger = tiers
    if len(first) >= _PAIR:
        other = next((each for each in first if each.provider != first[0].provider), first[1])
        return ([first[0], other], stronger) if stronger else None
    second, *rest = stronger or [[]]
    above = [second[1:], *rest] if second[1:] else rest
    return ([first[0], second[0]], above) if second and above else None


def _less(sizes: Sizes, spent: Decimal) -> Sizes:
    most = sizes.max_cost_usd
    return sizes if most is None else replace(sizes, max_cost_usd=max(most - spent, Decimal(0)))


def _reading(sizes: Sizes, answers: Iterable[Offer]) -> Sizes:
    """The sizes of a call that reads the prompt and these models' answers."""
    longer = sum(sizes.answer_tokens(offer) for offer in answers)
    return replace(sizes, prompt_tokens=sizes.prompt_tokens + longer)


def _short(hands: Sequence[object], wishes: RouteWishes) -> tuple[str, ...]:
    missing = wishes.members - len(hands)
    return (f"{missing} members fewer than {wishes.members}: no more models fit",) * bool(missing)


def _sum(costs: Iterable[Decimal | None]) -> Decimal | None:
    known = list(costs)
    total = sum((cost for cost in known if cost is not None), Decimal(0))
    return None if None in known else total
