"""The operator's sections: defaults, inheritance, and what is refused at start."""

import pytest
from pydantic import ValidationError

from millrace.agents.policy import RequestPolicy, RoutePolicy, TaskRoute


def test_defaults_are_as_promised() -> None:
    """What the documentation promises of an empty config."""
    assert RoutePolicy().for_task("general") == TaskRoute(
        strategy="auto",
        candidates=(),
        allow_unlisted=True,
        max_candidates=4,
        members=3,
        quorum=None,
    )
    assert RequestPolicy() == RequestPolicy(
        reply_to=("*replies*",),
        default_deadline_seconds=600,
        max_deadline_seconds=86_400,
        max_request_bytes=900_000,
    )


def test_a_task_takes_from_the_default_section_what_its_own_leaves_out() -> None:
    """Only fields that are set override."""
    policy = RoutePolicy.model_validate(
        {
            "default": {"candidates": ["a/*"], "max_candidates": 2, "strategy": "local_first"},
            "code_review": {"candidates": ["b/*"], "strategy": "auto"},
        }
    )

    assert policy.for_task("code_review") == TaskRoute(
        candidates=("b/*",), max_candidates=2, strategy="auto"
    )
    assert policy.for_task("general").candidates == ("a/*",)
    assert policy.section("code_review") == "routes.code_review"
    assert policy.section("general") == "routes.default"


@pytest.mark.parametrize(
    "sections",
    [
        {"code_revew": {}},
        {"default": {"candidate": ["a/*"]}},
        {"default": {"candidates": [""]}},
        {"default": {"strategy": "cascades"}},
        {"default": {"vote_by": "field"}},
        {"default": {"vote_field": "grade"}},
        {"default": {"min_quality": 60, "complex_min_quality": 50}},
        {"default": {"thresholds": []}},
        {"default": {"thresholds": [1.2]}},
        {"default": {"members": 1}},
        {"default": {"max_candidates": 0}},
    ],
)
def test_a_wrong_route_section_is_refused(sections: dict[str, object]) -> None:
    """Misspelt tasks and fields, and values out of bounds, are found at start."""
    with pytest.raises(ValidationError):
        RoutePolicy.model_validate(sections)


@pytest.mark.parametrize(
    "fields",
    [
        {"default_deadline_seconds": 0},
        {"default_deadline_seconds": 100, "max_deadline_seconds": 99},
        {"max_deadline_seconds": float("inf")},
        {"max_request_bytes": 10},
        {"reply_too": []},
    ],
)
def test_a_wrong_request_section_is_refused(fields: dict[str, object]) -> None:
    """Deadlines and sizes that make no sense are found at start."""
    with pytest.raises(ValidationError):
        RequestPolicy.model_validate(fields)
