"""The check of the demo's books can fail, and says where."""

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.providers.simulator.ledger import LedgerLine
from millrace.streams.cli.demo_books import (
    Account,
    Counts,
    disagreements,
    simulator_accounts,
    total,
)


def call(instance: str = "openai", **fields: object) -> LedgerLine:
    """A line of the simulator's ledger."""
    plain = {
        "id": "sim1",
        "sequence": 1,
        "wire": "openai",
        "started_at": 0.0,
        "status": 200,
        "input_tokens": 10,
        "generated_tokens": 4,
        "usage_reported": True,
        "ended": "complete",
    }
    return LedgerLine(instance=instance, **{**plain, **fields})  # type: ignore[arg-type]


def test_calls_are_told_apart_by_who_can_count_them() -> None:
    """Counted, estimated and refused calls stand apart."""
    accounts = simulator_accounts(
        [
            call(),
            call(usage_reported=False),
            call(ended="cut", usage_reported=False),
            call(ended="error", status=429, input_tokens=0, generated_tokens=0),
            call("gemini", ended="hung", status=None, generated_tokens=0),
        ]
    )

    assert accounts["openai"] == Account(
        counted=Counts(calls=1, input_tokens=10, output_tokens=4),
        estimated=Counts(calls=2, input_tokens=20, output_tokens=8),
        refused=1,
    )
    assert accounts["gemini"].estimated.calls == 1
    assert total(accounts).calls == 5


def test_a_call_that_was_not_booked_is_named() -> None:
    """A provider whose calls are missing from the books is a disagreement."""
    theirs = simulator_accounts([call()])

    found = list(disagreements({}, theirs))

    assert "the books of openai say 0 counted calls, the simulator 1" in found


def test_estimates_need_not_agree_on_tokens() -> None:
    """Only how many calls were estimated can be compared."""
    ours = {"openai": Account(estimated=Counts(calls=1, input_tokens=9))}
    theirs = {"openai": Account(estimated=Counts(calls=1, input_tokens=11))}

    assert list(disagreements(ours, theirs)) == []


@settings(max_examples=50)
@given(st.tuples(*[st.integers(0, 50)] * 4), st.integers(1, 9))
def test_any_difference_in_counted_figures_is_found(
    figures: tuple[int, int, int, int], extra: int
) -> None:
    """Not one token or call may differ."""
    calls, asked, cached, made = figures
    counts = Counts(calls=calls, input_tokens=asked, cached_tokens=cached, output_tokens=made)
    same = {"a": Account(counted=counts)}

    assert list(disagreements(same, same)) == []
    for more in (
        Counts(calls=extra),
        Counts(input_tokens=extra),
        Counts(cached_tokens=extra),
        Counts(output_tokens=extra),
    ):
        assert len(list(disagreements(same, {"a": Account(counted=counts + more)}))) == 1
