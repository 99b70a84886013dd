"""The body of a reply that is read beside the conversations: a list, a batch, a progress."""

from collections.abc import AsyncIterator, Mapping

from millrace.providers.stall import StallWatch
from millrace.providers.wires.lines import too_long


class PlainReply:
    """A reply whose status was a success; each wait for a piece of it is bounded."""

    def __init__(
        self,
        headers: Mapping[str, str],
        pieces: AsyncIterator[bytes],
        *,
        watch: StallWatch,
        idle_seconds: float,
    ) -> None:
        self.headers = headers
        self._pieces = pieces
        self._watch = watch
        self._idle_seconds = idle_seconds

    async def next_piece(self) -> bytes:
        """The next piece of the body; empty at its end.

        Raises:
            TimeoutError: Nothing came in time.
        """
        return await self._watch.wait(anext(self._pieces, b""), seconds=self._idle_seconds)

    async def read(self, *, max_bytes: int) -> bytes:
        """The whole body.

        Raises:
            TimeoutError: It paused for too long.
            ReplyInvalidError: It is longer than allowed.
        """
        body: list[bytes] = []
        size = 0
        while piece := await self.next_piece():
            size += len(piece)
            if size > max_bytes:
                raise too_long(max_bytes)
            body.append(piece)
        return b"".join(body)
