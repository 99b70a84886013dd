"""The hash by which Kafka's default partitioner, Java's and aiokafka's, chooses a partition."""

from functools import lru_cache

from aiokafka.partitioner import murmur2

_KEYS_HASHED = 16_384


@lru_cache(maxsize=_KEYS_HASHED)
def positive_hash(key: bytes) -> int:
    """What the partitioner makes of a key; modulo the partitions it is the choice.

    Remembered for the keys of late: a request's key comes back with each of its records, and the
    hash (murmur2) is computed in Python.
    """
    return int(murmur2(key)) & 0x7FFFFFFF
