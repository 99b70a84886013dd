"""Partitions that a group gives to a consumer and takes from it, as this pipeline names them."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import ConsumerRebalanceListener

from millrace.streams.offsets import Partition

Change = Callable[[set[Partition]], Awaitable[None]]


class Rebalance(ConsumerRebalanceListener):  # type: ignore[misc]
    """Has partitions given up before a rebalance and taken over after it.

    `give_up` gets those that were held, and the group waits until it returns; `take_over` gets all
    that are held from then on.
    """

    def __init__(self, *, give_up: Change, take_over: Change) -> None:
        self._give_up = give_up
        self._take_over = take_over

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """As aiokafka calls it."""
        await self._give_up({Partition(*each) for each in revoked})

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """As aiokafka calls it."""
        await self._take_over({Partition(*each) for each in assigned})
