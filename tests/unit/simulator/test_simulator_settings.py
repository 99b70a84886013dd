"""The simulator's settings."""

import pytest
from pydantic import ValidationError

from millrace.providers.simulator.behaviour import Behaviour, StandingRate
from millrace.providers.simulator.settings import InstanceSettings, SimulatorSettings


def test_out_of_the_box_it_is_quick_and_well_behaved() -> None:
    """The defaults that benchmarks and the demo build on."""
    settings = SimulatorSettings()

    assert (
        settings.seed,
        settings.time_to_first_token_ms,
        settings.tokens_per_second,
    ) == (0, 0.0, 0.0)
    assert settings.answer_tokens == (24, 96)
    assert settings.of("anything").rates == ()


def test_a_range_the_wrong_way_round_is_refused() -> None:
    """With what to do about it."""
    with pytest.raises(ValidationError, match="smaller number first"):
        SimulatorSettings(answer_tokens=(9, 3))


def test_rates_beyond_every_call_are_refused() -> None:
    """Shares are of the same calls."""
    rate = StandingRate(share=0.6, behaviour=Behaviour(http=500))

    with pytest.raises(ValidationError, match="more than 1"):
        InstanceSettings(rates=(rate, rate))
