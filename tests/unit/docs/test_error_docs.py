"""The page about error codes keeps up with the codes."""

import re
from pathlib import Path
from typing import get_args

from millrace.schemas.errors import ErrorCode

PAGE = Path(__file__).resolve().parents[3] / "docs" / "errors.md"


def test_every_error_code_is_explained_once() -> None:
    """A row for each code there is, and none for one that there is not."""
    rows = re.findall(r"^\| `([a-z_]+)` \| \S", PAGE.read_text("utf-8"), re.MULTILINE)

    assert sorted(rows) == sorted(get_args(ErrorCode))
