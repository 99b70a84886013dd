"""The one error tree of Millrace.

    PipelineError
    ├─ InvalidEventError          never retried: dead letter
    ├─ ConfigurationError         the operator must change a setting
    ├─ PromptError                template and variables do not fit: rejected
    ├─ ProviderError
    │   ├─ ProviderUnavailableError   retryable: connection, 5xx, overloaded, truncated stream
    │   ├─ RateLimitedError           retryable, usually with retry_after
    │   ├─ RequestRefusedError        4xx or safety: permanent for this provider
    │   └─ ReplyInvalidError          the reply broke its wire's contract: retryable elsewhere
    ├─ BrokerError                    Kafka said no
    ├─ SinkError
    │   ├─ SinkUnavailableError       back-pressure, retry_after
    │   └─ RowRejectedError           permanent
    └─ ReplyError                 what a client of the pipeline meets
        ├─ RequestNotCompletedError   the request ended otherwise; holds the terminal record
        ├─ NoReplyError               no terminal record in time
        └─ StreamGapError             chunks are gone from the topic

Callers never look at the class of a foreign exception: each folder translates those in one
place, and everybody else asks `retryable` and `retry_after`. No message carries a key or
prompt text.
"""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from millrace.schemas.response import Response

ErrorCode = Literal[
    # what was asked
    "invalid_json",
    "invalid_encoding",
    "invalid_request",
    "tombstone",
    "too_large",
    "request_id_conflict",
    "prompt_error",
    "reply_to_not_allowed",
    "no_route",
    "budget_exceeded",
    "internal_record_invalid",
    # what a provider did
    "provider_unavailable",
    "provider_timeout",
    "stream_truncated",
    "rate_limited",
    "authentication_failed",
    "model_not_found",
    "context_length_exceeded",
    "content_filtered",
    "request_refused",
    "reply_invalid",
    "empty_reply",
    # what became of the work
    "output_invalid",
    "validator_failed",
    "deadline_exceeded",
    "cancelled",
    "quorum_not_reached",
    "interrupted",
    # us
    "broker_error",
    "sink_unavailable",
    "row_rejected",
    "configuration_error",
    "internal_error",
]
"""Every code that may stand in `error.code`; `docs/errors.md` explains each."""


class ErrorInfo(BaseModel):
    """What went wrong, as it stands in a public record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: ErrorCode
    message: str
    retryable: bool = False


class PipelineError(Exception):
    """Anything Millrace can name; says whether trying again may help, and when."""

    code: ErrorCode = "internal_error"
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        code: ErrorCode | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable
        self.retry_after = retry_after
        """Seconds to wait before trying again, where somebody said so."""

    @property
    def message(self) -> str:
        """The sentence for the operator or requester."""
        return str(self.args[0])

    def info(self) -> ErrorInfo:
        """This error as a public record carries it."""
        return ErrorInfo(code=self.code, message=self.message, retryable=self.retryable)


class InvalidEventError(PipelineError):
    """A record cannot be read as what its topic holds."""

    code: ErrorCode = "invalid_request"


class ConfigurationError(PipelineError):
    """A setting is missing or wrong; the message names it and every other one found."""

    code: ErrorCode = "configuration_error"


class PromptError(PipelineError):
    """A template does not exist, or does not fit its variables."""

    code: ErrorCode = "prompt_error"


class ProviderError(PipelineError):
    """A model call did not succeed."""

    code: ErrorCode = "provider_unavailable"
    key_alias: str | None = None
    """The environment variable whose key was used; None where none was."""
    http_status: int | None = None
    """Of the reply, where there was one and it was no success."""
    other_key: bool = False
    """Whether the key was at fault, and the next try will have another one."""


class ProviderUnavailableError(ProviderError):
    """The provider could not be reached, broke off, or said that it is overloaded."""

    retryable = True


class RateLimitedError(ProviderError):
    """The provider asks us to slow down."""

    code: ErrorCode = "rate_limited"
    retryable = True


class RequestRefusedError(ProviderError):
    """The provider will not answer this request, however often it is asked."""

    code: ErrorCode = "request_refused"


class ReplyInvalidError(ProviderError):
    """The reply broke the contract of its wire API."""

    code: ErrorCode = "reply_invalid"
    retryable = True


class BrokerError(PipelineError):
    """Kafka did not take or give a record."""

    code: ErrorCode = "broker_error"
    retryable = True


class SinkError(PipelineError):
    """Rows could not be stored."""

    code: ErrorCode = "sink_unavailable"


class SinkUnavailableError(SinkError):
    """The store cannot take rows now; keep them and come back after `retry_after`."""

    retryable = True


class RowRejectedError(SinkError):
    """The store will never take these rows as they are."""

    code: ErrorCode = "row_rejected"


class ReplyError(PipelineError):
    """A client did not get the answer that it waited for."""


class RequestNotCompletedError(ReplyError):
    """The request ended as `failed`, `expired`, `cancelled` or `rejected`."""

    response: "Response | None" = None
    """The terminal record, with what was spent and any text there was."""

    @classmethod
    def of(cls, response: "Response") -> Self:
        """The error for a request that ended so."""
        cause = response.error
        why = f"{cause.code}: {cause.message}" if cause else "no reason was given"
        error = cls(
            f"request {response.request_id!r} ended as {response.status}: {why}",
            code=cause.code if cause else None,
            retryable=cause.retryable if cause else None,
        )
        error.response = response
        return error


class NoReplyError(ReplyError):
    """No terminal record came in time; the pipeline may be down, or read other topics."""

    code: ErrorCode = "deadline_exceeded"
    retryable = True


class StreamGapError(ReplyError):
    """Chunks are missing from a stream, as the topic does not keep them any more."""

    code: ErrorCode = "stream_truncated"
