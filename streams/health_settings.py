"""How the providers' health is found out, told and believed: `[health]`."""

from pydantic import Field

from millrace.schemas.record import Frozen


class HealthSettings(Frozen):
    """How health is found out, told and believed."""

    interval_seconds: float = Field(default=5.0, gt=0)
    """How often everything is said again; changes of state are said at once."""
    stale_seconds: float = Field(default=20.0, gt=0)
    """What was not said again for so long counts no more: its reporter is gone."""
    check_seconds: float = Field(default=15.0, ge=0)
    """How often each entry is reached without a call, for entries that set nothing else; 0 never
    does."""
    recheck_seconds: float = Field(default=3.0, gt=0)
    """How often an entry is tried that could not be reached."""
    check_timeout_seconds: float = Field(default=10.0, gt=0)
    """An entry that has not answered by then cannot be reached."""
