"""Which failed tests are looked at once more, alone."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "second_look.py"


@pytest.fixture(scope="module")
def second_look() -> ModuleType:
    """The script."""
    spec = importlib.util.spec_from_file_location("second_look", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_few_that_wait_for_their_own_process_are(second_look: ModuleType) -> None:
    """Contracts and units."""
    failed = ["tests/contracts/wires/test_a.py::test_b[openai]", "tests/unit/cli/test_c.py::test_d"]

    assert second_look.objection(failed) is None


@pytest.mark.parametrize(
    ("failed", "why_not"),
    [
        ([], "no test is named"),
        ([f"tests/unit/test_a.py::test_{each}" for each in range(4)], "4 tests failed"),
        (["tests/unit/test_a.py::test_b", "tests/integration/test_c.py::test_d"], "test_d"),
        (["tests/faults/test_c.py::test_d"], "each time"),
        (["tests/unit/test_a.py"], "could not be collected"),
    ],
)
def test_nothing_else_is(second_look: ModuleType, failed: list[str], why_not: str) -> None:
    """What was lost once was lost, and many failures are no accident."""
    assert why_not in second_look.objection(failed)
