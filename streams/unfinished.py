"""How many calls may be on their way to the broker while others are being made."""

_AT_LEAST = 2
"""Calls begun and not yet acknowledged in full, as a multiple of those that may be in flight,
whatever their size."""
_AT_MOST = 4
"""The same while they are small."""
_SMALL_BYTES = 16 * 2**20


class Unfinished:
    """Counts calls from their start until the broker holds all that they gave rise to.

    A provider's answer frees a place in flight, but its records have yet to be acknowledged, and a
    partition has one batch under way: where the broker takes long, many calls wait for it. They
    are let wait as long as they take little memory, so that a slow acknowledgement is no lull in
    the provider's work.
    """

    __slots__ = ("_bytes", "_calls")

    def __init__(self) -> None:
        self._calls = 0
        self._bytes = 0

    def begin(self, size: int) -> None:
        """Note a call that takes so many bytes."""
        self._calls += 1
        self._bytes += size

    def end(self, size: int) -> None:
        """Note that it is done with, or broken off."""
        self._calls -= 1
        self._bytes -= size

    def leaves_room(self, in_flight: int) -> bool:
        """Whether one more may begin where so many may be in flight."""
        if self._calls < _AT_LEAST * in_flight:
            return True
        return self._calls < _AT_MOST * in_flight and self._bytes < _SMALL_BYTES
