"""Times as they are typed: `2026-11-20T14:00`, `10m`, `now`."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from millrace.schemas.errors import ConfigurationError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhdw])")
FORMS = "give an ISO time such as 2026-11-20T14:00 (UTC unless it says otherwise), 10m, 2h or 7d"


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin reading a topic: at an end of it, at an offset, or at a time."""

    at: Literal["beginning", "end"] | int | datetime


def parse_moment(text: str, *, now: datetime) -> datetime:
    """Read a time, or how long ago it was.

    Raises:
        ConfigurationError: The text is neither.
    """
    if text == "now":
        return now
    try:
        if ago := _AGO.fullmatch(text):
            return now - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(f"{text!r} is no time: {FORMS}") from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_start(text: str, *, now: datetime) -> Start:
    """Read `beginning`, `end`, an offset, or a time.

    Raises:
        ConfigurationError: The text is none of them.
    """
    if text == "beginning":
        return Start("beginning")
    if text == "end":
        return Start("end")
    if text.isascii() and text.isdigit():
        return Start(int(text))
    try:
        return Start(parse_moment(text, now=now))
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{text!r} is no place to start: give beginning, end or an offset, or {FORMS[5:]}"
        ) from error
