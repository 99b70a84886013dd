"""When tokens are due."""

import random

import pytest

from millrace.providers.simulator.behaviour import PLAIN, Behaviour
from millrace.providers.simulator.pace import Pace, choose_pace
from millrace.providers.simulator.settings import InstanceSettings, SimulatorSettings


def test_tokens_are_due_one_by_one_after_the_first() -> None:
    """None before the first token's time, all of them in the end."""
    pace = Pace(1.0, 0.5)

    assert [pace.due(at, 4) for at in (0.9, 1.0, 1.4, 1.5, 2.1, 9.0)] == [0, 1, 1, 2, 3, 4]
    assert pace.moment(2) == 2.0


def test_without_a_pace_all_tokens_are_due_at_once() -> None:
    """After the first token's time."""
    assert (Pace(1.0, 0.0).due(0.5, 8), Pace(1.0, 0.0).due(1.0, 8)) == (0, 8)


@pytest.mark.parametrize(
    ("instance", "behaviour", "expected"),
    [
        ("other", PLAIN, Pace(0.2, 0.1)),
        ("slow", PLAIN, Pace(0.2, 0.5)),
        ("quick", PLAIN, Pace(0.0, 0.0)),
        ("slow", Behaviour(latency=50), Pace(0.05, 0.5)),
        ("slow", Behaviour(pace=4), Pace(0.2, 0.25)),
        ("slow", Behaviour(pace=0, latency=0), Pace(0.0, 0.0)),
        ("quick", Behaviour(slow=True), Pace(0.0, 1.0)),
    ],
)
def test_the_nearest_setting_wins(instance: str, behaviour: Behaviour, expected: Pace) -> None:
    """The behaviour's, else the instance's, else the general one."""
    settings = SimulatorSettings(
        time_to_first_token_ms=200,
        tokens_per_second=10,
        instances={
            "slow": InstanceSettings(tokens_per_second=2),
            "quick": InstanceSettings(tokens_per_second=0, time_to_first_token_ms=0),
        },
    )

    assert expected == choose_pace(settings, instance, behaviour, random.Random(1))


def test_jitter_spreads_about_the_mean() -> None:
    """Within the set share of it."""
    settings = SimulatorSettings(time_to_first_token_ms=100, time_to_first_token_jitter=0.3)
    chance = random.Random(1)

    drawn = [choose_pace(settings, "a", PLAIN, chance).first_token_seconds for _ in range(2000)]

    assert 0.07 <= min(drawn) < 0.08
    assert 0.12 < max(drawn) <= 0.13
    assert pytest.approx(sum(drawn) / 2000, rel=0.02) == 0.1
