"""A call that waits for its time: `llm.retries`."""

from typing import ClassVar

from millrace.schemas.call import Call
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.record import Instant, Record


class Retry(Record):
    """Make this call once its time has come.

    Written under the key of the call, which the call keeps when it goes on. The failed try stands
    in the call's history, so the tries are counted in the message.
    """

    schema_name: ClassVar[str] = "retry"
    leaves_out_none: ClassVar[bool] = True

    call: Call
    """As it is to be made: its attempt is the one that follows the failed one."""
    not_before: Instant
    reason: ErrorInfo
    """Why it waits."""
