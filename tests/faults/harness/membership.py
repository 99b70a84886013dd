"""Who the broker counts as a member of which consumer group."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeGroupsRequest_v2
from aiokafka.protocol.api import Request
from observing import changing_until

_ANSWER_SECONDS = 5.0
_QUIET_SECONDS = 60.0
"""So long no group changes: then what is waited for does not come."""


@dataclass(frozen=True, slots=True)
class Members:
    """The members of a group; `stable` when they have shared its partitions out."""

    count: int
    stable: bool


class _DescribeGroups(Request[DescribeGroupsRequest_v2]):  # type: ignore[misc]
    """In the second version: what is answered to the third one, aiokafka 0.14 cannot read."""

    API_KEY = DescribeGroupsRequest_v2.API_KEY

    def __init__(self, groups: Sequence[str]) -> None:
        self._groups = list(groups)

    def build(self, request_struct_class: type[Any]) -> Any:
        return request_struct_class(self._groups)


class Membership:
    """Asks a broker for the members of groups."""

    def __init__(self, *, admin: AIOKafkaAdminClient) -> None:
        self._admin = admin

    async def until(
        self, groups: Sequence[str], condition: Callable[[Members], bool], what: str
    ) -> None:
        """Wait until the condition holds of each of these groups, as long as any changes.

        Raises:
            AssertionError: It does not, and none changes any more.
        """

        async def ask() -> dict[str, Members]:
            return await self._members(groups)

        def holds(found: dict[str, Members]) -> bool:
            return len(found) == len(groups) and all(map(condition, found.values()))

        await changing_until(ask, holds, what, seconds=_QUIET_SECONDS)

    async def _members(self, groups: Sequence[str]) -> dict[str, Members]:
        """Each group's members; none of those that the broker does not tell now."""
        found = {}
        with suppress(KafkaError, TimeoutError, OSError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                node = await self._admin.find_coordinator(groups[0])
                answer = await self._admin._send_request(_DescribeGroups(groups), node)
            for error, group, state, _, _, members in answer.groups:
                if not error:
                    found[group] = Members(len(members), state == "Stable")
        return found
