"""Structured logs: text on a terminal, JSON otherwise, the request's id on every line about it."""

import logging
import sys
from typing import Any

import orjson
import structlog

from millrace.streams.settings import LogSettings

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure_logs(settings: LogSettings, *, role: str) -> None:
    """Send our logs, and those of the libraries, to stderr in one form."""
    level = _LEVELS[settings.level]
    as_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        ending: list[Any] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ]
    else:
        ending = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=role)
    _adopt_library_logs(shared, ending)


def _adopt_library_logs(shared: list[Any], ending: list[Any]) -> None:
    """Libraries speak through `logging`: warnings and worse, in the same form."""
    renderer = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
    )
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(renderer)
    root = logging.getLogger()
    root.handlers = [stream]
    root.setLevel(logging.WARNING)
    # Faust's timers warn of every turn that came late, as on a busy machine. How late the loop is
    # has a metric (millrace_event_loop_delay_seconds); a line for each timer says nothing more.
    logging.getLogger("mode.timers").setLevel(logging.ERROR)
    logging.getLogger("faust.app.base").addFilter(_tells_something)


def _tells_something(record: logging.LogRecord) -> bool:
    """False for what Faust warns of at each rebalance because it has no sensors here."""
    return "Missing sensor state for rebalance" not in str(record.msg)


def _to_json(value: Any, **_: Any) -> str:
    return orjson.dumps(value, default=str).decode()
