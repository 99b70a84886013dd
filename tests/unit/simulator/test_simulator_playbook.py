"""Which behaviour a call gets."""

import random

import pytest

from millrace.providers.simulator.behaviour import (
    PLAIN,
    Behaviour,
    ScriptedBehaviour,
    StandingRate,
)
from millrace.providers.simulator.call import SimulatedCall, Turn
from millrace.providers.simulator.playbook import Playbook
from millrace.providers.simulator.settings import InstanceSettings, SimulatorSettings


def _call(text: str = "hello", *, instance: str = "a", model: str = "m") -> SimulatedCall:
    return SimulatedCall(instance=instance, model=model, stream=True, turns=(Turn("user", text),))


def _playbook(*rates: StandingRate) -> Playbook:
    settings = SimulatorSettings(instances={"a": InstanceSettings(rates=rates)})
    return Playbook(settings=settings, chance=random.Random(1))


def test_a_call_nobody_spoke_of_is_answered_plainly() -> None:
    """No rate, no script, no directive."""
    assert _playbook().choose(_call()) is PLAIN


def test_the_script_serves_the_next_matching_calls_only() -> None:
    """`times`, instance and model are heeded, in the order of the script."""
    playbook = _playbook()
    playbook.add(ScriptedBehaviour(instance="a", model="m", http=500, times=2))
    playbook.add(ScriptedBehaviour(instance="a", http=429))

    found = [
        playbook.choose(call).http
        for call in (_call(instance="b"), _call(model="n"), *[_call()] * 3)
    ]

    assert found == [None, 429, 500, 500, None]


def test_a_directive_counts_calls_with_the_same_messages() -> None:
    """`times=1` fails the first call, so that a retry or another provider succeeds."""
    playbook = _playbook()
    text, other = "one [[sim:http=500 times=1]]", "two [[sim:http=500 times=1]]"
    calls = [_call(text), _call(text, instance="b"), _call(other), _call(text)]

    assert [playbook.choose(call).http for call in calls] == [500, None, 500, None]


def test_system_messages_do_not_part_the_count() -> None:
    """One wire adds a system message where another has a field."""
    playbook = _playbook()
    turn = Turn("user", "one [[sim:http=500 times=1]]")
    added = SimulatedCall(
        instance="b", model="m", stream=True, turns=(Turn("system", "Answer in JSON."), turn)
    )

    assert playbook.choose(_call(turn.text)).http == 500
    assert playbook.choose(added).http is None


def test_a_directive_for_one_instance_leaves_the_others_alone() -> None:
    """Neither applied nor counted elsewhere."""
    playbook = _playbook()
    text = "x [[sim:cut=2 only=b times=1]]"
    calls = [_call(text), _call(text, instance="b"), _call(text, instance="b")]

    assert [playbook.choose(call).cut for call in calls] == [None, 2, None]


def test_only_the_last_user_message_directs() -> None:
    """What was said before in the conversation is past."""
    turns = (Turn("user", "a [[sim:hang]]"), Turn("assistant", "b"), Turn("user", "c"))
    call = SimulatedCall(instance="a", model="m", stream=True, turns=turns)

    assert _playbook().choose(call) is PLAIN


def test_directive_script_and_rate_add_up() -> None:
    """A directive wins where they conflict."""
    playbook = _playbook(StandingRate(share=1, behaviour=Behaviour(http=500, pace=7)))
    playbook.add(ScriptedBehaviour(latency=30, tokens=3))

    found = playbook.choose(_call("x [[sim:tokens=4 cut=1]]"))

    assert (found.http, found.cut, found.tokens, found.latency, found.pace) == (None, 1, 4, 30, 7)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_standing_rates_hold_over_many_calls(share: float) -> None:
    """About the set share of calls is hit."""
    playbook = _playbook(StandingRate(share=share, behaviour=Behaviour(http=500)))

    hit = sum(playbook.choose(_call()).http == 500 for _ in range(4000))

    assert share == pytest.approx(hit / 4000, abs=0.03)


def test_clearing_empties_the_script_and_the_counts() -> None:
    """As a fresh simulator would behave."""
    playbook = _playbook()
    text = "x [[sim:http=503 times=1]]"
    playbook.add(ScriptedBehaviour(hang=True, times=5))
    playbook.choose(_call(text))

    playbook.clear()

    assert playbook.script() == ()
    assert playbook.choose(_call(text)).http == 503


def test_a_request_can_command_the_later_steps_of_its_own_work() -> None:
    """A directive with `where` is for calls whose last message holds that text."""
    asked = 'Q [[sim:answer=first]] [[sim:where="Judge" answer=second only=a]]'

    def step(question: str, instance: str = "a") -> str | None:
        turns = (Turn("user", asked), Turn("assistant", "first"), Turn("user", question))
        call = SimulatedCall(instance=instance, model="m", stream=True, turns=turns)
        return _playbook().choose(call).answer

    assert _playbook().choose(_call(asked)).answer == "first"
    assert [step("Judge them."), step("Merge them."), step("Judge them.", "b")] == [
        "second",
        None,
        None,
    ]


def test_a_condition_is_not_met_by_its_own_words() -> None:
    """Directives are no part of what is asked."""
    assert _playbook().choose(_call('Q [[sim:where="Judge" answer=no]]')).answer is None
