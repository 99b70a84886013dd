"""Which partition a record is written to."""

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.streams.publisher import _Partitioner
from millrace.streams.routing_key import partition_of

PARTITIONER = _Partitioner()


@settings(max_examples=50)
@given(key=st.binary(max_size=60), partitions=st.integers(1, 40))
def test_a_key_goes_where_any_kafka_client_sends_it(key: bytes, partitions: int) -> None:
    """Remembering a choice never changes it, whatever the number of partitions."""
    numbers = list(range(partitions))
    chosen = [PARTITIONER(key, numbers, numbers) for _ in range(2)]

    assert [DefaultPartitioner()(key, numbers, numbers)] * 2 == chosen
    assert partition_of(key, partitions) == chosen[0]


def test_a_record_without_key_goes_to_a_partition_that_has_a_leader() -> None:
    """Each is chosen anew."""
    assert {2, 5} == {PARTITIONER(None, list(range(6)), [2, 5]) for _ in range(200)}
