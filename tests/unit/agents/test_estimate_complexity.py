"""How hard requests are taken to be."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.agents.estimate_complexity import estimate_complexity
from millrace.schemas.call import Job
from millrace.schemas.message import Message, ToolDefinition
from millrace.schemas.request import OutputSpec, Parameters

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def job(text: str = "Hello", **changes: Any) -> Job:
    """A job with one message."""
    fields: dict[str, Any] = {
        "request_id": "r",
        "task": "general",
        "messages": (Message(role="user", content=text),),
        "accepted_at": NOW,
        "deadline": NOW,
    }
    return Job(**(fields | changes))


@pytest.mark.parametrize(
    ("harder", "tokens"),
    [
        (job("Hello"), 5_000),
        (job("Hello", task="reasoning"), 10),
        (job("Compare both, step by step:\n- one\n- two\nWhat are the trade-offs?"), 10),
        (job(tools=tuple(ToolDefinition(name=f"t{n}") for n in range(4))), 10),
        (job(output=OutputSpec(format="json", schema={"type": "object"})), 10),
        (job(parameters=Parameters(max_output_tokens=4_000)), 10),
    ],
)
def test_each_part_makes_a_request_harder(harder: Job, tokens: int) -> None:
    """Length, kind of work, steps, tools, schema, answer."""
    easy = estimate_complexity(job(), prompt_tokens=10)

    assert estimate_complexity(harder, prompt_tokens=tokens).value > easy.value


@given(text=st.text(max_size=500), tokens=st.integers(0, 10**7), answer=st.integers(1, 10**6))
def test_it_is_a_share_and_explains_itself(text: str, tokens: int, answer: int) -> None:
    """Whatever the sizes."""
    work = job(text or "x", parameters=Parameters(max_output_tokens=answer))
    found = estimate_complexity(work, prompt_tokens=tokens)

    assert 0 <= found.value <= 1
    assert str(found).startswith(f"complexity {found.value:g} (length ")


def test_the_hardest_is_nearly_one_and_the_easiest_nearly_nothing() -> None:
    """The whole range is used."""
    tools = tuple(ToolDefinition(name=f"t{n}") for n in range(8))
    hard = job("Prove it? Compare? Derive?\n- a\n- b\n- c", task="reasoning", tools=tools)

    assert estimate_complexity(hard, prompt_tokens=20_000).value >= 0.9
    assert estimate_complexity(job(task="summarization"), prompt_tokens=5).value <= 0.1
