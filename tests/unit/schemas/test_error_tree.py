"""The one error tree."""

from typing import get_args

import pytest

from millrace.schemas import errors
from millrace.schemas.errors import ErrorCode, ErrorInfo, PipelineError

CODES = get_args(ErrorCode)
CLASSES = sorted(
    (
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, PipelineError)
    ),
    key=lambda each: each.__name__,
)


@pytest.mark.parametrize("code", CODES)
def test_every_code_travels_in_a_record(code: ErrorCode) -> None:
    """From an error into JSON and back."""
    info = PipelineError("why", code=code).info()

    assert ErrorInfo.model_validate_json(info.model_dump_json()) == info
    assert info.code == code


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_has_a_known_code_and_says_whether_to_try_again(
    kind: type[PipelineError],
) -> None:
    """And what it is given wins."""
    plain = kind("what is wrong")
    given = kind("x", code="internal_error", retryable=not plain.retryable, retry_after=2.5)

    assert plain.code in CODES
    assert plain.info() == ErrorInfo(
        code=plain.code, message="what is wrong", retryable=plain.retryable
    )
    assert (plain.retry_after, given.retry_after) == (None, 2.5)
    assert (given.code, given.retryable) == ("internal_error", not plain.retryable)
    assert kind("x").retryable == plain.retryable


@pytest.mark.parametrize(
    ("name", "retryable"),
    [
        ("InvalidEventError", False),
        ("ConfigurationError", False),
        ("PromptError", False),
        ("ProviderUnavailableError", True),
        ("RateLimitedError", True),
        ("RequestRefusedError", False),
        ("ReplyInvalidError", True),
        ("BrokerError", True),
        ("SinkUnavailableError", True),
        ("RowRejectedError", False),
    ],
)
def test_who_may_be_tried_again(name: str, retryable: bool) -> None:
    """Callers ask this, never for a class."""
    assert getattr(errors, name)("x").retryable is retryable


def test_codes_are_unique() -> None:
    """The list is part of the public records."""
    assert len(set(CODES)) == len(CODES)
