"""From the arguments of a call to a request."""

from typing import Any

import pytest
from pydantic import BaseModel

from millrace.client.asking import Asking, embedding_request, request_for
from millrace.client.connection import KafkaConnection
from millrace.schemas.errors import ConfigurationError, InvalidEventError
from millrace.schemas.request import Request


class Verdict(BaseModel):
    """What a review says."""

    good: bool


@pytest.mark.parametrize(
    ("options", "path", "value"),
    [
        ({"model": "gpt-4.1"}, "route.models", ("gpt-4.1",)),
        ({"provider": "ollama"}, "route.providers", ("ollama",)),
        ({"strategy": "local_first"}, "route.strategy", "local_first"),
        ({"route": {"hardware": "gpu"}, "model": "m"}, "route.hardware", "gpu"),
        ({"temperature": 0.5}, "parameters.temperature", 0.5),
        ({"parameters": {"seed": 7}, "max_output_tokens": 9}, "parameters.seed", 7),
        ({"output_schema": {"type": "object"}}, "output.format", "json"),
        ({"output_schema": Verdict}, "output.json_schema", Verdict.model_json_schema()),
        ({"tags": {"pr": "7"}, "team": "payments"}, "tags", {"pr": "7"}),
        ({"timeout_seconds": 5.0}, "deadline", None),
    ],
)
def test_each_option_stands_where_the_request_has_it(
    options: Any, path: str, value: object
) -> None:
    """Short forms are set into route, parameters and output, beside what these say."""
    found: Any = request_for("Why?", options)
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value


def test_every_field_of_a_request_can_be_asked_for() -> None:
    """But for those that the methods have arguments of their own for, and those of a replay."""
    own = {"prompt", "inputs", "dimensions", "stream", "replay"}

    assert set(Request.model_fields) - set(Asking.__annotations__) == own


def test_a_text_is_not_taken_for_a_list_of_letters() -> None:
    """Each would be turned into a vector, and paid for."""
    with pytest.raises(InvalidEventError, match="a list of one"):
        embedding_request("a mill", None, {})


def test_what_makes_no_request_is_named_without_its_content() -> None:
    """Nothing is sent that the router would refuse for its form."""
    with pytest.raises(InvalidEventError, match=r"parameters\.temperature") as caught:
        request_for("a secret", {"temperature": 9.0})
    assert "secret" not in str(caught.value)


def test_a_connection_is_read_from_the_pipelines_variables() -> None:
    """One environment serves both."""
    connection = KafkaConnection.from_environment(
        {
            "KAFKA_BOOTSTRAP_SERVERS": "a:9092,b:9092",
            "MILLRACE_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "MILLRACE_KAFKA__SASL_MECHANISM": "PLAIN",
            "MILLRACE_KAFKA__USERNAME": "u",
            "MILLRACE_KAFKA__PASSWORD": "hidden",
            "MILLRACE_KAFKA__PARTITIONS": "12",
        }
    )
    assert connection.bootstrap_servers == ("a:9092", "b:9092")
    assert "hidden" not in repr(connection)


def test_every_variable_that_is_wrong_is_named() -> None:
    """And no value is shown."""
    with pytest.raises(ConfigurationError, match="bootstrap_servers") as caught:
        KafkaConnection.from_environment({"KAFKA_BOOTSTRAP_SERVERS": "user:pw@host"})
    assert "pw" not in str(caught.value)
