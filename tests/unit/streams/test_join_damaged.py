"""Outcomes that can be read and make no sense: decided somehow, never a fault."""

import random

import orjson
import pytest
from damaged_records import damaged
from pipeline_joins import make_join

from millrace.agents.join import open_until
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.outcome import decode_outcome
from millrace.streams.outcomes import _dump, _load


@pytest.mark.parametrize("name", ["outcome", "refusal", "join-opened", "join-timeout"])
@pytest.mark.parametrize("seed", range(3))
def test_an_outcome_that_makes_no_sense_is_decided(name: str, seed: int) -> None:
    """What is kept can be read again, and what is sent can be written."""
    draw, join, decided = random.Random(f"{name} {seed}"), make_join(), 0
    for number in range(300):
        try:
            record = decode_outcome(damaged(draw, name, f"r{number}"))
        except InvalidEventError:
            continue
        decision = join.decide(None, record, 1)
        decided += 1
        if decision.state is not None:
            kept = _load(1.0, orjson.loads(orjson.dumps(_dump(decision.state))))
            open_until(kept)
        for call in decision.calls:
            call.encode()
        if decision.response is not None:
            decision.response.encode()

    assert decided > 0
