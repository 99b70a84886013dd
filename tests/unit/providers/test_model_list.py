"""The list of models that a server offers, in each wire's own form."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.providers.model_list import not_listed, read_model_list


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ({"object": "list", "data": [{"id": "a"}, {"id": "b/c"}]}, {"a", "b/c"}),
        ({"data": [{"type": "model", "id": "a"}], "has_more": False}, {"a"}),
        ({"models": [{"name": "models/a"}]}, {"a"}),
        ({"models": [{"name": "a:latest"}, {"name": "b:7b"}]}, {"a:latest", "b:7b"}),
        ([{"id": "a"}], {"a"}),
        ({"data": [{"id": 7}, "x", {}]}, set()),
    ],
)
def test_the_names_are_read(page: object, names: set[str]) -> None:
    """As a request would give them."""
    assert read_model_list(orjson.dumps(page)) == names


@pytest.mark.parametrize(
    "page",
    [
        {"data": [{"id": "a"}], "has_more": True},
        {"models": [{"name": "models/a"}], "nextPageToken": "t"},
        {"error": "no"},
        {"data": {}},
        7,
    ],
)
def test_what_is_no_whole_list_says_nothing(page: object) -> None:
    """A model on the next page is not missing."""
    assert read_model_list(orjson.dumps(page)) is None


@given(st.binary(max_size=200))
def test_no_page_breaks_the_reading(page: bytes) -> None:
    """Whatever a server sends."""
    read_model_list(page)


def test_the_latest_needs_no_tag() -> None:
    """Ollama adds it to names without one."""
    listed = frozenset({"a:latest", "b:7b"})

    assert not_listed(["a", "b:7b", "b", "c"], listed) == ("b", "c")
