"""Records that are written without what is as it is by default: by clients, joins and the sink."""

import pytest
from pipeline_examples import EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_left_out_is_found_again(name: str) -> None:
    """Above all what tells the kinds of a union apart."""
    record = EXAMPLES[name]
    assert type(record).decode(record.model_dump_json(exclude_defaults=True).encode()) == record
