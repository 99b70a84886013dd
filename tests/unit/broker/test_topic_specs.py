"""Every topic that the pipeline needs, as the settings want it."""

import pytest

from millrace.schemas.errors import ConfigurationError
from millrace.streams.kafka_settings import KafkaSettings, TopicSettings
from millrace.streams.topics import Changelog, TopicNames, topic_specs


def test_names_have_the_prefix() -> None:
    """Every one of them."""
    names = TopicNames("x.")

    assert names.requests == "x.requests"
    assert names.calls("ollama-gpu") == "x.calls.ollama-gpu"
    assert names.dead_letters == "x.dead-letters"
    assert names.provider_health == "x.provider-health"
    assert names.workflow_events == "x.workflow-events"


def test_there_is_a_calls_topic_for_each_provider() -> None:
    """And one of everything else, each once."""
    names = [spec.name for spec in topic_specs(KafkaSettings(), providers=["openai", "ollama"])]

    assert names == [
        "llm.requests",
        "llm.calls.openai",
        "llm.calls.ollama",
        "llm.chunks",
        "llm.outcomes",
        "llm.responses",
        "llm.usage",
        "llm.cancellations",
        "llm.dead-letters",
        "llm.evaluations",
        "llm.retries",
        "llm.provider-health",
    ]


def test_settings_change_one_kind_of_topic() -> None:
    """`calls` means those of every provider."""
    settings = KafkaSettings(
        partitions=3,
        replication_factor=2,
        topics={
            "calls": TopicSettings(partitions=12),
            "chunks": TopicSettings(retention_hours=0.5),
        },
    )
    specs = {spec.name: spec for spec in topic_specs(settings, providers=["a", "b"])}

    assert specs["llm.calls.a"].partitions == specs["llm.calls.b"].partitions == 12
    assert specs["llm.requests"].partitions == 3
    assert specs["llm.chunks"].retention_ms == 1_800_000
    assert {spec.replication_factor for spec in specs.values()} == {2}


def test_a_dead_letter_has_room_for_any_other_topics_record() -> None:
    """At least twice as much, since its bytes are escaped."""
    specs = {spec.name: spec for spec in topic_specs(KafkaSettings(), providers=["a"])}
    dead = specs.pop("llm.dead-letters")

    assert dead.max_message_bytes >= 2 * max(spec.max_message_bytes for spec in specs.values())
    assert dead.max_message_bytes <= KafkaSettings().max_record_bytes


def test_a_changelog_is_compacted_like_its_source() -> None:
    """With as many partitions, under the name that Faust gives it."""
    settings = KafkaSettings(topics={"outcomes": TopicSettings(partitions=7)})
    changelog = topic_specs(
        settings, providers=[], changelogs=[Changelog("millrace-router", "joins", "llm.outcomes")]
    )[-1]

    assert changelog.name == "millrace-router-joins-changelog"
    assert (changelog.partitions, changelog.partitions_of) == (7, "llm.outcomes")
    assert changelog.configs == {"cleanup.policy": "compact", "max.message.bytes": "4194304"}


def test_a_changelog_of_an_unknown_topic_is_refused() -> None:
    """The message names the topics there are."""
    with pytest.raises(ConfigurationError, match=r"llm\.nothing.*llm\.requests"):
        topic_specs(
            KafkaSettings(), providers=[], changelogs=[Changelog("app", "t", "llm.nothing")]
        )
