"""What libraries say in our logs."""

import logging
from collections.abc import Iterator

import orjson
import pytest
import structlog

from millrace.streams.logs import configure_logs
from millrace.streams.settings import LogSettings


@pytest.fixture
def _as_before() -> Iterator[None]:
    """Leave logging as it was found."""
    root, timers = logging.getLogger(), logging.getLogger("mode.timers")
    handlers, level, timers_level = root.handlers, root.level, timers.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    timers.setLevel(timers_level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.mark.usefixtures("_as_before")
def test_a_busy_machine_does_not_fill_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings are told in the one form, but not each timer that came late, nor each rebalance."""
    configure_logs(LogSettings(format="json"), role="router")
    logging.getLogger("mode.timers").warning("Timer commit is overlapping")
    logging.getLogger("faust.app.base").warning("[^App]: Missing sensor state for rebalance #3")
    logging.getLogger("aiokafka").warning("a broker is away")

    lines = [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]

    assert [(line["logger"], line["process"]) for line in lines] == [("aiokafka", "router")]
