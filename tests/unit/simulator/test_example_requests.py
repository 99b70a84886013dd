"""The example requests: what is meant to be good is good, and what is meant to be bad is bad."""

from pathlib import Path
from typing import Any, get_args

import pytest

from millrace.prompts.library import PromptLibrary
from millrace.providers.simulator.directive import find_directive
from millrace.schemas.errors import InvalidEventError, PromptError
from millrace.schemas.request import Request
from millrace.schemas.vocabulary import TaskType

_PATH = Path(__file__).parents[3] / "examples" / "requests.jsonl"
_LINES = _PATH.read_bytes().splitlines()


def _decoded() -> list[Request]:
    requests = []
    for line in _LINES:
        try:
            requests.append(Request.decode(line))
        except InvalidEventError:
            continue
    return requests


def _good() -> list[Request]:
    return [request for request in _decoded() if request.tags.get("expect") != "rejected"]


def test_there_is_plenty_to_see() -> None:
    """Over every task, streamed and not, as prompts, messages and templates."""
    good = _good()

    assert len({request.request_id for request in good}) >= 60
    assert {request.task for request in good} >= set(get_args(TaskType))
    assert {request.stream for request in good} == {True, False}
    for field in ("prompt", "messages", "template"):
        assert sum(getattr(request, field) is not None for request in good) >= 5
    assert sum(request.inputs is not None for request in good) >= 3
    assert sum(request.route.strategy == "ensemble" for request in good) >= 3
    assert sum(request.route.strategy == "cascade" for request in good) >= 2
    assert sum(request.route.sensitivity == "private" for request in good) >= 3


def test_every_template_that_is_asked_for_renders() -> None:
    """With the variables given."""
    library = PromptLibrary.load()
    templated = [request for request in _good() if request.template is not None]

    for request in templated:
        assert library.render(request.template or "", request.variables).messages


def test_the_bad_templates_are_bad() -> None:
    """A missing variable, a wrong type, an unknown template."""
    library = PromptLibrary.load()
    meant = [request for request in _decoded() if request.tags.get("expect") == "rejected"]
    templated = [request for request in meant if request.template is not None]

    assert len(templated) >= 3
    for request in templated:
        with pytest.raises(PromptError):
            library.render(request.template or "", request.variables)


def test_some_lines_are_no_requests() -> None:
    """Not JSON, or not as the schema has it, each in its own way."""
    problems = set()
    for line in _LINES:
        try:
            Request.decode(line)
        except InvalidEventError as error:
            problems.add(error.message)

    assert len(problems) >= 8


def test_an_id_comes_again_with_the_same_and_with_other_content() -> None:
    """A duplicate and a conflict."""
    contents: dict[str, list[Any]] = {}
    for request in _decoded():
        contents.setdefault(request.request_id or "", []).append(request)
    (again,) = [found for found in contents.values() if len(found) > 1]

    assert again[0] == again[1]
    assert again[0] != again[2]


def test_directives_can_be_read_and_show_several_faults() -> None:
    """A typo in one would make the simulator refuse the request."""
    found = [find_directive(request.prompt) for request in _good() if request.prompt is not None]

    faults = {directive.fault for directive in found if directive is not None}
    assert faults >= {"http", "cut", "malformed", "error_in_stream", "hang"}
