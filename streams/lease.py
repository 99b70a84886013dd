"""How long a member of a consumer group may go on believing that its partitions are its own.

A process that was frozen, or whose connection is dead without a word, learns that its partitions
have gone to another one only when the group answers it again. Until then it must begin nothing:
the other one begins the same.
"""

from collections.abc import Callable

from aiokafka import AIOKafkaConsumer


class Lease:
    """Held from the last sign that the group counts this member in until its session ends.

    The group lets a member go `seconds` after it has heard of it. Time counts from when the
    heartbeat was sent, so the lease ends no later than the session does at the broker.
    """

    def __init__(self, *, seconds: float, now: Callable[[], float]) -> None:
        self._seconds = seconds
        self._now = now
        self._until = float("-inf")

    @property
    def held(self) -> bool:
        """Whether nobody else can have been given the partitions."""
        return self._now() < self._until

    def renew(self, at: float | None = None) -> None:
        """The group counted the member in when it heard what was sent at that time, or now."""
        at = self._now() if at is None else at
        self._until = max(self._until, at + self._seconds)

    def end(self) -> None:
        """The group does not know the member any more."""
        self._until = float("-inf")

    def follow(self, consumer: AIOKafkaConsumer) -> None:
        """Renew with each heartbeat of a consumer that has been started.

        aiokafka 0.14 has no other place to learn of them: `GroupCoordinator._do_heartbeat` sends
        one and returns whether the group still knows the member.
        """
        coordinator = consumer._coordinator  # noqa: SLF001
        beat = coordinator._do_heartbeat  # noqa: SLF001
        reset = coordinator.reset_generation

        async def beat_and_renew() -> bool:
            sent_at = self._now()
            known: bool = await beat()
            if known:
                self.renew(sent_at)
            return known

        def reset_and_end() -> None:
            self.end()
            reset()

        coordinator._do_heartbeat = beat_and_renew  # noqa: SLF001
        coordinator.reset_generation = reset_and_end
