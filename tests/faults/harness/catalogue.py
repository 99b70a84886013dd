"""Every fault that the harness knows, crash points apart."""

import asyncio
from collections.abc import Awaitable, Callable

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from harness.fault import Fault, kill, together
from harness.load import ANYWHERE, GENTLE, PROMPT
from harness.outside import ROLES
from harness.setting import Setting

_Inject = Callable[[Setting], Awaitable[None]]


def _killed(role: str) -> _Inject:
    async def inject(setting: Setting) -> None:
        await kill(setting, role)
        await setting.cluster.workers[role].start()

    return inject


def _frozen(role: str) -> _Inject:
    """Longer than its session: the group takes its partitions away, and it does not know."""

    async def inject(setting: Setting) -> None:
        setting.cluster.workers[role].freeze()
        await _let_go(setting, role, left=0)
        setting.cluster.workers[role].thaw()

    return inject


async def _let_go(setting: Setting, role: str, *, left: int) -> None:
    """Wait until the role's groups have noticed, and so many members are left."""
    await setting.membership.until(
        setting.watch.groups_of(role),
        lambda members: members.count == left,
        f"the {role} that is frozen to be let go",
    )


def _zombie(role: str) -> _Inject:
    """Frozen while another member takes over and works on what it held; then it wakes up."""

    async def inject(setting: Setting) -> None:
        name = f"{role}-second"
        await setting.cluster.add(role, name=name)
        await setting.freeze(role)
        await _let_go(setting, role, left=1)
        setting.cluster.workers[role].thaw()
        await asyncio.sleep(1.0)
        await setting.cluster.remove(name)

    return inject


def _churn(role: str) -> _Inject:
    """A member joins and leaves."""

    async def inject(setting: Setting) -> None:
        name = f"{role}-guest"
        await setting.cluster.add(role, name=name)
        await setting.cluster.remove(name)

    return inject


def _killed_in_recovery(role: str) -> _Inject:
    """Killed, and again while its successor reads its tables, at a moment drawn by chance."""

    async def inject(setting: Setting) -> None:
        await kill(setting, role)
        worker = setting.cluster.workers[role]
        for _ in range(2):
            # What it says of itself does not matter: it does not live to be ready.
            starting = asyncio.create_task(worker.start())
            await asyncio.sleep(setting.random.uniform(1.0, 3.0))
            await worker.kill()
            await asyncio.wait((starting,))
            starting.exception()
        await worker.start()

    return inject


def _broker_away(seconds: float) -> _Inject:
    async def inject(setting: Setting) -> None:
        setting.cluster.kafka.kill()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(setting.cluster.kafka.start)

    return inject


async def _broker_frozen(setting: Setting) -> None:
    setting.cluster.kafka.freeze()
    await asyncio.sleep(5.0)
    setting.cluster.kafka.thaw()


async def _broker_reset(setting: Setting) -> None:
    for proxy in setting.cluster.to_broker.values():
        proxy.reset()


def _broker_half_open(role: str) -> _Inject:
    async def inject(setting: Setting) -> None:
        setting.cluster.to_broker[role].half_open()

    return inject


async def _broker_slow(setting: Setting) -> None:
    for proxy in setting.cluster.to_broker.values():
        proxy.latency(lambda: setting.random.uniform(0.02, 0.15))
    await asyncio.sleep(3.0)
    for proxy in setting.cluster.to_broker.values():
        await proxy.heal()


async def _slow_consumer(setting: Setting) -> None:
    setting.cluster.to_broker["sink"].latency(lambda: 0.4)
    await asyncio.sleep(3.0)
    await setting.cluster.to_broker["sink"].heal()


async def _provider_reset(setting: Setting) -> None:
    setting.cluster.to_provider.reset()


async def _provider_half_open(setting: Setting) -> None:
    setting.cluster.to_provider.half_open()


async def _provider_slow(setting: Setting) -> None:
    setting.cluster.to_provider.latency(lambda: setting.random.uniform(0.05, 0.3))
    await asyncio.sleep(2.0)
    await setting.cluster.to_provider.heal()


async def _provider_away(setting: Setting) -> None:
    await setting.cluster.to_provider.outage()
    await asyncio.sleep(1.0)
    await setting.cluster.to_provider.heal()


async def _store_away(setting: Setting) -> None:
    await setting.cluster.to_store.outage()
    await asyncio.sleep(3.0)
    await setting.cluster.to_store.heal()


async def _store_frozen(setting: Setting) -> None:
    """Longer than an insert may take."""
    setting.cluster.store.freeze()
    await asyncio.sleep(4.0)
    setting.cluster.store.thaw()


async def _store_slow(setting: Setting) -> None:
    setting.cluster.to_store.latency(lambda: 0.5)
    await asyncio.sleep(3.0)
    await setting.cluster.to_store.heal()


async def _store_answer_lost(setting: Setting) -> None:
    await setting.cluster.store.lose_answers(3)
    await asyncio.sleep(2.0)


async def _store_disk_full(setting: Setting) -> None:
    await setting.cluster.store.fill_disk()
    await asyncio.sleep(3.0)
    await setting.cluster.store.free_disk()


def _upstream(times: int, **behaviour: object) -> _Inject:
    """The next calls meet with this, whatever they ask."""

    async def inject(setting: Setting) -> None:
        await setting.cluster.upstream.misbehave(times, **behaviour)
        await asyncio.sleep(2.0)
        await setting.cluster.upstream.behave()

    return inject


async def _more_partitions(setting: Setting) -> None:
    """Topics whose records need no state grow under load."""
    names = [setting.cluster.topic(each) for each in ("calls.openai", "chunks", "responses")]
    admin = AIOKafkaAdminClient(bootstrap_servers=setting.cluster.bootstrap_servers)
    await admin.start()
    try:
        found = await admin.describe_topics(names)
        grown = {each["topic"]: len(each["partitions"]) + 1 for each in found}
        await admin.create_partitions(
            {name: NewPartitions(total_count=count) for name, count in grown.items()}
        )
    finally:
        await admin.close()


async def _clock_jumps(setting: Setting) -> None:
    for seconds in (120, -120, 0):
        setting.cluster.clock.jump(seconds)
        await asyncio.sleep(1.5)


async def _nothing(setting: Setting) -> None:
    """The load itself is the fault."""


async def _rolling_restart(setting: Setting) -> None:
    for role in ROLES:
        await setting.cluster.workers[role].terminate()
        await setting.cluster.workers[role].start()


OVERLOAD = Fault(
    "ten times the load", _nothing, kinds=GENTLE, requests=1500, per_second=0, graceful=True
)
ROLLING_RESTART = Fault(
    "rolling restart", _rolling_restart, kinds=GENTLE, requests=300, graceful=True
)

KILLED = tuple(Fault(f"kill {role}", _killed(role)) for role in ROLES)
KILLED_IN_RECOVERY = tuple(
    Fault(f"kill {role} in recovery", _killed_in_recovery(role)) for role in ROLES[:2]
)
FROZEN = tuple(Fault(f"freeze {role}", _frozen(role), excused=True) for role in ROLES)
ZOMBIES = tuple(Fault(f"zombie {role}", _zombie(role), requests=150) for role in ROLES)
CHURN = tuple(
    Fault(f"members of {role} come and go", _churn(role), requests=150, graceful=True)
    for role in ROLES
)
HALF_OPEN = tuple(
    Fault(f"{role}'s broker connections half-open", _broker_half_open(role)) for role in ROLES
)
BROKER = (
    Fault("broker bounces", _broker_away(0.0), excused=True),
    Fault("broker away for 5 s", _broker_away(5.0), excused=True),
    Fault("broker frozen", _broker_frozen, excused=True),
    Fault("connections to the broker reset", _broker_reset),
    Fault("broker slow", _broker_slow),
    Fault("slow consumer", _slow_consumer),
)
BROKER_AWAY_LONG = Fault("broker away for 60 s", _broker_away(60.0), excused=True)
PROVIDER = (
    Fault("connections to the provider reset", _provider_reset, kinds=ANYWHERE),
    Fault("provider connections half-open", _provider_half_open, kinds=ANYWHERE),
    Fault("provider slow", _provider_slow, kinds=ANYWHERE),
    Fault("provider away", _provider_away, kinds=ANYWHERE),
)
STORE = (
    Fault("store away", _store_away, excused=True),
    Fault("store frozen", _store_frozen, excused=True),
    Fault("store slow", _store_slow),
    Fault("store loses answers", _store_answer_lost),
    Fault("store's disk full", _store_disk_full, excused=True),
)
UPSTREAM = (
    Fault("upstream hangs", _upstream(5, hang=True), kinds=ANYWHERE),
    Fault("upstream falls silent", _upstream(5, hang_mid=3), kinds=ANYWHERE),
    Fault("upstream trickles", _upstream(3, slow=True, tokens=5), kinds=ANYWHERE),
    Fault("upstream cuts", _upstream(10, cut=3), kinds=ANYWHERE),
    Fault("upstream babbles", _upstream(5, malformed=2), kinds=ANYWHERE),
)
STORM = Fault("429 storm", _upstream(60, http=429, retry_after=0.5), kinds=ANYWHERE)
PARTITIONS = Fault("more partitions", _more_partitions)
CLOCK = Fault("clock jumps", _clock_jumps, kinds=PROMPT)

CATALOGUE = (
    *KILLED,
    *KILLED_IN_RECOVERY,
    *FROZEN,
    *ZOMBIES,
    *CHURN,
    *HALF_OPEN,
    *BROKER,
    BROKER_AWAY_LONG,
    *PROVIDER,
    *STORE,
    *UPSTREAM,
    STORM,
    PARTITIONS,
    CLOCK,
    ROLLING_RESTART,
    OVERLOAD,
)
"""What the long run draws from."""

_BOUNCES, _AWAY, _BROKER_FROZEN, _BROKER_RESET, _BROKER_SLOW, _SLOW_CONSUMER = BROKER


def _named(*faults: Fault) -> Fault:
    """Those at the same time, by all of their names."""
    return together("; ".join(fault.name for fault in faults), faults)


SHORT = (
    together("every role killed", KILLED),
    together("every role frozen", FROZEN),
    together("every role a zombie", ZOMBIES),
    together("members of every role come and go", CHURN),
    together("every role's broker connections half-open", HALF_OPEN),
    _BOUNCES,
    _AWAY,
    _BROKER_FROZEN,
    _named(PROVIDER[0], STORE[0], PARTITIONS),
    _named(PROVIDER[1], STORE[1]),
    _named(PROVIDER[2], STORE[3]),
    _named(PROVIDER[3], STORE[4]),
    _named(CLOCK, _BROKER_RESET, _BROKER_SLOW),
    together(
        "upstream in every bad way; router and validator killed in recovery; slow consumer",
        (*UPSTREAM, *KILLED_IN_RECOVERY, _SLOW_CONSUMER),
    ),
    _named(STORM, STORE[2]),
    ROLLING_RESTART,
    OVERLOAD,
)
"""Every fault once; at the same time those of different roles, and of different neighbours."""
