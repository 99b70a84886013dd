"""Records that are written without what is as it is by default: by clients, joins and the sink."""

from typing import Any, get_args

import orjson
import pytest
from pipeline_examples import EXAMPLES
from pydantic import BaseModel

from millrace.schemas.call import Call
from millrace.schemas.record import Record
from millrace.schemas.request import PLAIN_TEXT, PROVIDERS_OWN, OutputSpec, Parameters


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_left_out_is_found_again(name: str) -> None:
    """Above all what tells the kinds of a union apart."""
    record = EXAMPLES[name]
    assert type(record).decode(record.model_dump_json(exclude_defaults=True).encode()) == record


def models_in(annotation: Any) -> set[type[BaseModel]]:
    """The models that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {found for part in get_args(annotation) for found in models_in(part)}


def all_models_of(record: type[BaseModel]) -> set[type[BaseModel]]:
    """A record's own model, and all those within it."""
    found: set[type[BaseModel]] = set()
    waiting = {record}
    while waiting:
        model = waiting.pop()
        found.add(model)
        fields = model.model_fields.values()
        waiting |= {each for field in fields for each in models_in(field.annotation)} - found
    return found


SHORTENED = sorted(
    {type(record) for record in EXAMPLES.values() if record.leaves_out_none},
    key=lambda record: record.schema_name,
)


@pytest.mark.parametrize("record", SHORTENED, ids=lambda record: record.schema_name)
def test_what_is_none_and_therefore_not_written_is_none_by_default(record: type[Record]) -> None:
    """In every part of it; else None would be read as something else."""
    others = [
        f"{model.__name__}.{name}"
        for model in all_models_of(record)
        for name, field in model.model_fields.items()
        if type(None) in get_args(field.annotation)
        and (field.is_required() or field.get_default(call_default_factory=True) is not None)
    ]

    assert others == []


def test_what_a_schema_or_an_answer_holds_is_written_even_where_it_is_none() -> None:
    """Those are the requester's own values, and no fields of ours."""
    call = EXAMPLES["call"]
    assert isinstance(call, Call)
    schema = {"type": ["object", "null"], "default": None, "enum": [None, {}]}
    output = OutputSpec.model_validate({"format": "json", "schema": schema})
    asked = call.model_copy(update={"job": call.job.model_copy(update={"output": output})})

    assert schema == Call.decode(asked.encode()).job.output.json_schema


def test_a_job_says_nothing_of_what_its_request_left_open() -> None:
    """Where it did say something it is written, be it what holds anyway."""
    call = EXAMPLES["call"]
    assert isinstance(call, Call)
    open_job = {"parameters": PROVIDERS_OWN, "output": PLAIN_TEXT}
    said_job = {"parameters": Parameters(), "output": OutputSpec()}

    def written(fields: dict[str, Any]) -> Any:
        job = call.job.model_copy(update=fields)
        return orjson.loads(call.model_copy(update={"job": job}).encode())["job"]

    assert not {"parameters", "output"} & written(open_job).keys()
    assert {"parameters", "output"} <= written(said_job).keys()
    read = Call.decode(orjson.dumps({**orjson.loads(call.encode()), "job": written(open_job)}))
    assert (read.job.parameters, read.job.output) == (PROVIDERS_OWN, PLAIN_TEXT)
