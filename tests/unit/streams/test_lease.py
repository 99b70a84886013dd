"""How long a member may believe that its partitions are its own."""

import inspect

from aiokafka.consumer.group_coordinator import GroupCoordinator
from pipeline_doubles import Coordinator

from millrace.streams.lease import Lease


class Consumer:
    """A started consumer."""

    def __init__(self) -> None:
        self._coordinator = Coordinator()


def followed() -> tuple[Lease, Coordinator]:
    """A lease of ten seconds, and whom it listens to."""
    consumer = Consumer()
    coordinator = consumer._coordinator
    lease = Lease(seconds=10.0, now=lambda: coordinator.time)
    lease.follow(consumer)
    return lease, coordinator


def test_nothing_is_held_before_the_group_has_said_so() -> None:
    """A process that has just started owns nothing."""
    assert not followed()[0].held


async def test_it_ends_with_the_session_and_comes_back_with_an_answer() -> None:
    """Ten seconds after the last sign, whatever the process did meanwhile."""
    lease, coordinator = followed()
    lease.renew()
    coordinator.time = 9.9
    assert lease.held
    coordinator.time = 10.0
    assert not lease.held

    assert await coordinator._do_heartbeat()

    assert lease.held


async def test_time_counts_from_when_the_heartbeat_was_sent() -> None:
    """The broker may have heard it at once, and answered late."""
    lease, coordinator = followed()
    coordinator.answered_after = 9.0

    await coordinator._do_heartbeat()

    assert lease.held
    coordinator.time = 10.0
    assert not lease.held


async def test_an_unknown_member_holds_nothing() -> None:
    """Neither a heartbeat that is refused nor one before it counts."""
    lease, coordinator = followed()
    lease.renew()
    coordinator.known = False
    coordinator.time = 5.0

    await coordinator._do_heartbeat()
    coordinator.reset_generation()

    assert not lease.held
    assert coordinator.resets == 1


def test_the_client_has_what_a_lease_listens_to() -> None:
    """These are no public names of aiokafka."""
    assert inspect.iscoroutinefunction(GroupCoordinator._do_heartbeat)
    assert "self.reset_generation()" in inspect.getsource(GroupCoordinator._do_heartbeat)
    assert "self._do_heartbeat()" in inspect.getsource(GroupCoordinator._heartbeat_routine)
