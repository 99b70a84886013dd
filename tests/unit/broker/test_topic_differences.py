"""What is said of topics that are not as they should be."""

import pytest

from millrace.streams.topic_admin import Difference


@pytest.mark.parametrize(
    ("difference", "advice"),
    [
        (Difference("t", "missing", "topic", "6", None), "millrace topics --create"),
        (Difference("t", "partitions", "partitions", "6", "2"), "--topic t --partitions 6"),
        (Difference("t", "config", "retention.ms", "5", "9"), "millrace topics --fix"),
    ],
)
def test_each_difference_says_what_to_do(difference: Difference, advice: str) -> None:
    """With the topic and both values."""
    told = str(difference)

    assert told.startswith("t: ")
    assert advice in told
    assert all(value in told for value in (difference.found or "", difference.wanted)) or (
        difference.kind == "missing"
    )
