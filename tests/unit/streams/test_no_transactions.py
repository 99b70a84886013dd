"""Kafka's transactions are not used, so that none of their ways of failing can come about."""

from millrace.streams.kafka_settings import KafkaSettings


def test_producers_are_idempotent_and_open_no_transaction() -> None:
    """A worker of a transactional producer would be fenced when members come and go."""
    settings = KafkaSettings(bootstrap_servers=("127.0.0.1:9092",))

    assert settings.producer_kwargs()["enable_idempotence"] is True
    assert "transactional_id" not in settings.producer_kwargs()
    assert "processing_guarantee" not in settings.faust_broker_settings()
