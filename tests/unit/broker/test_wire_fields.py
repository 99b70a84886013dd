"""The gateway reads the wire protocol as aiokafka writes it."""

import struct
from typing import Any

import pytest
from aiokafka.protocol import fetch, group, produce
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.streams.embedded import wire

FETCH_VERSIONS = range(4, 12)
NAMES = st.text(alphabet="abcXYZ.-_09", min_size=1, max_size=20)
TOPICS = st.dictionaries(NAMES, st.lists(st.integers(0, 99), unique=True, max_size=4), max_size=4)
EXAMPLES = settings(max_examples=30, deadline=None)


def frame(request: Any, client: str | None = "client") -> bytes:
    """A request with its header, as it stands after the size."""
    header = struct.pack(">hhi", request.API_KEY, request.API_VERSION, 7)
    name = b"\xff\xff" if client is None else struct.pack(">h", len(client)) + client.encode()
    return header + name + bytes(request.encode())


def fetch_request(version: int, topics: dict[str, list[int]], wait_ms: int) -> bytes:
    """A Fetch request of this version."""
    partitions = [(name, [(number, 5, 1000) for number in held]) for name, held in topics.items()]
    request = fetch.FetchRequest(wait_ms, 1, 1000, 0, partitions)
    return frame(request.build(getattr(fetch, f"FetchRequest_v{version}")))


def fetch_reply(version: int, *, error: int = 0, value: bytes = b"", aborted: int = 0) -> bytes:
    """A Fetch reply of this version with one partition."""
    start = (0,) if version >= 5 else ()
    preferred = (-1,) if version >= 11 else ()
    gone = [(1, 2)] * aborted
    partition = (3, error, 10, 10, *start, gone, *preferred, value)
    session = (0, 0) if version >= 7 else ()
    reply = getattr(fetch, f"FetchResponse_v{version}")(0, *session, [("topic", [partition])])
    return struct.pack(">i", 7) + bytes(reply.encode())


@EXAMPLES
@given(st.sampled_from(FETCH_VERSIONS), TOPICS, st.integers(0, 60_000))
def test_a_fetch_is_read(version: int, topics: dict[str, list[int]], wait_ms: int) -> None:
    """In every version that is offered to clients."""
    request = fetch_request(version, topics, wait_ms)
    header = wire.read_header(request)
    read = wire.read_fetch(request, header)

    assert (header.api, header.version) == (wire.FETCH, version)
    assert (read.wait_ms, read.min_bytes, read.topics) == (wait_ms, 1, frozenset(topics))


@EXAMPLES
@given(st.sampled_from(FETCH_VERSIONS), TOPICS, st.integers(0, 60_000))
def test_only_the_wait_is_taken_out(
    version: int, topics: dict[str, list[int]], wait_ms: int
) -> None:
    """The rest of the request is the same to the byte."""
    request = fetch_request(version, topics, wait_ms)
    read = wire.read_fetch(request, wire.read_header(request))

    assert wire.without_wait(request, read) == fetch_request(version, topics, 0)


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_a_reply_with_a_record_or_an_error_says_something(version: int) -> None:
    """One without either does not, whatever else it holds."""
    assert wire.fetch_says_something(fetch_reply(version, value=b"x"), version)
    assert wire.fetch_says_something(fetch_reply(version, error=1), version)
    assert not wire.fetch_says_something(fetch_reply(version), version)
    assert not wire.fetch_says_something(fetch_reply(version, aborted=2), version)


@EXAMPLES
@given(
    st.sampled_from([-1, 0, 1]),
    st.dictionaries(NAMES, st.binary(max_size=50), max_size=4),
    st.none() | NAMES,
)
def test_a_produce_is_read(acks: int, topics: dict[str, bytes], transaction: str | None) -> None:
    """Its topics, and whether an answer is wanted."""
    values = [(name, [(0, value), (1, value)]) for name, value in topics.items()]
    request = frame(produce.ProduceRequest_v8(transaction, acks, 1000, values))
    read = wire.read_produce(request, wire.read_header(request))

    assert (read.acks, read.topics) == (acks, frozenset(topics))


@EXAMPLES
@given(NAMES, st.integers(0, 2**31 - 1), st.dictionaries(NAMES, st.binary(max_size=30), max_size=4))
def test_a_sync_is_read(name: str, generation: int, assigned: dict[str, bytes]) -> None:
    """The leader's names every member."""
    for request in (
        group.SyncGroupRequest_v1(name, generation, "me", list(assigned.items())),
        group.SyncGroupRequest_v3(name, generation, "me", None, list(assigned.items())),
    ):
        raw = frame(request, client=None)
        read = wire.read_sync(raw, wire.read_header(raw))

        assert (read.group, read.generation, read.member) == (name, generation, "me")
        assert read.assigned == frozenset(assigned)


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (42, 27), (22, 22)])
def test_a_sync_that_came_too_late_is_told_to_join_again(code: int, expected: int) -> None:
    """Clients expect that error; others stay as they are."""
    for version, reply in (
        (0, group.SyncGroupResponse_v0(code, b"")),
        (1, group.SyncGroupResponse_v1(0, code, b"")),
    ):
        changed = wire.rejoining(struct.pack(">i", 7) + bytes(reply.encode()), version)

        assert type(reply).decode(changed[4:]).error_code == expected
