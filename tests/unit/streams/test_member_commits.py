"""What is used of aiokafka's inside, so that only members commit."""

import inspect

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.commit import OffsetCommitRequest


def test_the_client_commits_in_one_place_and_forgets_its_generation_in_another() -> None:
    """These are no public names of aiokafka."""
    commit = inspect.getsource(GroupCoordinator.commit_offsets)
    assert "self._do_commit_offsets(assignment, offsets)" in commit
    assert "Errors.UnknownMemberIdError" in commit
    reset = inspect.getsource(GroupCoordinator.reset_generation)
    assert "self.generation = OffsetCommitRequest.DEFAULT_GENERATION_ID" in reset
    assert OffsetCommitRequest.DEFAULT_GENERATION_ID == -1
