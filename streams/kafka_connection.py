"""aiokafka's connection, that a reset by the broker's side only breaks and does not blow up.

uvloop closes a transport as soon as it hears of a reset, and a write to it is a `RuntimeError`
from then on. aiokafka 0.14 expects an `OSError`; anything else ends its fetcher or sender for good,
and with it the process, where a new connection is all that is needed.
"""

from functools import wraps
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError

_MARK = "_millrace_reconnects"


def reconnect_after_resets() -> None:
    """Let every connection of this process behave so; harmless to repeat."""
    original = AIOKafkaConnection.send
    if hasattr(original, _MARK):
        return

    @wraps(original)
    def send(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except KafkaError:
            # A RuntimeError, too, but one of aiokafka's own: the connection is well.
            raise
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(
                f"Connection at {self.host}:{self.port} broken: {error}"
            ) from error

    setattr(send, _MARK, True)
    AIOKafkaConnection.send = send
