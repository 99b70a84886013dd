"""Stop this work: the public record on `llm.cancellations`."""

from typing import ClassVar

from pydantic import Field

from millrace.schemas.record import Instant, Record
from millrace.schemas.request import RequestId


class Cancellation(Record):
    """Ends a request: calls in flight are broken off, later ones are not made."""

    schema_name: ClassVar[str] = "cancellation"

    request_id: RequestId
    members: tuple[int, ...] | None = None
    """Only these members; all of them when unset."""
    reason: str = Field(default="", max_length=500)
    cancelled_at: Instant | None = None
