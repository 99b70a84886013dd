"""What the exit codes of `millrace` mean, and which failure has which."""

FINE = 0
FAILED = 1
"""The work was tried and failed: a request did not complete, a check found a problem."""
USAGE = 2
"""Arguments, input or settings are wrong; nothing was done."""
UNREACHABLE = 3
"""Broker, ClickHouse or provider cannot be reached."""
INTERRUPTED = 130
"""Ctrl-C."""

_USAGE_CODES = frozenset(
    {
        "configuration_error",
        "invalid_json",
        "invalid_encoding",
        "invalid_request",
        "prompt_error",
        "too_large",
    }
)
_UNREACHABLE_CODES = frozenset(
    {"broker_error", "sink_unavailable", "provider_unavailable", "provider_timeout"}
)


def exit_code(error: Exception) -> int | None:
    """The exit code for a failure of the error tree; None for any other, which is a bug."""
    from millrace.schemas.errors import PipelineError  # noqa: PLC0415 - keeps --help quick

    if not isinstance(error, PipelineError):
        return None
    if error.code in _USAGE_CODES:
        return USAGE
    return UNREACHABLE if error.code in _UNREACHABLE_CODES else FAILED
