"""Topics are made, checked and put right."""

import asyncio
from dataclasses import replace

import pytest
from broker_under_test import BrokerUnderTest

from millrace.schemas.errors import BrokerError
from millrace.streams.kafka_topic_admin import KafkaTopicAdmin
from millrace.streams.topic_admin import (
    Difference,
    create_missing,
    describe_differences,
    fix_configs,
)
from millrace.streams.topics import Changelog, TopicSpec, topic_specs


def specs_for(broker: BrokerUnderTest) -> tuple[TopicSpec, ...]:
    """All topics of a pipeline with two providers and a table."""
    return topic_specs(
        broker.settings,
        providers=["openai", "ollama-gpu"],
        changelogs=[Changelog(broker.topic("app"), "seen", broker.topic("requests"))],
    )


async def test_a_new_broker_lacks_every_topic(broker: BrokerUnderTest) -> None:
    """Each is reported once as missing."""
    specs = specs_for(broker)
    async with broker.topic_admin() as admin:
        differences = await describe_differences(admin, specs)

    assert [item.topic for item in differences] == [spec.name for spec in specs]
    assert {item.kind for item in differences} == {"missing"}


async def test_creating_leaves_no_difference_and_is_idempotent(broker: BrokerUnderTest) -> None:
    """The second time there is nothing to do."""
    specs = specs_for(broker)
    async with broker.topic_admin() as admin:
        created = await create_missing(admin, specs)
        differences = await describe_differences(admin, specs)
        again = await create_missing(admin, specs)

    assert set(created) == {spec.name for spec in specs}
    assert (differences, again) == ((), ())


async def test_two_processes_may_create_at_once(broker: BrokerUnderTest) -> None:
    """Both succeed, and each topic is made by one of them."""
    specs = specs_for(broker)
    async with broker.topic_admin() as one, broker.topic_admin() as two:
        made = await asyncio.gather(create_missing(one, specs), create_missing(two, specs))
        differences = await describe_differences(one, specs)

    assert sorted([*made[0], *made[1]]) == sorted(spec.name for spec in specs)
    assert differences == ()


async def test_too_few_partitions_are_reported_and_left(broker: BrokerUnderTest) -> None:
    """Partitions are never added behind the operator's back."""
    spec = replace(specs_for(broker)[0], partitions=2)
    async with broker.topic_admin() as admin:
        await create_missing(admin, [spec])
        (difference,) = await describe_differences(admin, [replace(spec, partitions=3)])
        assert await create_missing(admin, [replace(spec, partitions=3)]) == ()
        enough = await describe_differences(admin, [replace(spec, partitions=1)])

    assert difference == Difference(spec.name, "partitions", "partitions", "3", "2")
    assert enough == ()


async def test_a_changelog_gets_as_many_partitions_as_its_source_really_has(
    broker: BrokerUnderTest,
) -> None:
    """Also where the source was made with another count than the settings say."""
    specs = specs_for(broker)
    source = replace(specs[0], partitions=5)
    async with broker.topic_admin() as admin:
        await create_missing(admin, [source])
        await create_missing(admin, specs)
        counts = await admin.partition_counts()

    assert counts[broker.topic("app-seen-changelog")] == 5


@pytest.mark.kafka
async def test_configs_that_differ_are_reported_and_set_when_asked(
    real_broker: BrokerUnderTest,
) -> None:
    """Only what differs is changed; what the operator set besides stays."""
    spec = specs_for(real_broker)[0]
    async with real_broker.topic_admin() as admin:
        await create_missing(admin, [spec])
        await admin.set_configs(spec.name, {"retention.ms": "1000", "segment.bytes": "2097152"})
        (difference,) = await describe_differences(admin, [spec])
        fixed = await fix_configs(admin, [difference])
        after = await describe_differences(admin, [spec])
        configs = await admin.configs([spec.name])

    assert (difference.what, difference.found) == ("retention.ms", "1000")
    assert (fixed, after) == ((difference,), ())
    assert configs[spec.name]["segment.bytes"] == "2097152"


@pytest.mark.kafka
async def test_every_topic_that_cannot_be_made_is_named(real_broker: BrokerUnderTest) -> None:
    """One error names all; it is not worth another attempt."""
    good = specs_for(real_broker)[0]
    bad = [replace(good, name=real_broker.topic(name)) for name in ("a b", "c/d")]
    async with real_broker.topic_admin() as admin:
        with pytest.raises(BrokerError, match=r"a b.*c/d") as caught:
            await admin.create([good, *bad])
        counts = await admin.partition_counts()

    assert not caught.value.retryable
    assert good.name in counts


async def test_who_did_not_start_the_embedded_broker_sees_its_topics_but_makes_none(
    embedded_broker: BrokerUnderTest,
) -> None:
    """Over the wire its topics are listed, without configs; creating says why it cannot be."""
    present, missing = specs_for(embedded_broker)[:2]
    await embedded_broker.create([present])
    kwargs = embedded_broker.settings.client_kwargs()
    async with KafkaTopicAdmin(client_kwargs=kwargs) as admin:
        differences = await describe_differences(admin, [present, missing])
        with pytest.raises(BrokerError, match="does not offer it"):
            await create_missing(admin, [missing])

    assert [item.topic for item in differences] == [missing.name]
