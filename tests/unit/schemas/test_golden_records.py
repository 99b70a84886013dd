"""Records as they lie on topics: what was written once can be read for ever."""

import json
from pathlib import Path

import orjson
import pytest
from pipeline_examples import EXAMPLES

from millrace.schemas.budget import BudgetAlert, BudgetClaim, BudgetRelease, BudgetSettlement
from millrace.schemas.call import Call
from millrace.schemas.cancellation import Cancellation
from millrace.schemas.chunk import Chunk
from millrace.schemas.dead_letter import DeadLetter
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.outcome import (
    AttemptOutcome,
    JoinOpened,
    JoinTimeout,
    Refusal,
    decode_outcome,
)
from millrace.schemas.provider_health import ProviderHealth
from millrace.schemas.record import VERSION_HEADER, Record
from millrace.schemas.request import Request
from millrace.schemas.response import Response
from millrace.schemas.retry import Retry

GOLDEN = Path(__file__).parent / "golden"
RECORDS: dict[str, type[Record]] = {
    record.schema_name: record
    for record in (
        Request, Cancellation, Call, Chunk, AttemptOutcome, Refusal, JoinOpened, JoinTimeout,
        Response, UsageEvent, BudgetClaim, BudgetSettlement, BudgetRelease, BudgetAlert, DeadLetter,
        Retry, ProviderHealth,
    )
}  # fmt: skip
OUTCOMES = ("outcome", "refusal", "join-opened", "join-timeout")


def record_of(name: str) -> type[Record]:
    """The record of a golden file, whose name begins with its schema's."""
    return RECORDS[max((each for each in RECORDS if name.startswith(each)), key=len)]


def golden(name: str) -> bytes:
    """A record as it was written by the version that first wrote it."""
    return (GOLDEN / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_record_is_written_as_it_always_was(name: str) -> None:
    """Field by field. A new field makes a new golden file; the old one stays to be read."""
    assert orjson.loads(EXAMPLES[name].encode()) == orjson.loads(golden(name))


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.json")), ids=lambda file: file.stem)
def test_what_any_version_wrote_can_be_read(file: Path) -> None:
    """Every file stays here, whatever the schemas become."""
    record = record_of(file.stem).decode(file.read_bytes())

    assert record_of(file.stem).decode(record.encode()) == record


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_read_is_what_was_written(name: str) -> None:
    """Nothing is lost on the way, not even the last digit of a price."""
    assert record_of(name).decode(golden(name)) == EXAMPLES[name]


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_outcome_says_itself_what_it_is(name: str) -> None:
    """Four records share a topic."""
    assert decode_outcome(golden(name)) == EXAMPLES[name]


@pytest.mark.parametrize("name", ["outcome", "outcome-inputs"])
def test_an_outcome_around_its_call_s_bytes_is_the_same(name: str) -> None:
    """Also around bytes that are written otherwise."""
    outcome = EXAMPLES[name]
    assert isinstance(outcome, AttemptOutcome)
    spaced = outcome.call.model_dump_json(indent=1).encode()

    assert outcome.encode_around(outcome.call.encode()) == outcome.encode()
    assert decode_outcome(outcome.encode_around(spaced)) == outcome


def test_every_record_and_every_field_has_an_example() -> None:
    """A field that is added gets its place in a golden file."""
    for name, record in RECORDS.items():
        examples = [each for each in EXAMPLES.values() if type(each) is record]
        given = {field for each in examples for field in each.model_fields_set}
        assert record.model_fields.keys() - given <= {"kind"}, name


@pytest.mark.parametrize("name", RECORDS)
def test_no_field_was_taken_away_or_made_necessary(name: str) -> None:
    """Against the fields of the first version: additive change only."""
    first = json.loads((GOLDEN / "fields" / f"{name}.json").read_bytes())
    now = RECORDS[name].model_json_schema(mode="serialization")
    reading = RECORDS[name].model_json_schema(mode="validation")

    assert set(first["fields"]) <= set(now["properties"])
    assert set(reading.get("required", ())) <= set(first["required"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_field_that_nobody_knows_is_named(name: str) -> None:
    """Unless the writer says that its version is newer."""
    record = record_of(name)
    value = orjson.dumps({**orjson.loads(golden(name)), "colour": "blue"})
    newer = ((VERSION_HEADER, str(record.schema_version + 1).encode()),)

    with pytest.raises(InvalidEventError, match="colour: there is no such field"):
        record.decode(value, ((VERSION_HEADER, str(record.schema_version).encode()),))
    assert record.decode(value, newer) == EXAMPLES[name]


@pytest.mark.parametrize("value", [b"", b"[]", b"null", b"{", b"\xff", b'{"kind": "other"}'])
def test_what_is_no_record_is_an_invalid_event(value: bytes) -> None:
    """Of whatever kind."""
    for record in RECORDS.values():
        with pytest.raises(InvalidEventError):
            record.decode(value)
    with pytest.raises(InvalidEventError):
        decode_outcome(value)


def test_an_error_names_the_field_and_never_its_value() -> None:
    """Values may be prompts."""
    with pytest.raises(InvalidEventError) as caught:
        Request.decode(b'{"prompt": ["a secret"], "task": "another secret"}')

    assert "prompt" in caught.value.message
    assert "task" in caught.value.message
    assert "secret" not in caught.value.message


def test_headers_say_schema_and_version() -> None:
    """For readers that know several."""
    assert Response.kafka_headers() == (("schema", b"response"), (VERSION_HEADER, b"1"))
    assert len({record.schema_name for record in RECORDS.values()}) == len(RECORDS)


def test_a_default_that_cannot_be_hashed_is_not_copied() -> None:
    """It never changes, and a copy of each field would cost every request."""
    first, second = (Request.model_validate({"prompt": "x"}) for _ in range(2))

    assert first.route is second.route
