"""What `millrace demo --live` would send, and what it may cost."""

import json
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.streams.cli.demo_lines import Line, read_lines
from millrace.streams.cli.demo_live import ATTEMPTS, REQUESTS, LiveProviders, live_lines


def lines(*bodies: dict[str, object]) -> list[Line]:
    """Requests as lines."""
    return list(read_lines(json.dumps(body).encode() for body in bodies))


def test_only_plain_requests_are_sent_for_real() -> None:
    """Misbehaving, bad, private, named and ensemble requests stay at home."""
    plain = {"request_id": "plain", "prompt": "x"}
    found = live_lines(
        lines(
            {"prompt": "x [[sim:cut=1]]"},
            {"prompt": "", "task": "reasoning"},
            {"prompt": "x", "task": "reasoning", "route": {"strategy": "ensemble"}},
            {"prompt": "x", "task": "code_review", "route": {"models": ["gpt-4.1"]}},
            {"prompt": "x", "task": "bug_fixing", "route": {"sensitivity": "private"}},
            plain,
        ),
        budget_usd=Decimal(1),
        local=False,
    )

    assert [line.outgoing.request_id for line in found] == ["plain"]


def test_private_requests_may_go_to_local_models() -> None:
    """With an Ollama there, they are sent, and stay private."""
    body = {"prompt": "x", "route": {"sensitivity": "private"}}

    (found,) = live_lines(lines(body), budget_usd=Decimal(1), local=True)

    assert found.request is not None
    assert found.request.route.sensitivity == "private"


@settings(max_examples=40)
@given(st.decimals("0", "10", places=6), st.integers(1, 11))
def test_all_attempts_together_stay_within_the_budget(budget: Decimal, tasks: int) -> None:
    """Each request's bound, times the models tried for it, sums up to no more."""
    names = [
        "general", "reasoning", "code_review", "bug_fixing", "summarization", "code_generation",
        "error_diagnosis", "data_interpretation", "workflow_generation", "requirement_analysis",
        "documentation_generation",
    ]  # fmt: skip
    bodies: list[dict[str, object]] = [{"prompt": "x", "task": name} for name in names[:tasks]]

    found = live_lines(lines(*bodies), budget_usd=budget, local=False)

    bounds = [line.request.route.max_cost_usd for line in found if line.request is not None]
    assert len(found) == min(tasks, REQUESTS)
    assert sum(bound * ATTEMPTS for bound in bounds if bound is not None) <= budget
    assert None not in bounds


def test_local_models_alone_cost_nothing() -> None:
    """Nobody need be asked before they are."""
    assert not LiveProviders(entries={"ollama": {"hardware": "gpu"}}).paid
    assert LiveProviders(entries={"openai": {"hardware": "cloud"}}).paid
