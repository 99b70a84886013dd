"""How tests are dealt out to workers."""

import pytest
from parallel_groups import group

FILE = "tests/integration/test_pipeline_answers.py"


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (f"{FILE}::test_a[embedded]", f"{FILE}::test_b[embedded-x]", True),
        (f"{FILE}::test_a[x-real]", f"{FILE}::test_b[real]", True),
        (f"{FILE}::test_a[embedded]", f"{FILE}::test_a[real]", False),
        (f"{FILE}::test_a[real]", f"{FILE}::test_a[unreal]", False),
        (f"{FILE}::test_a", f"{FILE}::test_b[7]", True),
        (f"{FILE}::test_a", "tests/integration/test_client.py::test_a", False),
        ("tests/contracts/third_party/a.py::x", "tests/contracts/third_party/b.py::y[1]", True),
    ],
)
def test_tests_that_share_a_pipeline_share_a_worker(one: str, other: str, together: bool) -> None:
    """Those of a file on one broker; a file's others beside them."""
    assert (group(one) == group(other)) is together
