"""The one place where failures of the Cursor CLI become provider errors.

What it writes to its error output may quote keys and prompts. Of that, one line is shown:
shortened, without what is in quotes or looks like a key, and not at all where it shares text
with the prompt.
"""

import re
import signal
from collections.abc import Iterable
from pathlib import Path

from millrace.providers.failures import truncated
from millrace.schemas.errors import (
    ErrorCode,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    RequestRefusedError,
)

_INSTALL = "install it with `curl https://cursor.com/install -fsS | bash`"
_MAX_SHOWN = 160
_SHARED = 16
"""Characters in a row that a line and the prompt must not have in common."""

_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))|[\x00-\x08\x0b-\x1f\x7f]"
)
_QUOTED = re.compile(r"\"[^\"]*\"?|`[^`]*`?|(?<!\w)'[^']*'?")
_KEY = re.compile(r"[\w.+/=-]{20,}|\b(?:sk|key|crsr|tok)[-_]\S+|(?i:\bbearer)\s+\S+")


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_NOT_TRUSTED = _words(r"workspace trust|trust this (?:workspace|folder|directory)")
_NO_LOGIN = _words(
    r"not logged in|not authenticated|authentication (?:required|failed)|unauthori[sz]ed"
    r"|please (?:log ?in|run .{0,20}login)|(?:invalid|missing) api[ _]key|api[ _]key is invalid"
)
_SPENT = _words(
    r"(?:usage|spend(?:ing)?|free|hit your|monthly) .{0,20}limit|quota|upgrade your plan"
)
_SLOW_DOWN = _words(r"rate.?limit|too many requests|resource_exhausted")
_NO_MODEL = _words(
    r"\bmodel\b.{0,80}(?:not (?:found|available|supported)|unknown|invalid)"
    r"|(?:cannot use|unknown|invalid|unsupported) (?:this )?model|available models"
)
_WRONG_USE = _words(r"unknown (?:option|argument|command)|(?:option|argument) .{0,60}invalid")

_REFUSALS: tuple[tuple[re.Pattern[str], ErrorCode, str], ...] = (
    (
        _NOT_TRUSTED,
        "request_refused",
        "the CLI does not trust the project; add '--trust' to the entry's arguments",
    ),
    (
        _NO_LOGIN,
        "authentication_failed",
        "log in with `cursor-agent login`, or name a variable that holds a key in api_key_env",
    ),
    (
        _NO_MODEL,
        "model_not_found",
        "check the entry's models against `cursor-agent models`",
    ),
    (
        _WRONG_USE,
        "request_refused",
        "check the entry's arguments against `cursor-agent --help`, or update it",
    ),
)


def not_started(error: OSError, *, command: str, project: Path | None) -> ProviderError:
    """Translate why the command could not be run at all."""
    if project is not None and not project.is_dir():
        return RequestRefusedError(
            f"the entry's project {str(project)!r} is not a folder: set it to one that exists"
        )
    if isinstance(error, FileNotFoundError):
        return ProviderUnavailableError(
            f"the command {command!r} is not there: {_INSTALL}, or set the entry's `command` to "
            "where it is",
            retryable=False,
        )
    reason = error.strerror or type(error).__name__
    return ProviderUnavailableError(f"the command {command!r} cannot be run: {reason}")


def timed_out(command: str, error: TimeoutError) -> ProviderError:
    """Translate a command that said nothing for too long."""
    return ProviderUnavailableError(
        f"{command!r} did not answer in time ({error}); its processes were ended",
        code="provider_timeout",
    )


def ended_early(
    exit_code: int | None, stderr: str, *, begun: bool, private: Iterable[str]
) -> ProviderError:
    """Translate a command that ended, or closed its output, without a result.

    Args:
        exit_code: Below 0 for a signal; None if it still runs.
        stderr: The beginning of its error output.
        begun: Whether a part of an answer had come.
        private: Texts that must not be shown: the prompt, the key.
    """
    if exit_code is None:
        return truncated(" (the command closed its output and went on)")
    if exit_code < 0:
        return truncated(f" (the command was ended by {_signal_name(-exit_code)})")
    if exit_code == 0:
        return truncated(" (the command ended without a result)")
    line = _first_line(stderr)
    shown = _showable(line, private)
    what = f"the command ended with exit code {exit_code}{f' ({shown})' if shown else ''}"
    return _classify(what, line, begun=begun)


def _classify(what: str, line: str, *, begun: bool) -> ProviderError:
    if _SPENT.search(line):
        return RateLimitedError(f"{what}: the plan's usage is used up", retryable=False)
    if _SLOW_DOWN.search(line):
        return RateLimitedError(f"{what}: slow down")
    for pattern, code, advice in _REFUSALS:
        if pattern.search(line):
            return RequestRefusedError(f"{what}: {advice}", code=code)
    return truncated(f" ({what})") if begun else ProviderUnavailableError(what)


def _first_line(stderr: str) -> str:
    """The first line that says something; some versions print their events there too."""
    for raw in stderr.splitlines():
        line = _ESCAPE.sub("", raw).strip()
        if line and not line.startswith("{"):
            return line
    return ""


def _showable(line: str, private: Iterable[str]) -> str:
    for text in private:
        if text and (text in line or _share(line, text)):
            return ""
    shown = _KEY.sub("…", _QUOTED.sub("…", line))
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"


def _share(line: str, text: str) -> bool:
    length = min(_SHARED, len(text))
    return any(line[at : at + length] in text for at in range(len(line) - length + 1))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
