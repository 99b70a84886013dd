"""Setting records aside whole."""

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_doubles import RecordingPublisher
from pipeline_records import EPOCH, at, make_raw

from millrace.schemas.dead_letter import DeadLetter
from millrace.schemas.errors import BrokerError, ErrorInfo, InvalidEventError
from millrace.schemas.record import Record
from millrace.streams.dead_letters import DeadLetters, RawRecord, dead_letter

WRONG = ErrorInfo(code="invalid_json", message="it is not JSON")


def letter_of(source: RawRecord) -> DeadLetter:
    """As a reader of the topic finds it."""
    letter = dead_letter(source, WRONG, request_id="r1", at=at(1))
    return DeadLetter.decode(letter.encode(), tuple(DeadLetter.kafka_headers()))


@given(
    value=st.none() | st.binary(max_size=200) | st.text(max_size=200).map(str.encode),
    key=st.none() | st.binary(max_size=20),
    headers=st.lists(st.tuples(st.text(max_size=10), st.binary(max_size=20)), max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_key_value_and_headers_come_back_byte_for_byte(
    value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    """Whatever they are, and no bytes are told from empty ones."""
    letter = letter_of(make_raw(value, key=key, headers=tuple(headers)))

    assert (None if letter.value is None else letter.value.bytes()) == value
    assert (None if letter.key is None else letter.key.bytes()) == key
    assert [(each.name, each.value.bytes()) for each in letter.headers] == headers


def test_it_says_where_the_record_lay_and_what_was_wrong() -> None:
    """With the time of the record and that of its setting aside."""
    letter = letter_of(make_raw(b"x", partition=3, offset=9))

    assert (letter.topic, letter.partition, letter.offset) == ("llm.requests", 3, 9)
    assert (letter.timestamp, letter.dead_at, letter.error) == (EPOCH, at(1), WRONG)


@pytest.mark.parametrize(
    "value", [b"\x00" * 9000, b'"' * 9000, b"\\\n" * 4500, "ä".encode() * 4500, b"\xff" * 9000]
)
def test_a_letter_is_at_most_half_as_long_again_as_its_record(value: bytes) -> None:
    """Also where JSON escapes every byte: the topic takes what the requests topic took."""
    letter = letter_of(make_raw(value))

    assert len(letter.encode()) < 1.5 * len(value)
    assert letter.value is not None
    assert letter.value.bytes() == value


class SmallTopic(RecordingPublisher):
    """Refuses records over a thousand bytes."""

    async def publish(self, topic: str, record: Record, **rest: object) -> object:  # type: ignore[override]
        if len(record.encode()) > 1000:
            raise BrokerError("too many bytes", code="too_large", retryable=False)
        return await super().publish(topic, record, **rest)  # type: ignore[arg-type]


def clock() -> datetime:
    """A clock that stands."""
    return at(1)


async def test_a_record_too_large_for_its_letter_is_told_of_without_its_bytes() -> None:
    """The pipeline goes on, and the operator knows where the bytes are."""
    publisher = SmallTopic()
    set_aside = DeadLetters(publisher=publisher, topic="dead", clock=clock)  # type: ignore[arg-type]
    await set_aside(make_raw(b"x" * 5000, offset=4), InvalidEventError("bad"), request_id="r1")

    letter = publisher.written[0].record
    assert isinstance(letter, DeadLetter)
    assert (letter.value, letter.offset, letter.request_id) == (None, 4, "r1")
    assert letter.error.message.startswith("bad; its 5000 bytes are too many")


async def test_a_broker_that_refuses_is_an_error() -> None:
    """The source must stay uncommitted."""
    publisher = RecordingPublisher(failure=BrokerError("no"))
    set_aside = DeadLetters(publisher=publisher, topic="dead", clock=clock)  # type: ignore[arg-type]

    with pytest.raises(BrokerError):
        await set_aside(make_raw(b"x"), InvalidEventError("bad"))
