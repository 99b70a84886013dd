"""Says whether the tests that failed side by side may be run once more, alone; exit code 0 if so.

Many tests share few cores, and one that waits for an answer of its own process may then wait too
long. So a few such failures are looked at again, one by one, and named. What is promised of the
whole pipeline is not: a request that was lost once was lost.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

MOST = 3
"""More than these are no accident."""
NEVER = ("tests/integration/", "tests/faults/")
LAST_FAILED = Path(__file__).parents[1] / ".pytest_cache" / "v" / "cache" / "lastfailed"


def objection(failed: Iterable[str]) -> str | None:
    """Why these tests may not be run again, if they may not."""
    failed = sorted(failed)
    if not failed:
        return "no test is named as failed"
    if len(failed) > MOST:
        return f"{len(failed)} tests failed, which is no accident"
    final = [test for test in failed if test.startswith(NEVER)]
    if final:
        return f"what the whole pipeline promises has to hold each time ({final[0]})"
    unheard = [test for test in failed if "::" not in test]
    if unheard:
        return f"{unheard[0]} could not be collected"
    return None


def main() -> int:
    """Ask of the tests that the last run of pytest left as failed."""
    failed = json.loads(LAST_FAILED.read_text("utf-8")) if LAST_FAILED.exists() else {}
    why_not = objection(failed)
    if why_not is not None:
        print(f"No second look: {why_not}.")
        return 1
    print("Failed beside others; a second look at each, alone:", *sorted(failed), sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
