"""Commits that count only from a member of the group.

Whom the group has let go is a stranger to it until it has joined again. aiokafka 0.14 commits
meanwhile without a generation, as do consumers that nobody shares partitions with; while the group
has no member at all, the broker takes that. A process that woke up could so put back what another
one had committed before it left, and have its calls made again.
"""

from functools import wraps
from typing import Any

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import UnknownMemberIdError

_MARK = "_millrace_members_only"
_NO_GENERATION = -1


def let_only_members_commit() -> None:
    """Let the coordinators of this process refuse what a stranger commits; harmless to repeat.

    It is refused as the broker refuses it where the group has members: aiokafka makes
    `CommitFailedError` of that, and nothing was committed.
    """
    original = GroupCoordinator._do_commit_offsets  # noqa: SLF001
    if hasattr(original, _MARK):
        return

    @wraps(original)
    async def commit(self: Any, assignment: Any, offsets: Any) -> None:
        if offsets and self.generation == _NO_GENERATION:
            raise UnknownMemberIdError(self.group_id)
        await original(self, assignment, offsets)

    setattr(commit, _MARK, True)
    GroupCoordinator._do_commit_offsets = commit  # noqa: SLF001
