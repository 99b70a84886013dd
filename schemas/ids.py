"""Identifiers: made once, or derived so that redelivery makes the same ones."""

import uuid
from collections.abc import Callable

import uuid_utils

NewId = Callable[[], str]
"""Makes a fresh, unique, time-ordered identifier. Injected wherever one is needed."""

_NAMESPACE = uuid.UUID("6f2b7a0e-6d1c-5d0b-9c39-0d6c1b9a5f11")


def uuid7() -> str:
    """Make a UUIDv7 (RFC 9562 section 5.7): unique, and ordered by time."""
    return str(uuid_utils.uuid7())


def request_id_at(topic: str, partition: int, offset: int) -> str:
    """Derive the id of a request that names none from where it lies; the same on redelivery."""
    return str(uuid.uuid5(_NAMESPACE, f"{topic}/{partition}/{offset}"))


def replayed_request_id(replay_id: str, request_id: str) -> str:
    """Derive the id under which a replay sends a request again."""
    return str(uuid.uuid5(_NAMESPACE, f"replay/{replay_id}/{request_id}"))


def attempt_id(request_id: str, member: int, attempt: int) -> str:
    """Name one planned attempt: `request_id/member/attempt`."""
    return f"{request_id}/{member}/{attempt}"
