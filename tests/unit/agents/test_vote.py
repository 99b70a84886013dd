"""Equal answers in different clothes are one answer; the majority wins, deterministically."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.agents.normalise import normalised
from millrace.agents.similarity import cosine
from millrace.agents.vote import Ballot, vote
from millrace.schemas.call import VoteRule
from millrace.schemas.errors import PipelineError


@pytest.mark.parametrize(
    ("answers", "winner", "agreeing"),
    [
        ({0: "a"}, 0, (0,)),
        ({0: "a", 1: "b", 2: "b"}, 1, (1, 2)),
        ({0: "a", 1: "b"}, 0, (0,)),
        ({3: "b", 1: "a"}, 1, (1,)),
        ({0: "a", 1: "b", 2: "c", 3: "b", 4: "c"}, 1, (1, 3)),
        ({0: "x", 1: "Yes.", 2: " yes"}, 1, (1, 2)),
    ],
)
def test_the_largest_group_wins_and_ties_go_to_the_lowest_member(
    answers: dict[int, str], winner: int, agreeing: tuple[int, ...]
) -> None:
    """The winner is the lowest member of the winning group."""
    dissenting = tuple(sorted(answers.keys() - set(agreeing)))

    assert vote(answers, data={}) == Ballot(
        winner=winner,
        agreeing=agreeing,
        dissenting=dissenting,
        agreement=round(len(agreeing) / len(answers), 6),
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", "paris"),
        ("Paris", "  Paris\n"),
        ("Paris.", "Paris"),
        ("Paris!?", "paris"),
        ("**Paris**", "Paris"),
        ("**Paris.**", "Paris"),
        ("The answer is **42**.", "the answer is 42"),
        ("`x = 1`", "x = 1"),
        ("_Paris_", "Paris"),
        ("ﬁne", "fine"),
        ("\uff14\uff12", "42"),
        ("two  \t words", "two words"),
        ("STRASSE", "straße"),
    ],
)
def test_form_does_not_make_a_difference(one: str, other: str) -> None:
    """Case, width, space, emphasis and closing punctuation are form."""
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2*3", "23"),
        ("2 * 3", "2 3"),
        ("snake_case", "snakecase"),
        ("1.5", "15"),
        ("-1", "1"),
        ("50%", "50"),
        ("C++", "C"),
        ("a b", "ab"),
        ("?", "!"),
    ],
)
def test_content_makes_a_difference(one: str, other: str) -> None:
    """What may carry meaning stays."""
    assert normalised(one) != normalised(other)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ([1, 2], [2, 1], False),
        ({"a": "x"}, {"a": "X"}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 0}, {"a": False}, False),
        ({"a": None}, {}, False),
        (2**60, float(2**60), False),
    ],
)
def test_parsed_answers_are_compared_by_value(one: Any, other: Any, equal: bool) -> None:
    """Order of keys and notation of numbers do not matter; everything else does."""
    ballot = vote({0: "ignored", 1: "not looked at"}, data={0: one, 1: other})

    assert (ballot.agreeing == (0, 1)) is equal


def test_answers_without_data_are_compared_as_text() -> None:
    """None stands for an answer that was not parsed."""
    ballot = vote({0: "a", 1: "b", 2: "B"}, data={0: None, 1: None, 2: None})

    assert ballot == Ballot(winner=1, agreeing=(1, 2), dissenting=(0,), agreement=0.666667)


def test_a_text_is_never_taken_for_a_value() -> None:
    """A member that spelt the JSON as text has not given the parsed value."""
    assert vote({0: "{}", 1: "{}"}, data={1: {}}).agreeing == (0,)


def test_a_vote_without_answers_is_an_error() -> None:
    """There is no winner of nothing."""
    with pytest.raises(PipelineError, match="at least one answer"):
        vote({}, data={})


_ANSWERS = st.dictionaries(
    st.integers(0, 15), st.sampled_from(["Yes", "yes.", "no", "**No**", "?"]), min_size=1
)


@settings(max_examples=80)
@given(answers=_ANSWERS, random=st.randoms(use_true_random=False))
def test_a_vote_does_not_depend_on_the_order_of_arrival(
    answers: dict[int, str], random: Any
) -> None:
    """The same answers give the same ballot, in whatever order they came."""
    shuffled = list(answers.items())
    random.shuffle(shuffled)

    assert vote(dict(shuffled), data={}) == vote(answers, data={})


@settings(max_examples=80)
@given(answers=_ANSWERS)
def test_a_ballot_accounts_for_every_member(answers: dict[int, str]) -> None:
    """Each member agrees or dissents; no group is larger than the winning one."""
    ballot = vote(answers, data={})

    assert sorted((*ballot.agreeing, *ballot.dissenting)) == sorted(answers)
    assert ballot.winner == min(ballot.agreeing)
    words = [normalised(answer) for answer in answers.values()]
    assert len(ballot.agreeing) == max(words.count(word) for word in words)


@settings(max_examples=150)
@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing_in_plain_words(text: str) -> None:
    """An answer is equal to its own normal form, unless marks surround marks."""
    plain = "".join(character for character in text if character not in "*_`")

    assert normalised(normalised(plain)) == normalised(plain)


def similar(share: float) -> VoteRule:
    """A rule for texts that are alike by so much."""
    return VoteRule(by="similarity", similarity=share)


@pytest.mark.parametrize(
    ("rule", "agreeing"),
    [
        (VoteRule(by="exact"), (2, 3)),
        (VoteRule(), (0, 1, 2, 3)),
        (similar(0.95), (0, 1, 2, 3)),
        (similar(0.6), (0, 1, 2, 3, 4)),
    ],
)
def test_the_rule_says_which_answers_are_the_same(
    rule: VoteRule, agreeing: tuple[int, ...]
) -> None:
    """From letter by letter to about."""
    answers = {
        0: "The cache is stale.",
        1: "the cache is  stale",
        2: "**The cache is stale**",
        3: "**The cache is stale**",
        4: "The cache is stale now!",
        5: "Nobody knows.",
    }

    assert vote(answers, data={}, rule=rule).agreeing == agreeing


BY_MEANING = VoteRule(by="embedding", similarity=0.9)


def test_a_vote_by_embedding_compares_vectors_directly_or_by_way_of_others() -> None:
    """Whatever the words are; and by the words where nobody made vectors of them."""
    answers = {0: "no", 1: "it does not", 2: "never", 3: "yes", 4: "yes!"}
    vectors = {0: (1.0, 0.0), 1: (2.0, 0.6), 2: (0.85, 0.5), 3: (0.0, 1.0), 4: (-1.0, 0.0)}

    ballot = vote(answers, data={}, rule=BY_MEANING, vectors=vectors)
    assert (ballot.agreeing, ballot.dissenting) == ((0, 1, 2), (3, 4))
    by_words = vote(answers, data={}, rule=BY_MEANING.model_copy(update={"similarity": 0.5}))
    assert by_words.agreeing == (3, 4)


@settings(max_examples=100)
@given(
    st.integers(1, 8).flatmap(
        lambda size: st.lists(
            st.lists(st.floats(-1e200, 1e200), min_size=size, max_size=size).map(tuple),
            min_size=2,
            max_size=2,
        )
    )
)
def test_a_cosine_is_a_share_whatever_the_numbers(pair: list[tuple[float, ...]]) -> None:
    """Also where squares are too large or too small for a float."""
    one, other = pair
    found = cosine(one, other)

    assert 0.0 <= found <= 1.0
    assert found == cosine(other, one)
    assert cosine((0.1, 0.7), (0.1, 0.7)) == 1.0


def test_a_vote_by_field_compares_that_field_alone() -> None:
    """Wherever it lies; those without it agree with nobody."""
    data = {
        0: {"grade": {"value": 1}, "why": "a"},
        1: {"grade": {"value": 2}},
        2: {"grade": {"value": 2.0}, "why": "c"},
        3: {"grade": None},
        4: None,
    }
    ballot = vote(
        dict.fromkeys(data, ""), data=data, rule=VoteRule(by="field", field="grade.value")
    )

    assert (ballot.agreeing, ballot.dissenting, ballot.agreement) == ((1, 2), (0, 3, 4), 0.4)


def test_weights_decide_over_numbers() -> None:
    """One expert against two beginners."""
    ballot = vote({0: "a", 1: "b", 2: "b"}, data={}, weights={0: 3.0, 1: 1.0, 2: 1.0})

    assert (ballot.winner, ballot.agreement) == (0, 0.6)


def test_likeness_reaches_over_others() -> None:
    """Whichever comes first: a is like b and b like c, so all three are of one mind."""
    texts = ["one two three four", "one two three four five", "one two three four five six"]
    rule = similar(0.8)
    ballots = [
        vote(dict(enumerate(order)), data={}, rule=rule).agreeing for order in permutations(texts)
    ]

    assert set(ballots) == {(0, 1, 2)}


@given(
    answers=st.dictionaries(st.integers(0, 7), st.text("ab ", max_size=12), min_size=1),
    share=st.floats(0.1, 1.0),
)
@settings(max_examples=60, deadline=None)
def test_every_member_is_in_one_group_whatever_the_rule(
    answers: dict[int, str], share: float
) -> None:
    """And the agreement is a share."""
    for rule in (VoteRule(by="exact"), VoteRule(), similar(share)):
        ballot = vote(answers, data={}, rule=rule)

        assert sorted((*ballot.agreeing, *ballot.dissenting)) == sorted(answers)
        assert 0 < ballot.agreement <= 1
