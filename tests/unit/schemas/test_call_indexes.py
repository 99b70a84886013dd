"""Calls that point beyond their plan are none."""

import pytest
from pipeline_examples import EXAMPLES

from millrace.schemas.call import Call
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.retry import Retry


@pytest.mark.parametrize("field", ["member", "candidate"])
def test_a_call_asks_whom_its_plan_names(field: str) -> None:
    """Whoever reads it looks its target up, more than once, and must find one."""
    good = EXAMPLES["call"]
    assert isinstance(good, Call)
    value = good.model_copy(update={field: 99}).encode()

    with pytest.raises(InvalidEventError, match=f"{field} 99"):
        Call.decode(value)


def test_so_does_one_that_waits() -> None:
    """What wraps a call is as bad as the call."""
    good = EXAMPLES["retry"]
    assert isinstance(good, Retry)
    bad = good.model_copy(update={"call": good.call.model_copy(update={"candidate": 99})})

    with pytest.raises(InvalidEventError, match="candidate 99"):
        Retry.decode(bad.encode())
