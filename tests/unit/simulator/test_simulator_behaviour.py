"""Behaviours and how they are laid over one another."""

import pytest
from pydantic import ValidationError

from millrace.providers.simulator.behaviour import PLAIN, Behaviour, ScriptedBehaviour


def test_a_plain_behaviour_has_no_fault() -> None:
    """Nothing set, nothing wrong."""
    assert PLAIN.fault is None
    assert Behaviour(tokens=5, label="x", hang=False).fault is None


@pytest.mark.parametrize(
    "fault", ["http", "hang_mid", "cut", "cut_cleanly", "malformed", "error_in_stream"]
)
def test_the_fault_is_named(fault: str) -> None:
    """Also where it strikes before the first token."""
    place = 500 if fault == "http" else 0

    assert fault == Behaviour.model_validate({fault: place}).fault


def test_two_faults_exclude_one_another() -> None:
    """A call can go wrong in one way only."""
    with pytest.raises(ValidationError, match="cut and hang exclude one another"):
        Behaviour(cut=1, hang=True)


def test_what_is_set_above_wins_and_the_rest_shows_through() -> None:
    """Fields add up; the same field is taken from above."""
    above = ScriptedBehaviour(instance="a", tokens=5)
    below = Behaviour(tokens=9, pace=3, cut=2)

    assert Behaviour(tokens=5, pace=3, cut=2) == above.over(below)


def test_a_fault_above_replaces_the_one_below() -> None:
    """Two faults never meet."""
    assert Behaviour(hang=True, tokens=4) == Behaviour(hang=True).over(Behaviour(cut=2, tokens=4))
