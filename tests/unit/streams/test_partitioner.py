"""Which partition a record is written to."""

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.client.key_hash import positive_hash
from millrace.streams.routing_key import partition_of


@settings(max_examples=300)
@given(key=st.binary(max_size=60), partitions=st.integers(1, 40))
def test_a_key_goes_where_any_kafka_client_sends_it(key: bytes, partitions: int) -> None:
    """Remembering a hash never changes the choice, whatever the number of partitions."""
    numbers = list(range(partitions))
    chosen = [positive_hash(key) % partitions for _ in range(2)]

    assert [DefaultPartitioner()(key, numbers, numbers)] * 2 == chosen
    assert partition_of(key, partitions) == chosen[0]
