"""Compare a cluster's topics with what they are to be, and make those that are missing."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from millrace.schemas.errors import BrokerError, ConfigurationError
from millrace.streams.topics import TopicSpec

_SETTLE_SECONDS = 15.0
_POLL_SECONDS = 0.1


class TopicAdmin(Protocol):
    """What can be asked and changed about a cluster's topics.

    Every method raises `BrokerError` where the cluster does not answer or refuses.
    """

    async def partition_counts(self) -> Mapping[str, int]:
        """Every topic there is, and how many partitions it has."""
        ...

    async def configs(self, topics: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """The configs of these topics; a topic is left out where the cluster has none."""
        ...

    async def create(self, specs: Sequence[TopicSpec]) -> Sequence[str]:
        """Make topics; return the names of those that were not there before."""
        ...

    async def set_configs(self, topic: str, configs: Mapping[str, str]) -> None:
        """Change these configs of a topic and leave its others."""
        ...


@dataclass(frozen=True, slots=True)
class Difference:
    """Something about a topic that is not as it is to be."""

    topic: str
    kind: Literal["missing", "partitions", "config"]
    what: str
    """`topic`, `partitions`, or the name of a config."""
    wanted: str
    found: str | None

    def __str__(self) -> str:
        match self.kind:
            case "missing":
                return f"{self.topic}: is missing; `millrace topics --create` makes it"
            case "partitions":
                return (
                    f"{self.topic}: has {self.found} partitions, needs {self.wanted}; adding some "
                    "moves keys to other partitions, so do it while the pipeline stands still: "
                    f"kafka-topics.sh --alter --topic {self.topic} --partitions {self.wanted}"
                )
            case "config":
                return (
                    f"{self.topic}: {self.what} is {self.found}, expected {self.wanted}; "
                    "`millrace topics --fix` sets it"
                )


async def describe_differences(
    admin: TopicAdmin, specs: Sequence[TopicSpec]
) -> tuple[Difference, ...]:
    """Every way in which the cluster's topics are not as specified; changes nothing.

    More partitions than specified are fine, except where a topic must have as many as another.
    """
    counts = await admin.partition_counts()
    present = [spec for spec in specs if spec.name in counts]
    configs = await admin.configs([spec.name for spec in present]) if present else {}
    differences: list[Difference] = []
    for spec in specs:
        if spec.name not in counts:
            wanted = str(_partitions(spec, counts))
            differences.append(Difference(spec.name, "missing", "topic", wanted, None))
            continue
        differences += _partition_differences(spec, counts)
        found = configs.get(spec.name)
        if found is not None:
            differences += [
                Difference(spec.name, "config", key, wanted, found.get(key))
                for key, wanted in spec.configs.items()
                if found.get(key) != wanted
            ]
    return tuple(differences)


async def create_missing(admin: TopicAdmin, specs: Sequence[TopicSpec]) -> tuple[str, ...]:
    """Make the topics that are missing and return their names, once clients can see them.

    Leaves those that are there as they are. Two processes may do it at once: what the other one
    makes first is left out of the result.

    Raises:
        BrokerError: A topic cannot be made, or the cluster does not show it in time.
    """
    counts = dict(await admin.partition_counts())
    wanted: list[TopicSpec] = []
    for spec in specs:
        if spec.name not in counts:
            exact = replace(spec, partitions=_partitions(spec, counts))
            counts[spec.name] = exact.partitions
            wanted.append(exact)
    if not wanted:
        return ()
    created = await admin.create(wanted)
    await _visible(admin, {spec.name for spec in wanted})
    return tuple(created)


async def require_equal_partitions(admin: TopicAdmin, specs: Sequence[TopicSpec]) -> None:
    """Return if every topic has as many partitions as the one whose keys it is to hold.

    Raises:
        ConfigurationError: Some have not, so that states would not be found where their keys are;
            names each, with what to do.
    """
    counts = await admin.partition_counts()
    wrong = [
        str(each)
        for spec in specs
        if spec.partitions_of is not None and spec.name in counts
        for each in _partition_differences(spec, counts)
    ]
    if wrong:
        raise ConfigurationError("; ".join(wrong))


async def fix_configs(
    admin: TopicAdmin, differences: Iterable[Difference]
) -> tuple[Difference, ...]:
    """Set the configs that differ, and return what has been set."""
    fixed = tuple(item for item in differences if item.kind == "config")
    for topic in dict.fromkeys(item.topic for item in fixed):
        await admin.set_configs(
            topic, {item.what: item.wanted for item in fixed if item.topic == topic}
        )
    return fixed


def _partitions(spec: TopicSpec, counts: Mapping[str, int]) -> int:
    if spec.partitions_of is None:
        return spec.partitions
    return counts.get(spec.partitions_of, spec.partitions)


def _partition_differences(spec: TopicSpec, counts: Mapping[str, int]) -> list[Difference]:
    wanted, found = _partitions(spec, counts), counts[spec.name]
    enough = found == wanted if spec.partitions_of else found >= wanted
    if enough:
        return []
    return [Difference(spec.name, "partitions", "partitions", str(wanted), str(found))]


async def _visible(admin: TopicAdmin, names: set[str]) -> None:
    """Return once the cluster shows them: brokers learn of new topics one after the other."""
    try:
        async with asyncio.timeout(_SETTLE_SECONDS):
            while not names <= (await admin.partition_counts()).keys():  # noqa: ASYNC110 (remote)
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        raise BrokerError(
            f"the cluster does not show all of {sorted(names)} {_SETTLE_SECONDS} s after it "
            "made them; look at the broker's log"
        ) from error
