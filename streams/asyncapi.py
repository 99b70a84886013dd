"""The AsyncAPI 3.0 document of the public topics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from millrace.schemas.budget import BudgetAlert, BudgetClaim, BudgetRelease, BudgetSettlement
from millrace.schemas.call import Call
from millrace.schemas.cancellation import Cancellation
from millrace.schemas.chunk import Chunk
from millrace.schemas.dead_letter import DeadLetter
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.outcome import AttemptOutcome, JoinOpened, JoinTimeout, Refusal
from millrace.schemas.provider_health import ProviderHealth
from millrace.schemas.record import SCHEMA_HEADER, TRACE_HEADER, VERSION_HEADER, Record
from millrace.schemas.request import Request
from millrace.schemas.response import Response
from millrace.schemas.retry import Retry
from millrace.streams.json_schemas import PUBLIC_RECORDS, shared_definitions
from millrace.streams.topics import TopicNames

ASYNCAPI_VERSION = "3.0.0"
KAFKA_BINDING_VERSION = "0.5.0"
_SCHEMAS = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A topic as the document shows it; `action` is what Millrace does with it."""

    id: str
    address: str | None
    action: Literal["send", "receive"]
    summary: str
    key: str
    records: tuple[type[Record], ...]
    parameters: tuple[tuple[str, str], ...] = ()


def channels(names: TopicNames) -> Sequence[Channel]:
    """Every public topic, by what Millrace does there."""
    provider = ("provider", "The name of a provider entry of the config file.")
    return (
        Channel(
            id="requests",
            address=names.requests,
            action="receive",
            summary="What a service asks of a language model.",
            key="The request_id, or the conversation_id where order matters.",
            records=(Request,),
        ),
        Channel(
            id="cancellations",
            address=names.cancellations,
            action="receive",
            summary="Work to stop.",
            key="The request_id.",
            records=(Cancellation,),
        ),
        Channel(
            id="chunks",
            address=names.chunks,
            action="send",
            summary="Tokens as they come, for requests with `stream`.",
            key="The request_id.",
            records=(Chunk,),
        ),
        Channel(
            id="responses",
            address=names.responses,
            action="send",
            summary="How each request ended: exactly one terminal record each.",
            key="The request_id.",
            records=(Response,),
        ),
        Channel(
            id="replies",
            address=None,
            action="send",
            summary="The terminal record once more, on the topic that `reply_to` named.",
            key="The request_id.",
            records=(Response,),
        ),
        Channel(
            id="evaluations",
            address=names.evaluations,
            action="send",
            summary="Terminal records of replayed requests.",
            key="The replay_id.",
            records=(Response,),
        ),
        Channel(
            id="deadLetters",
            address=names.dead_letters,
            action="send",
            summary="What could not be processed, with its original bytes and the reason.",
            key="The key of the original record.",
            records=(DeadLetter,),
        ),
        Channel(
            id="usage",
            address=names.usage,
            action="send",
            summary="The ledger: what each attempt reserved and spent.",
            key="The budget key; for what is asked of a budget, its name.",
            records=(UsageEvent, BudgetClaim, BudgetSettlement, BudgetRelease, BudgetAlert),
        ),
        Channel(
            id="calls",
            address=names.calls("{provider}"),
            action="send",
            summary="One planned call for one provider entry.",
            key="The key of the request.",
            records=(Call,),
            parameters=(provider,),
        ),
        Channel(
            id="outcomes",
            address=names.outcomes,
            action="send",
            summary="What became of each attempt, and what else ends requests.",
            key="The request_id.",
            records=(AttemptOutcome, Refusal, JoinOpened, JoinTimeout),
        ),
        Channel(
            id="retries",
            address=names.retries,
            action="send",
            summary="Calls that wait for their time before the same model is asked again.",
            key="The key of the request.",
            records=(Retry,),
        ),
        Channel(
            id="providerHealth",
            address=names.provider_health,
            action="send",
            summary="How each provider entry and model is doing, by each process that calls it.",
            key="The provider's name, or provider/model.",
            records=(ProviderHealth,),
        ),
    )


def asyncapi_document(
    *, names: TopicNames, version: str, bootstrap_servers: Sequence[str] = ()
) -> dict[str, Any]:
    """Describe topics, records, headers and keys; every reference points within the document.

    `version` is that of Millrace; `bootstrap_servers` become the document's servers.
    """
    definitions, record_names = shared_definitions(_SCHEMAS)
    table = channels(names)
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {
            "title": "Millrace",
            "version": version,
            "description": "LLM work as a durable, replayable, accountable event stream on Kafka.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            f"broker{number}": {"host": server, "protocol": "kafka"}
            for number, server in enumerate(bootstrap_servers, 1)
        },
        "channels": {channel.id: _channel(channel) for channel in table},
        "operations": {
            f"{channel.action}{channel.id[0].upper()}{channel.id[1:]}": _operation(channel)
            for channel in table
        },
        "components": {
            "messages": {
                _message_id(record): _message(record, record_names[record])
                for record in PUBLIC_RECORDS
            },
            "schemas": definitions,
        },
    }


def _message_id(record: type[Record]) -> str:
    first, *rest = record.schema_name.split("-")
    return first + "".join(word.capitalize() for word in rest)


def _channel(channel: Channel) -> dict[str, Any]:
    described: dict[str, Any] = {
        "address": channel.address,
        "summary": channel.summary,
        "messages": {
            _message_id(record): {"$ref": f"#/components/messages/{_message_id(record)}"}
            for record in channel.records
        },
    }
    if channel.parameters:
        described["parameters"] = {
            name: {"description": description} for name, description in channel.parameters
        }
    else:
        described["bindings"] = {"kafka": {"bindingVersion": KAFKA_BINDING_VERSION}}
        if channel.address is not None:
            described["bindings"]["kafka"]["topic"] = channel.address
    described["description"] = f"{channel.summary} Key of a record: {channel.key}"
    return described


def _operation(channel: Channel) -> dict[str, Any]:
    described: dict[str, Any] = {
        "action": channel.action,
        "channel": {"$ref": f"#/channels/{channel.id}"},
        "summary": channel.summary,
        "messages": [
            {"$ref": f"#/channels/{channel.id}/messages/{_message_id(record)}"}
            for record in channel.records
        ],
    }
    if channel.id == "requests":
        described["reply"] = {
            "address": {
                "location": "$message.payload#/reply_to",
                "description": "A topic of the requester's own, where the request names one.",
            },
            "channel": {"$ref": "#/channels/replies"},
            "messages": [{"$ref": "#/channels/replies/messages/response"}],
        }
    return described


def _message(record: type[Record], schema: str) -> dict[str, Any]:
    by_client = record in (Request, Cancellation)
    names = {
        SCHEMA_HEADER: {"type": "string", "const": record.schema_name},
        VERSION_HEADER: {"type": "string", "const": str(record.schema_version)},
        TRACE_HEADER: {"type": "string", "description": "W3C trace context."},
    }
    return {
        "name": record.schema_name,
        "title": (record.__doc__ or record.schema_name).strip().splitlines()[0],
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": names,
            **({} if by_client else {"required": [SCHEMA_HEADER, VERSION_HEADER]}),
        },
        "payload": {"$ref": _SCHEMAS.format(model=schema)},
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": KAFKA_BINDING_VERSION}},
    }
