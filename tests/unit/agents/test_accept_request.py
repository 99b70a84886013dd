"""From a request to a job: rendering, output, deadline, reply topic."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from millrace.agents.accept_request import AcceptRequest
from millrace.agents.policy import RequestPolicy
from millrace.prompts.library import PACKAGED, PromptLibrary
from millrace.schemas.call import Job
from millrace.schemas.errors import InvalidEventError, PipelineError, PromptError
from millrace.schemas.message import Message
from millrace.schemas.request import OutputSpec, Request

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIBRARY = PromptLibrary.load((PACKAGED,))


def agent(policy: RequestPolicy | None = None, library: PromptLibrary = LIBRARY) -> AcceptRequest:
    return AcceptRequest(
        library=library, policy=policy or RequestPolicy(), own_topics=("llm.*", "millrace-*")
    )


def accept(body: dict[str, Any], policy: RequestPolicy | None = None) -> Job:
    return agent(policy).accept(Request.model_validate(body), request_id="r1", accepted_at=NOW)


def test_the_smallest_request_becomes_a_job_with_defaults() -> None:
    """One line of text is enough."""
    job = accept({"prompt": "Why?"})

    assert job == Job(
        request_id="r1",
        task="general",
        messages=(Message(role="user", content="Why?"),),
        accepted_at=NOW,
        deadline=NOW + timedelta(seconds=600),
    )


def test_what_the_request_says_is_kept() -> None:
    """Nothing that later steps need is lost."""
    body = {
        "task": "reasoning",
        "team": "payments",
        "conversation_id": "c1",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "tools": [{"name": "t"}],
        "parameters": {"temperature": 0.5, "stop": ["x"]},
        "output": {"format": "json", "schema": {"type": "object"}},
        "route": {"sensitivity": "private"},
        "stream": True,
        "reply_to": "payments.replies",
        "tags": {"pr": "1"},
    }

    job = accept(body)

    request = Request.model_validate(body)
    assert job.task == "reasoning"
    assert job.conversation_id == "c1"
    assert job.messages == request.messages
    assert job.tools == request.tools
    assert job.parameters == request.parameters
    assert job.output == request.output
    assert job.sensitivity == "private"
    assert job.stream is True
    assert job.reply_to == "payments.replies"
    assert job.tags == {"pr": "1"}


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({}, None),
        ({"team": "a"}, "a"),
        ({"budget_key": "b"}, "b"),
        ({"team": "a", "budget_key": "b"}, "b"),
    ],
)
def test_the_team_pays_unless_a_budget_is_named(body: dict[str, Any], key: str | None) -> None:
    """The budget key falls back to the team."""
    assert accept({"prompt": "x", **body}).budget_key == key


def test_a_template_gives_messages_task_output_and_reference() -> None:
    """What the request leaves open comes from the template."""
    job = accept({"template": "code_review", "variables": {"code": "x = 1"}})

    assert [message.role for message in job.messages] == ["system", "user"]
    assert "x = 1" in job.messages[1].text()
    assert job.task == "code_review"
    assert job.output == LIBRARY.get("code_review").head.output
    assert job.prompt == LIBRARY.get("code_review@1").ref


def test_the_request_overrides_its_template() -> None:
    """A given task and output win over the template's."""
    job = accept(
        {
            "template": "code_review@1",
            "variables": {"code": "x"},
            "task": "general",
            "output": {"format": "text"},
        }
    )

    assert job.task == "general"
    assert job.output == OutputSpec()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"template": "nosuch"}, "no template 'nosuch'"),
        ({"template": "code_review@9", "variables": {"code": "x"}}, "code_review@1"),
        ({"template": "code_review", "variables": {}}, "'code' is missing"),
    ],
)
def test_a_template_that_does_not_fit_is_a_prompt_error(
    body: dict[str, Any], complaint: str
) -> None:
    """The library's errors pass through."""
    with pytest.raises(PromptError, match=complaint) as caught:
        accept(body)

    assert caught.value.code == "prompt_error"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, NOW + timedelta(seconds=60)),
        (NOW + timedelta(seconds=5), NOW + timedelta(seconds=5)),
        (NOW + timedelta(days=2), NOW + timedelta(seconds=100)),
        (NOW - timedelta(days=2), NOW - timedelta(days=2)),
    ],
)
def test_the_deadline_is_fixed_and_bounded(asked: datetime | None, expected: datetime) -> None:
    """Too late is brought forward, none gets the default, and the past stays the past."""
    policy = RequestPolicy(default_deadline_seconds=60, max_deadline_seconds=100)

    job = accept({"prompt": "x", "deadline": asked}, policy)

    assert job.deadline == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("9999-12-31T23:59:59-14:00", NOW + timedelta(seconds=100)),
        ("0001-01-01T00:00:00+14:00", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_deadlines_at_the_edges_of_the_calendar_are_deadlines(
    asked: str, expected: datetime
) -> None:
    """In UTC they would lie beyond it."""
    request = Request.model_validate_json(json.dumps({"prompt": "x", "deadline": asked}))
    policy = RequestPolicy(default_deadline_seconds=60, max_deadline_seconds=100)

    job = agent(policy).accept(request, request_id="r1", accepted_at=NOW)

    assert job.deadline == expected


@pytest.mark.parametrize(
    ("topic", "patterns", "allowed"),
    [
        ("payments.replies", ("*replies*",), True),
        ("replies", ("*replies*",), True),
        ("payments", ("*replies*",), False),
        ("Payments.Replies", ("*replies*",), False),
        ("team-a.out", ("team-?.out", "x"), True),
        ("x", (), False),
        ("llm.replies", ("*",), False),
        ("llm.requests", ("*",), False),
        ("millrace-replies-changelog", ("*",), False),
        ("__consumer_offsets", ("*",), False),
        (".", ("*",), False),
        ("..", ("*",), False),
    ],
)
def test_replies_go_only_where_the_operator_allows(
    topic: str, patterns: tuple[str, ...], allowed: bool
) -> None:
    """The pipeline's and the broker's topics are closed whatever the patterns say."""
    policy = RequestPolicy(reply_to=patterns)

    if allowed:
        assert accept({"prompt": "x", "reply_to": topic}, policy).reply_to == topic
    else:
        with pytest.raises(InvalidEventError) as caught:
            accept({"prompt": "x", "reply_to": topic}, policy)
        assert caught.value.code == "reply_to_not_allowed"
        assert repr(topic) in caught.value.message


def test_a_replay_never_answers_to_the_original_reply_topic() -> None:
    """Replayed work stays apart from live work."""
    replay = {"replay_id": "p1", "original_request_id": "r0"}

    assert accept({"prompt": "x", "reply_to": "a.replies", "replay": replay}).reply_to is None


@pytest.mark.parametrize(
    "schema", [{"type": "strange"}, {"$ref": "https://example.com/s.json"}, {"pattern": "("}]
)
def test_a_bad_output_schema_is_refused(schema: dict[str, Any]) -> None:
    """It would fail on every answer, so it is found before any is paid for."""
    with pytest.raises(InvalidEventError, match=r"output\.schema cannot be used") as caught:
        accept({"prompt": "x", "output": {"format": "json", "schema": schema}})

    assert caught.value.code == "invalid_request"


def test_a_template_may_not_make_more_than_a_request_may_hold() -> None:
    """Rendered messages are bounded like the request itself."""
    policy = RequestPolicy(max_request_bytes=1_000)

    with pytest.raises(InvalidEventError, match="more than 1000") as caught:
        accept({"template": "general", "variables": {"instruction": "é" * 600}}, policy)

    assert caught.value.code == "too_large"


def test_no_error_quotes_prompt_text(tmp_path: Path) -> None:
    """Messages end up in public records and logs."""
    (tmp_path / "t@1.j2").write_text(
        "---\nname: t\nversion: 1\ntask: general\ndescription: d\n"
        "variables:\n  n: {type: integer}\n  s: {type: string}\n---\n"
        "{% block user %}{{ s.nothing }}{{ n }}{% endblock %}"
    )
    strict = agent(library=PromptLibrary.load([tmp_path]))
    bodies: list[dict[str, Any]] = [
        {"template": "t", "variables": {"n": "hidden", "s": "hidden"}},
        {"template": "t", "variables": {"n": 1, "s": "hidden"}},
        {"prompt": "hidden", "reply_to": "elsewhere"},
    ]

    for body in bodies:
        with pytest.raises(PipelineError) as caught:
            strict.accept(Request.model_validate(body), request_id="r", accepted_at=NOW)
        assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "lane"),
    [
        ({}, "interactive"),
        ({"lane": "batch"}, "batch"),
        ({"team": "analytics"}, "batch"),
        ({"team": "analytics", "lane": "interactive"}, "interactive"),
        ({"task": "bug_fixing"}, "batch"),
        ({"task": "bug_fixing", "team": "payments"}, "interactive"),
        ({"replay": {"replay_id": "p", "original_request_id": "o"}}, "batch"),
        (
            {"replay": {"replay_id": "p", "original_request_id": "o"}, "lane": "interactive"},
            "interactive",
        ),
    ],
)
def test_the_lane_is_the_request_s_or_the_team_s_or_the_task_s(
    fields: dict[str, Any], lane: str
) -> None:
    """In this order; replays are batch work."""
    policy = RequestPolicy(
        team_lanes={"analytics": "batch", "payments": "interactive"},
        task_lanes={"bug_fixing": "batch"},
    )

    assert accept({"prompt": "Why?", **fields}, policy).lane == lane
