"""How fitting offers are dealt out: spread over providers, nothing dealt twice."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.agents.compose_members import deal, line_up
from millrace.agents.offers import Offer


def offers(*names: str) -> list[Offer]:
    """Offers by name, in order of rank; a provider that begins with `local` is local."""
    made = []
    for name in names:
        provider, model = name.split("/")
        hardware = "gpu" if provider.startswith("local") else "cloud"
        made.append(Offer(provider=provider, model=model, hardware=hardware))
    return made


def names(made: Sequence[Offer]) -> list[str]:
    return [offer.qualified_name for offer in made]


def by_provider(ranked: Sequence[Offer]) -> list[list[tuple[int, Offer]]]:
    providers = dict.fromkeys(offer.provider for offer in ranked)
    return [
        [(rank, offer) for rank, offer in enumerate(ranked) if offer.provider == provider]
        for provider in providers
    ]


def anything(_offer: Offer) -> bool:
    return True


@pytest.mark.parametrize(
    ("ranked", "limit", "by_side", "expected"),
    [
        ([], 3, False, []),
        (["a/1", "a/2"], 3, False, ["a/1", "a/2"]),
        (["a/1", "b/1", "c/1"], 2, False, ["a/1", "b/1"]),
        (["a/1", "a/2", "a/3", "b/1"], 2, False, ["a/1", "b/1"]),
        (["a/1", "a/2", "a/3", "b/1"], 3, False, ["a/1", "a/2", "b/1"]),
        (["a/1", "a/2", "a/3"], 2, False, ["a/1", "a/2"]),
        (["a/1", "b/1"], 1, False, ["a/1"]),
        (["local/1", "local2/1", "a/1"], 2, True, ["local/1", "a/1"]),
        (["local/1", "local2/1", "a/1"], 2, False, ["local/1", "local2/1"]),
        (["a/1", "b/1", "local/1"], 2, True, ["a/1", "local/1"]),
    ],
)
def test_the_best_few_with_a_way_out(
    ranked: list[str], limit: int, by_side: bool, expected: list[str]
) -> None:
    """The last place goes to another provider, or side, if all others share one."""
    assert names(line_up(offers(*ranked), anything, limit=limit, by_side=by_side)) == expected


def test_the_way_out_must_fit_too() -> None:
    """An offer that does not pass is not taken for variety's sake."""
    ranked = offers("a/1", "a/2", "b/1", "c/1")

    chosen = line_up(ranked, lambda offer: offer.provider != "b", limit=2, by_side=False)

    assert names(chosen) == ["a/1", "c/1"]


@pytest.mark.parametrize(
    ("ranked", "members", "limit", "expected"),
    [
        ([], 2, 2, []),
        (["a/1"], 2, 2, [["a/1"]]),
        (["a/1", "a/2", "b/1"], 2, 1, [["a/1"], ["b/1"]]),
        (["a/1", "a/2", "a/3"], 2, 1, [["a/1"], ["a/2"]]),
        (["a/1", "a/2", "b/1", "b/2"], 3, 1, [["a/1"], ["b/1"], ["a/2"]]),
        (
            ["a/1", "b/1", "c/1", "d/1"],
            2,
            2,
            [["a/1", "c/1"], ["b/1", "d/1"]],
        ),
        (
            ["a/1", "a/2", "b/1", "b/2"],
            2,
            2,
            [["a/1", "b/2"], ["b/1", "a/2"]],
        ),
        (["a/1", "b/1", "a/2"], 2, 3, [["a/1", "a/2"], ["b/1"]]),
    ],
)
def test_members_get_offers_of_their_own(
    ranked: list[str], members: int, limit: int, expected: list[list[str]]
) -> None:
    """First offers from different providers, then fallback that does not share their outage."""
    hands = deal(by_provider(offers(*ranked)), anything, members=members, limit=limit)

    assert [names(hand) for hand in hands] == expected


_RANKED = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), unique=True, max_size=20
).map(lambda pairs: offers(*(f"{provider}/{model}" for provider, model in pairs)))


@settings(max_examples=120)
@given(ranked=_RANKED, members=st.integers(2, 5), limit=st.integers(1, 4))
def test_dealing_is_fair_and_gives_nothing_twice(
    ranked: list[Offer], members: int, limit: int
) -> None:
    """As many members as offers allow, as many providers among their first offers as there are."""
    hands = deal(by_provider(ranked), anything, members=members, limit=limit)

    dealt = [offer.qualified_name for hand in hands for offer in hand]
    assert len(dealt) == len(set(dealt)) == min(len(ranked), members * limit)
    assert len(hands) == min(members, len(ranked))
    assert all(1 <= len(hand) <= limit for hand in hands)
    providers = {offer.provider for offer in ranked}
    assert len({hand[0].provider for hand in hands}) == min(len(hands), len(providers))
