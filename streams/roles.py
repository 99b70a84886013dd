"""The roles that a process may take."""

from enum import StrEnum


class Role(StrEnum):
    """Parts of the pipeline that scale as processes of their own."""

    ROUTER = "router"
    CALLER = "caller"
    VALIDATOR = "validator"
    SINK = "sink"


ALL_ROLES = frozenset(Role)
