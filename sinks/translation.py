"""What ClickHouse, its client and chDB raise, in our own terms: the only place that knows.

Codes are ClickHouse's (src/Common/ErrorCodes.cpp, also in `system.errors`).
"""

import re

from clickhouse_connect.driver.exceptions import ClickHouseError, Error, scrub_error_details

from millrace.schemas.errors import (
    ConfigurationError,
    PipelineError,
    RowRejectedError,
    SinkError,
    SinkUnavailableError,
)

FOREIGN = (ClickHouseError, OSError, ValueError, TypeError, ArithmeticError, RuntimeError)
"""Everything a call of the client is known to raise: its own errors, those of writing a value
into a column, and chDB's, which are RuntimeErrors."""

_SHOWN_CHARACTERS = 300
# What the client puts around the server's words.
_AROUND = re.compile(
    r"^Received ClickHouse exception, code: \d+, server response: |\(for url [^)]*\)$|"
    r"^Unable to open the chdb engine at '[^']*': "
)
_SHORT, _LONG = 1.0, 5.0

# Only these speak of the values of a row: nothing else may cost a row its place.
_ABOUT_VALUES = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        33,  # CANNOT_READ_ALL_DATA
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        131,  # TOO_LARGE_STRING_SIZE
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        407,  # DECIMAL_OVERFLOW
        469,  # VIOLATED_CONSTRAINT
    }
)
_TOO_MANY_PARTS = 252
_PARTITIONS_OF_ONE_BLOCK = "for single INSERT block"
_OVERLOADED = frozenset(
    {
        159,  # TIMEOUT_EXCEEDED
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        241,  # MEMORY_LIMIT_EXCEEDED
        243,  # NOT_ENOUGH_SPACE
        _TOO_MANY_PARTS,
    }
)
_REFUSED = frozenset(
    {
        192,  # UNKNOWN_USER
        193,  # WRONG_PASSWORD
        194,  # REQUIRED_PASSWORD
        497,  # ACCESS_DENIED
        516,  # AUTHENTICATION_FAILED
    }
)
_READONLY = 164
_LIMITS = frozenset({158, 159, 160, 241, 307, 396})
_NOT_NOW = frozenset({202, 203, 209, 210, 242, 279, 425})


def opening_failed(error: BaseException, *, location: str) -> PipelineError:
    """Say why no connection came about: what the operator must change, or that it may pass."""
    whole = str(error)
    if "already initialized with path" in whole:
        return ConfigurationError(
            f"cannot open {location}: this process has an embedded engine open on another path, "
            "and there can be one only; close that one, or use a ClickHouse server"
        )
    if "Error initializing EmbeddedServer" in whole:
        return SinkUnavailableError(
            f"cannot open {location}: another process has it open, or it cannot be written to; "
            "of the processes on one folder, one has the role sink; stop it or let it answer the "
            "query, or use a ClickHouse server",
            retry_after=_LONG,
        )
    if _code(error) in _REFUSED:
        return ConfigurationError(
            f"{location} refuses the user or what it may do ({_shown(error)}); "
            "check user, password and rights"
        )
    return _unavailable(error, location=location)


def insert_failed(error: BaseException, *, location: str) -> SinkError:
    """Say whether the rows are at fault or the store cannot take any rows now."""
    code = _code(error)
    whole = str(error)
    if code in _ABOUT_VALUES or (code == _TOO_MANY_PARTS and _PARTITIONS_OF_ONE_BLOCK in whole):
        # Such messages may quote the value, and that may be a prompt.
        return RowRejectedError(f"ClickHouse error {code} {_name(error)}".rstrip())
    if not isinstance(error, ClickHouseError | OSError | RuntimeError) or _from_writing(error):
        return RowRejectedError(f"a value does not fit its column: {type(error).__name__}")
    return _unavailable(error, location=location)


def refused_by_server(error: RowRejectedError) -> bool:
    """Whether the server refused the rows, rather than that they could not be sent at all."""
    return error.__cause__ is not None and _code(error.__cause__) is not None


def query_failed(error: BaseException, *, location: str) -> SinkError:
    """Say what is wrong with a query, or that no query can be answered now."""
    code = _code(error)
    if code is None or code in _NOT_NOW:
        return _unavailable(error, location=location)
    if code == _READONLY:
        return SinkError(
            "only reading is allowed here: the statement would change data, a setting, or read "
            "from outside of ClickHouse",
            code="invalid_request",
        )
    hint = "; ask for less, or for a shorter time" if code in _LIMITS else ""
    return SinkError(f"{_shown(error)}{hint}", code="invalid_request")


def _unavailable(error: BaseException, *, location: str) -> SinkUnavailableError:
    wait = _LONG if _code(error) in _OVERLOADED else _SHORT
    return SinkUnavailableError(
        f"ClickHouse at {location} does not take this now: {_shown(error)}", retry_after=wait
    )


def _from_writing(error: BaseException) -> bool:
    # The client's own DataError carries no code when a value could not be written to a column.
    return type(error).__name__ == "DataError" and _code(error) is None


def _code(error: BaseException) -> int | None:
    return error.code if isinstance(error, Error) else None


def _name(error: BaseException) -> str:
    return (error.name or "") if isinstance(error, Error) else ""


def _shown(error: BaseException) -> str:
    said = " ".join(_AROUND.sub("", str(error)).split())
    text = scrub_error_details(said) or type(error).__name__
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
