"""librdkafka's mock cluster, reached by ctypes in the library inside the confluent-kafka wheel.

The functions are declared in librdkafka's `rdkafka_mock.h`. The Python client offers the
cluster only as the setting `test.mock.num.brokers`, with four partitions a topic and nothing
to be chosen; the C functions let topics have the partition counts they need.
"""

import ctypes
import ctypes.util
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from millrace.schemas.errors import BrokerError, ConfigurationError

_PRODUCER = 0
"""`RD_KAFKA_PRODUCER`: any client handle will do to hang a cluster on."""

_TOPIC_ALREADY_EXISTS = 36
"""`RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS`."""

_BROKER_ID = 1
"""The cluster numbers its brokers from 1."""

_LOG_ERRORS_ONLY = b"3"
"""syslog's `LOG_ERR`; at the default level the handle warns that it has no bootstrap servers."""

_ERROR_BYTES = 512

_PATTERNS = (
    "confluent_kafka.libs/librdkafka*.so*",
    "confluent_kafka/.dylibs/librdkafka*.dylib",
    "confluent_kafka.libs/librdkafka*.dll",
)
"""Where the wheels for Linux, macOS and Windows put the library, from site-packages."""


def library_path() -> str:
    """Find librdkafka: the wheel's own, else the system's for a client built from source.

    Raises:
        ConfigurationError: There is none.
    """
    spec = importlib.util.find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "the embedded broker needs the package confluent-kafka, which is not installed; "
            "run: pip install confluent-kafka"
        )
    site_packages = Path(spec.origin).parent.parent
    for pattern in _PATTERNS:
        for found in sorted(site_packages.glob(pattern)):
            return str(found)
    if system := ctypes.util.find_library("rdkafka"):
        return system
    raise ConfigurationError(
        f"the confluent-kafka installed in {str(site_packages)!r} brings no librdkafka and the "
        "system has none; install confluent-kafka as a wheel, or set KAFKA_BOOTSTRAP_SERVERS"
    )


def _load() -> ctypes.CDLL:
    path = library_path()
    try:
        library = ctypes.CDLL(path)
        _declare(library)
    except (OSError, AttributeError) as error:
        raise ConfigurationError(
            f"librdkafka at {path!r} cannot serve as a broker: {error}; "
            "install confluent-kafka 2.16 or newer as a wheel"
        ) from error
    return library


def _declare(library: ctypes.CDLL) -> None:
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    size, broker, short = ctypes.c_size_t, ctypes.c_int32, ctypes.c_int16
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, ()),
        ("rd_kafka_conf_set", number, (pointer, text, text, text, size)),
        ("rd_kafka_new", pointer, (number, pointer, text, size)),
        ("rd_kafka_destroy", None, (pointer,)),
        ("rd_kafka_mock_cluster_new", pointer, (pointer, number)),
        ("rd_kafka_mock_cluster_destroy", None, (pointer,)),
        ("rd_kafka_mock_cluster_bootstraps", text, (pointer,)),
        ("rd_kafka_mock_topic_create", number, (pointer, text, number, number)),
        ("rd_kafka_mock_broker_set_host_port", None, (pointer, broker, text, number)),
        ("rd_kafka_mock_set_apiversion", number, (pointer, short, short, short)),
        ("rd_kafka_mock_set_controller_id", None, (pointer, broker)),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, (pointer, broker)),
        ("rd_kafka_err2str", text, (number,)),
    ):
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments


class MockCluster:
    """One broker on 127.0.0.1, on a port of the kernel's choice, for the life of the object.

    `port` is where it listens; `advertise` tells clients to come to another port.

    It runs on a thread of librdkafka's own. Not for use by several threads at once.

    Raises:
        ConfigurationError: The library cannot be loaded.
        BrokerError: The cluster does not start.
    """

    def __init__(self, *, join_delay_ms: int = 100) -> None:
        self._library = _load()
        self._declared: dict[str, int] = {}
        self._handle = self._new_handle()
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        if not self._cluster:
            self._library.rd_kafka_destroy(self._handle)
            raise BrokerError("librdkafka could not start a mock cluster on 127.0.0.1")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, join_delay_ms)
        # The default, 0, names no broker, and clients then find no controller to ask.
        self._library.rd_kafka_mock_set_controller_id(self._cluster, _BROKER_ID)

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        address: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return int(address.rpartition(b":")[2])

    def advertise(self, host: str, port: int) -> None:
        """Name this address to clients that ask where the broker is."""
        self._library.rd_kafka_mock_broker_set_host_port(
            self._cluster, _BROKER_ID, host.encode("ascii"), port
        )

    def limit_versions(self, versions: Mapping[int, tuple[int, int]]) -> None:
        """Offer these requests, by API key, only from the first version to the second.

        Raises:
            BrokerError: The library does not know one of them.
        """
        for api, (oldest, newest) in versions.items():
            code = self._library.rd_kafka_mock_set_apiversion(self._cluster, api, oldest, newest)
            if code:
                raise BrokerError(f"Kafka API {api} cannot be limited to {oldest}-{newest}")

    def declare(self, topic: str, partitions: int) -> bool:
        """Create a topic; False when it was declared before with as many partitions.

        Raises:
            BrokerError: It exists with another number of partitions, or cannot be created.
        """
        if topic in self._declared:
            if self._declared[topic] != partitions:
                raise BrokerError(
                    f"topic {topic!r} has {self._declared[topic]} partitions, not {partitions}",
                    retryable=False,
                )
            return False
        code = self._library.rd_kafka_mock_topic_create(
            self._cluster, topic.encode(), partitions, 1
        )
        if code == _TOPIC_ALREADY_EXISTS:
            raise BrokerError(
                f"topic {topic!r} came into being with 4 partitions because a client asked for "
                "it before it was declared; declare topics before clients start",
                retryable=False,
            )
        if code:
            reason = self._library.rd_kafka_err2str(code).decode()
            raise BrokerError(f"topic {topic!r} could not be created: {reason}", retryable=False)
        self._declared[topic] = partitions
        return True

    def close(self) -> None:
        """Stop the broker and forget all it held; harmless when repeated."""
        if self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._handle)
            self._cluster = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _new_handle(self) -> int:
        problem = ctypes.create_string_buffer(_ERROR_BYTES)
        conf = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(conf, b"log_level", _LOG_ERRORS_ONLY, problem, _ERROR_BYTES)
        handle: int | None = self._library.rd_kafka_new(_PRODUCER, conf, problem, _ERROR_BYTES)
        if not handle:
            raise BrokerError(f"librdkafka could not start: {problem.value.decode()}")
        return handle
