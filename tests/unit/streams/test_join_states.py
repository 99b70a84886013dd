"""A join's state, as the changelog keeps it."""

import orjson
import pytest
from pipeline_examples import EXAMPLES
from pipeline_joins import make_join

from millrace.schemas.outcome import AttemptOutcome, JoinOpened
from millrace.streams.outcomes import _dump, _load


@pytest.mark.parametrize("name", ["join-opened", "outcome"])
def test_a_state_is_read_as_it_was_written(name: str) -> None:
    """Whatever is asked: messages in parts, images, tools."""
    record = EXAMPLES[name]
    assert isinstance(record, AttemptOutcome | JoinOpened)
    state = make_join().decide(None, record, 1).state

    assert state is not None
    assert _load(1.0, orjson.loads(orjson.dumps(_dump(state)))) == state
