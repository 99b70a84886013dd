"""How many calls ended lately, and how many of them failed."""

_SLOTS = 10


class ErrorWindow:
    """Counts calls and failures of the last while, in a ring of slots.

    It looks back over the window less up to one slot, a tenth of it.
    """

    def __init__(self, *, seconds: float) -> None:
        self._slot_seconds = seconds / _SLOTS
        self._slots: list[list[int]] = [[0, 0] for _ in range(_SLOTS)]
        self._head: int | None = None
        self._calls = 0
        self._failures = 0

    def add(self, now: float, *, failed: bool) -> None:
        """Count the end of a call."""
        slot = self._slots[self._advance(now) % _SLOTS]
        slot[0] += 1
        slot[1] += failed
        self._calls += 1
        self._failures += failed

    def counts(self, now: float) -> tuple[int, int]:
        """Calls, and how many of them failed."""
        self._advance(now)
        return self._calls, self._failures

    def rate(self, now: float) -> float:
        """The share of failures; 0 without calls."""
        calls, failures = self.counts(now)
        return failures / calls if calls else 0.0

    def clear(self) -> None:
        """Forget everything."""
        for slot in self._slots:
            slot[:] = 0, 0
        self._calls = self._failures = 0

    def _advance(self, now: float) -> int:
        """Drop the slots that have become too old; the number of the current one."""
        current = int(now // self._slot_seconds)
        head = current if self._head is None else self._head
        for number in range(max(head, current - _SLOTS) + 1, current + 1):
            slot = self._slots[number % _SLOTS]
            self._calls -= slot[0]
            self._failures -= slot[1]
            slot[:] = 0, 0
        self._head = max(head, current)
        return self._head
