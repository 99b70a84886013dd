"""JSON Schema and AsyncAPI say what the pipeline takes and writes."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from millrace.schemas.errors import InvalidEventError
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.record import Record
from millrace.schemas.request import Request
from millrace.schemas.response import Response
from millrace.schemas.usage import Usage
from millrace.streams.asyncapi import asyncapi_document
from millrace.streams.json_schemas import PUBLIC_RECORDS, json_schema, references_in
from millrace.streams.topics import TopicNames

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The whole AsyncAPI document, as it is read back from JSON."""
    made = asyncapi_document(
        names=TopicNames("test."), version="1.2.3", bootstrap_servers=("broker:9092",)
    )
    read: dict[str, Any] = orjson.loads(orjson.dumps(made))
    return read


def _resolve(document: dict[str, Any], reference: str) -> Any:
    node: Any = document
    assert reference.startswith("#/")
    for part in reference[2:].split("/"):
        node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


@pytest.mark.parametrize("record", PUBLIC_RECORDS)
def test_each_schema_is_sound_and_whole(record: type[Record]) -> None:
    """By the rules of its dialect, and without references to elsewhere."""
    schema = json_schema(record)

    Draft202012Validator.check_schema(schema)
    for reference in references_in(schema):
        assert _resolve(schema, reference)


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": "x"},
        {"prompt": "x", "messages": None},
        {"prompt": ""},
        {},
        {"prompt": "x", "template": "general"},
        {"template": "general@1", "variables": {"question": "x"}},
        {"template": "General"},
        {"prompt": "x", "variables": {"question": "x"}},
        {"prompt": "x", "variables": {}},
        {"messages": [{"role": "user", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": []},
        {"prompt": "x", "colour": "red"},
        {"prompt": "x", "task": "cooking"},
        {"prompt": "x", "request_id": "a b"},
        {"prompt": "x", "output": {"schema": {"type": "object"}}},
        {"prompt": "x", "output": {"format": "json", "schema": {"type": "object"}}},
        {"prompt": "x", "route": {"max_cost_usd": "0.02", "members": 3}},
        {"prompt": "x", "route": {"max_cost_usd": 0.02}},
        {"prompt": "x", "route": {"members": 1}},
        {"prompt": "x", "parameters": {"temperature": 3}},
        {"prompt": "x", "tags": {"pr": 1}},
        {"prompt": "x", "reply_to": "a topic"},
        {"inputs": ["x", "y"]},
        {"inputs": ["x"], "dimensions": 256, "route": {"strategy": "local_first"}},
        {"inputs": ["x"], "dimensions": 0},
        {"inputs": []},
        {"inputs": ["x", ""]},
        {"inputs": "x"},
        {"inputs": ["x"] * 2049},
        {"inputs": ["x"], "prompt": "x"},
        {"inputs": ["x"], "stream": True},
        {"inputs": ["x"], "stream": False, "tools": [], "parameters": {}, "output": {}},
        {"inputs": ["x"], "tools": [{"name": "look_up"}]},
        {"inputs": ["x"], "parameters": {"temperature": 0.1}},
        {"inputs": ["x"], "parameters": {"temperature": None, "stop": []}},
        {"inputs": ["x"], "output": {"format": "json"}},
        {"inputs": ["x"], "output": {"format": "text", "schema": None}},
        {"inputs": ["x"], "route": {"strategy": "ensemble"}},
        {"inputs": ["x"], "route": {"members": 2}},
        {"inputs": ["x"], "route": {"quorum": 2}},
        {"inputs": ["x"], "route": {"capabilities": ["embeddings"]}},
        {"prompt": "x", "route": {"capabilities": ["embeddings"]}},
        {"prompt": "x", "dimensions": 256},
    ],
)
def test_the_request_schema_takes_what_the_pipeline_takes(value: dict[str, Any]) -> None:
    """And refuses what it refuses, rules across fields included."""
    try:
        Request.decode(orjson.dumps(value))
        expected = True
    except InvalidEventError:
        expected = False

    assert expected == Draft202012Validator(json_schema(Request)).is_valid(value)


def test_records_of_millrace_fit_their_schema_also_with_a_field_of_the_future() -> None:
    """Changes are additive, so consumers must not refuse what they do not know."""
    usage = Usage(input_tokens=3, output_tokens=4)
    spent = UsageEvent(
        event="spent", row_id="1/0/1/i", request_id="1", invocation="i", provider="p", model="m",
        hardware="cloud", task="general", strategy="auto", usage=usage, cost_usd=Decimal("0.1"),
        started_at=NOW, deadline=NOW,
    )  # fmt: skip
    ended = Response(request_id="1", status="completed", usage=usage, completed_at=NOW)
    for record in (spent, ended):
        value = orjson.loads(record.encode())
        validator = Draft202012Validator(json_schema(type(record)))

        validator.validate(value)
        validator.validate({**value, "new": 1})
        assert not validator.is_valid({**value, "request_id": 1})


def test_every_reference_of_the_document_resolves(document: dict[str, Any]) -> None:
    """Within the document itself."""
    references = references_in(document)

    assert len(references) > len(PUBLIC_RECORDS)
    for reference in references:
        assert _resolve(document, reference) is not None


def test_the_document_has_the_shape_of_asyncapi_3(document: dict[str, Any]) -> None:
    """The parts that AsyncAPI 3.0 requires, and the kinds it allows."""
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    assert document["servers"]["broker1"] == {"host": "broker:9092", "protocol": "kafka"}
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        channel = _resolve(document, operation["channel"]["$ref"])
        messages = {
            f"{operation['channel']['$ref']}/messages/{name}" for name in channel["messages"]
        }
        assert {message["$ref"] for message in operation["messages"]} == messages
    for channel in document["channels"].values():
        placeholders = "{provider}" in (channel["address"] or "")
        assert placeholders == ("parameters" in channel)


def test_topics_carry_the_prefix(document: dict[str, Any]) -> None:
    """As the settings have it; a reply goes where the request says."""
    channels = document["channels"]

    assert channels["requests"]["address"] == "test.requests"
    assert channels["calls"]["address"] == "test.calls.{provider}"
    assert channels["replies"]["address"] is None
    reply = document["operations"]["receiveRequests"]["reply"]
    assert reply["address"]["location"] == "$message.payload#/reply_to"


def test_each_public_record_is_a_message_with_the_headers_it_carries(
    document: dict[str, Any],
) -> None:
    """Schema and version, as `kafka_headers` writes them."""
    messages = {message["name"]: message for message in document["components"]["messages"].values()}

    for record in PUBLIC_RECORDS:
        headers = messages[record.schema_name]["headers"]
        sent = {
            name: {"type": "string", "const": raw.decode()} for name, raw in record.kafka_headers()
        }
        assert sent.items() <= headers["properties"].items()
        assert _resolve(document, messages[record.schema_name]["payload"]["$ref"])


def test_components_are_sound_schemas(document: dict[str, Any]) -> None:
    """By themselves, references aside."""
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
