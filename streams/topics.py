"""The topics: their names, what they hold, and how each is to be made."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from millrace.schemas.budget import BudgetAlert, BudgetClaim, BudgetRelease, BudgetSettlement
from millrace.schemas.call import Call
from millrace.schemas.cancellation import Cancellation
from millrace.schemas.chunk import Chunk
from millrace.schemas.dead_letter import DeadLetter
from millrace.schemas.errors import ConfigurationError
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.outcome import AttemptOutcome, JoinOpened, JoinTimeout, Refusal
from millrace.schemas.provider_health import ProviderHealth
from millrace.schemas.record import Record
from millrace.schemas.request import Request
from millrace.schemas.response import Response
from millrace.schemas.retry import Retry
from millrace.streams.kafka_settings import (
    DEAD_LETTER_FACTOR,
    KafkaSettings,
    TopicKind,
    TopicSettings,
)

CleanupPolicy = Literal["delete", "compact", "compact,delete"]

_HOUR_MS = 3_600_000
_DAY_HOURS = 24.0
_HEALTH_SEGMENT_MS = 300_000
_WRAPPING_FACTOR = 2
"""Topics that wrap a request hold it rendered, with its plan and history, or an answer to it."""


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The full names under a prefix."""

    prefix: str = "llm."

    @property
    def requests(self) -> str:
        """What services ask."""
        return f"{self.prefix}requests"

    def calls(self, provider: str) -> str:
        """Planned calls for one provider entry."""
        return f"{self.prefix}calls.{provider}"

    @property
    def chunks(self) -> str:
        """Tokens as they come."""
        return f"{self.prefix}chunks"

    @property
    def outcomes(self) -> str:
        """What became of each attempt."""
        return f"{self.prefix}outcomes"

    @property
    def responses(self) -> str:
        """Terminal records."""
        return f"{self.prefix}responses"

    @property
    def usage(self) -> str:
        """Ledger events."""
        return f"{self.prefix}usage"

    @property
    def cancellations(self) -> str:
        """Work to be stopped."""
        return f"{self.prefix}cancellations"

    @property
    def provider_health(self) -> str:
        """Circuit state, latency and queue depth of each provider."""
        return f"{self.prefix}provider-health"

    @property
    def retries(self) -> str:
        """What waits until a time."""
        return f"{self.prefix}retries"

    @property
    def dead_letters(self) -> str:
        """What could not be processed, whole."""
        return f"{self.prefix}dead-letters"

    @property
    def evaluations(self) -> str:
        """Results of replays."""
        return f"{self.prefix}evaluations"

    @property
    def conversations(self) -> str:
        """Memory."""
        return f"{self.prefix}conversations"

    @property
    def workflows(self) -> str:
        """Runs."""
        return f"{self.prefix}workflows"

    @property
    def workflow_events(self) -> str:
        """Steps of runs."""
        return f"{self.prefix}workflow-events"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it is to be."""

    name: str
    key: str
    """What its records are keyed by."""
    holds: str
    schemas: tuple[str, ...]
    """The values of the header `schema` that its records carry; none for a table's changelog."""
    partitions: int
    replication_factor: int | None
    """None leaves it to the cluster."""
    cleanup: CleanupPolicy
    retention_ms: int | None
    """None for topics that are compacted instead."""
    max_message_bytes: int
    segment_ms: int | None = None
    """How soon what was written may be compacted; the cluster's default when None."""
    partitions_of: str | None = None
    """The topic whose actual partition count this one must have, whatever `partitions` says."""

    @property
    def configs(self) -> dict[str, str]:
        """The topic configs that are set; all others are the cluster's."""
        configs = {
            "cleanup.policy": self.cleanup,
            "max.message.bytes": str(self.max_message_bytes),
        }
        if self.retention_ms is not None:
            configs["retention.ms"] = str(self.retention_ms)
        if self.segment_ms is not None:
            configs["segment.ms"] = str(self.segment_ms)
        return configs


@dataclass(frozen=True, slots=True)
class Changelog:
    """Where a Faust table keeps its state, so that another process can go on from it."""

    app_id: str
    table: str
    source: str
    """The full name of the topic whose records the table is keyed and partitioned like."""

    @property
    def name(self) -> str:
        """The name that Faust gives it."""
        return f"{self.app_id}-{self.table}-changelog"


@dataclass(frozen=True, slots=True)
class _Kind:
    """A row of the table."""

    key: str
    holds: str
    records: tuple[type[Record], ...]
    retention_days: float
    size_factor: int = _WRAPPING_FACTOR
    cleanup: CleanupPolicy = "delete"
    partitions: int | None = None
    """The pipeline's number when None."""
    segment_ms: int | None = None


_KINDS: dict[TopicKind, _Kind] = {
    "requests": _Kind(
        "request_id or conversation_id",
        "what services ask",
        (Request,),
        14,
        size_factor=1,
    ),
    "calls": _Kind(
        "request_id or conversation_id", "planned calls for one provider entry", (Call,), 7
    ),
    "chunks": _Kind("request_id", "tokens as they come", (Chunk,), 1),
    "outcomes": _Kind(
        "request_id",
        "what became of each attempt",
        (AttemptOutcome, Refusal, JoinOpened, JoinTimeout),
        7,
    ),
    "responses": _Kind("request_id", "terminal records", (Response,), 14),
    "usage": _Kind(
        "budget key, or a budget's name",
        "ledger events: reserved, spent; what is asked of budgets",
        (UsageEvent, BudgetClaim, BudgetSettlement, BudgetRelease, BudgetAlert),
        14,
    ),
    "cancellations": _Kind("request_id", "work to be stopped", (Cancellation,), 1),
    "dead-letters": _Kind(
        "source key",
        "what could not be processed, whole",
        (DeadLetter,),
        30,
        size_factor=DEAD_LETTER_FACTOR,
    ),
    "evaluations": _Kind("replay_id", "results of replays", (Response,), 30),
    "retries": _Kind("request_id or conversation_id", "calls that wait until a time", (Retry,), 7),
    # Each router reads all of it when it starts, so what was said before should go soon.
    "provider-health": _Kind(
        "provider, or provider/model",
        "how the providers are doing",
        (ProviderHealth,),
        1,
        size_factor=1,
        cleanup="compact,delete",
        partitions=1,
        segment_ms=_HEALTH_SEGMENT_MS,
    ),
}


def topic_specs(
    settings: KafkaSettings,
    *,
    providers: Iterable[str],
    changelogs: Iterable[Changelog] = (),
) -> tuple[TopicSpec, ...]:
    """Every topic that the pipeline needs with these provider entries and Faust tables.

    Changelogs come after the topics that they follow.

    Raises:
        ConfigurationError: A changelog follows a topic that is none of the pipeline's.
    """
    specs: list[TopicSpec] = []
    for kind, row in _KINDS.items():
        # A topic for the calls of each provider entry; one of everything else.
        names = [f"calls.{provider}" for provider in providers] if kind == "calls" else [kind]
        specs += [_spec(settings, settings.topic_prefix + name, kind, row) for name in names]
    partitions = {spec.name: spec.partitions for spec in specs}
    for changelog in changelogs:
        if changelog.source not in partitions:
            raise ConfigurationError(
                f"table {changelog.table!r} follows topic {changelog.source!r}, which is none of "
                f"the pipeline's: {', '.join(partitions)}"
            )
        specs.append(
            TopicSpec(
                name=changelog.name,
                key="table key",
                holds=f"the state of table {changelog.table}",
                schemas=(),
                partitions=partitions[changelog.source],
                replication_factor=settings.replication_factor,
                cleanup="compact",
                retention_ms=None,
                max_message_bytes=settings.max_record_bytes,
                partitions_of=changelog.source,
            )
        )
    return tuple(specs)


def max_outcome_bytes(settings: KafkaSettings) -> int:
    """The largest record that the topics of outcomes and responses take."""
    return settings.max_request_bytes * _WRAPPING_FACTOR


def largest_call(settings: KafkaSettings) -> int:
    """How many bytes a call with a brief may have, so that its outcome has room for an answer."""
    return settings.max_request_bytes * _WRAPPING_FACTOR * 3 // 4


def _spec(settings: KafkaSettings, name: str, kind: TopicKind, row: _Kind) -> TopicSpec:
    chosen = settings.topics.get(kind, TopicSettings())
    hours = chosen.retention_hours or row.retention_days * _DAY_HOURS
    return TopicSpec(
        name=name,
        key=row.key,
        holds=row.holds,
        schemas=tuple(record.schema_name for record in row.records),
        partitions=chosen.partitions or row.partitions or settings.partitions,
        replication_factor=settings.replication_factor,
        cleanup=row.cleanup,
        retention_ms=round(hours * _HOUR_MS),
        max_message_bytes=settings.max_request_bytes * row.size_factor,
        segment_ms=row.segment_ms,
    )
