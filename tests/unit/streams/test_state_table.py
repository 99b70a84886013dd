"""States in memory: what they take there, and what is read back."""

import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest

from millrace.streams.state_table import StateTable

COUNT = 500


class TableOwner:
    """Makes tables as a Faust app does, of which `StateTable` uses the data alone."""

    conf = SimpleNamespace(id="app")

    def Table(self, *_: Any, **__: Any) -> Any:  # noqa: N802 (Faust's name)
        return SimpleNamespace(data={})


def states() -> StateTable:
    """A table without a changelog."""
    owner: Any = TableOwner()
    publisher: Any = None
    return StateTable(owner, "seen", publisher=publisher, partitions=4)


def test_a_state_takes_no_more_memory_than_it_says() -> None:
    """A worker remembers ids for a day: millions of them, each a few dozen bytes."""
    table = states()
    keys = [f"request-{number}".encode() for number in range(COUNT)]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number, key in enumerate(keys):
            table.set(key, partition=1, touched=1.5, payload=["f" * 32, number])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (after - before) / COUNT < 300


def test_a_state_is_read_back_as_it_was_set() -> None:
    """When it changed, and its payload; nothing for a key that has none."""
    table = states()
    stored = table.set(b"key", partition=1, touched=1.5, payload=["digest", 7])

    assert table.get(b"key") == (1.5, ["digest", 7])
    assert table.get(b"other") is None
    assert stored == b'[1,1.5,["digest",7]]'
    assert list(table.items()) == [(b"key", 1, 1.5, ["digest", 7])]


@pytest.mark.parametrize(
    "stored", [b"", b"junk", b"\x00\xff", b"7", b"{}", b"[1]", b'["x", 1.5, 7]', b"[1, null, 7]"]
)
def test_what_is_no_state_is_none(stored: bytes) -> None:
    """Anybody who may write to a changelog could stop a recovery with it; others are read."""
    table = states()
    table._table.data[b"junk"] = stored
    table.set(b"key", partition=1, touched=1.5, payload=7)

    assert table.get(b"junk") is None
    assert [key for key, *_ in table.items()] == [b"key"]
    assert table.untouched_since(2.0, limit=10) == [(b"key", 1)]
