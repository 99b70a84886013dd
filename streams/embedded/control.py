"""What goes over the control channel of an embedded broker: one JSON document a line.

The child writes `Started` once, then answers each `Declare` with `Declared`, in order.
"""

from pydantic import Field

from millrace.schemas.record import Frozen


class Started(Frozen):
    """The broker listens."""

    bootstrap_servers: str


class Declare(Frozen):
    """Make a topic."""

    topic: str = Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")
    partitions: int = Field(ge=1, le=1000)


class Declared(Frozen):
    """The topic is there, unless `error` says why not."""

    topic: str
    created: bool = False
    error: str | None = None
