"""The examples of the page on strategies can be tried by who has nothing but this repository."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from millrace.schemas.request import Request
from millrace.streams.cli.explain import plan_of
from millrace.streams.planning import planner
from millrace.streams.settings import load_settings

ROOT = Path(__file__).parents[3]
EXAMPLES = [
    json.loads(block)
    for block in re.findall(
        r"```json\n(.*?)```", (ROOT / "docs" / "strategies.md").read_text("utf-8"), re.DOTALL
    )
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["route"]["strategy"])
def test_the_simulated_vendors_have_models_for_each(example: dict[str, Any]) -> None:
    """As the page promises; and `millrace simulate` listens where they are called."""
    settings = load_settings(ROOT / "examples" / "simulated.toml", {})
    request = Request.model_validate(example)
    _, plan, _ = plan_of(request, settings, planner(settings))

    assert plan.strategy == request.route.strategy
    assert len(plan.stage_members(0)) >= (1 if plan.mode == "chain" else request.route.members or 1)
    assert all(entry.simulated for entry in settings.enabled_providers.values())
