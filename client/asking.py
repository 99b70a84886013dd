"""From the arguments of a call to a request."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict

from pydantic import BaseModel, ValidationError

from millrace.schemas.errors import InvalidEventError
from millrace.schemas.message import Message, ToolDefinition
from millrace.schemas.record import describe
from millrace.schemas.request import OutputSpec, Parameters, Request, Route
from millrace.schemas.vocabulary import Lane, Strategy, TaskType


class Asking(TypedDict, total=False):
    """What a request may say besides its prompt; `Request` explains each field.

    `model` and `provider` bind the route, `output_schema` (a JSON Schema, or a pydantic model)
    asks for JSON that fits it, `timeout_seconds` sets the deadline from now, and `since` is for
    an id that may have been sent before: what came for it from then on counts.
    """

    request_id: str
    task: TaskType
    team: str
    budget_key: str
    conversation_id: str
    lane: Lane
    messages: Sequence[Message | Mapping[str, Any]]
    template: str
    variables: Mapping[str, Any]
    tools: Sequence[ToolDefinition | Mapping[str, Any]]
    route: Route | Mapping[str, Any]
    strategy: Strategy
    model: str
    provider: str
    parameters: Parameters | Mapping[str, Any]
    temperature: float
    max_output_tokens: int
    output: OutputSpec | Mapping[str, Any]
    output_schema: Mapping[str, Any] | type[BaseModel]
    deadline: datetime
    reply_to: str
    tags: Mapping[str, str]
    timeout_seconds: float
    since: datetime


_OF_THE_CALL = frozenset({"timeout_seconds", "since"})
_SHORT = frozenset(
    {"strategy", "model", "provider", "temperature", "max_output_tokens", "output_schema"}
)


def request_for(
    prompt: str | None, options: Asking, *, route: Mapping[str, Any] | None = None
) -> Request:
    """The request that a prompt and options make.

    Raises:
        InvalidEventError: They make no valid request; the message names every field that is wrong.
    """
    fields: dict[str, Any] = {
        name: value for name, value in options.items() if name not in _OF_THE_CALL | _SHORT
    }
    if prompt is not None:
        fields["prompt"] = prompt
    return _checked({**fields, **_nested(options, route or {})})


def embedding_request(inputs: Sequence[str], dimensions: int | None, options: Asking) -> Request:
    """The request for the vectors of some texts.

    Raises:
        InvalidEventError: As `request_for`.
    """
    if isinstance(inputs, str):
        # A string is a sequence of strings, too: each letter would be paid for.
        raise InvalidEventError("inputs must be a list of texts; for one text, give a list of one")
    fields = {name: value for name, value in options.items() if name not in _OF_THE_CALL | _SHORT}
    fields["inputs"] = tuple(inputs)
    if dimensions is not None:
        fields["dimensions"] = dimensions
    return _checked({**fields, **_nested(options, {})})


def _checked(fields: Mapping[str, Any]) -> Request:
    try:
        return Request.model_validate(fields)
    except ValidationError as error:
        raise InvalidEventError(f"not a valid request: {describe(error)}") from error


def _nested(options: Asking, route: Mapping[str, Any]) -> dict[str, Any]:
    """Route, parameters and output, with the short forms set into them."""
    where = _tree(options.get("route")) | {k: v for k, v in route.items() if v is not None}
    if "strategy" in options:
        where["strategy"] = options["strategy"]
    if "model" in options:
        where["models"] = (options["model"],)
    if "provider" in options:
        where["providers"] = (options["provider"],)
    how = _tree(options.get("parameters"))
    for name in ("temperature", "max_output_tokens"):
        if name in options:
            how[name] = options[name]
    what = _tree(options.get("output"))
    schema = options.get("output_schema")
    if schema is not None:
        tree = schema.model_json_schema() if isinstance(schema, type) else schema
        what |= {"format": "json", "schema": tree}
    nested = {"route": where, "parameters": how, "output": what}
    return {name: tree for name, tree in nested.items() if tree}


def _tree(given: BaseModel | Mapping[str, Any] | None) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, BaseModel):
        return given.model_dump(exclude_unset=True)
    return dict(given)
