"""How the calls that wait for their time are held: section `[retries]` of the config file."""

from pydantic import Field

from millrace.schemas.record import Frozen


class RetrySettings(Frozen):
    """How much of what waits a process holds in memory."""

    max_waiting: int = Field(default=10_000, ge=1)
    """Calls. With more of them the topic is read no further until some have gone on, so a call
    behind them goes on late if its time comes first."""
    max_waiting_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    poll_seconds: float = Field(default=0.2, gt=0)
    """How exactly times are kept, while nothing new comes in."""
    commit_interval_seconds: float = Field(default=0.5, gt=0)
    remembered_calls: int = Field(default=50_000, ge=0)
    """How many calls that went on a process remembers, so that it sends none on twice when its
    partitions come back to it."""
