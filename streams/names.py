"""The names by which the processes of one pipeline find each other on the cluster."""

from millrace.streams.settings import Settings
from millrace.streams.topics import Changelog, TopicNames

SEEN_TABLE = "seen"
"""Request ids that were accepted."""
JOINS_TABLE = "joins"
"""What is known of each request that is being worked on or has ended."""
BUDGETS_TABLE = "budgets"
"""What each budget has granted and spent."""


def router_app_id(settings: Settings) -> str:
    """The consumer group of the routers."""
    return f"{settings.app_id}-router"


def validator_app_id(settings: Settings) -> str:
    """The consumer group of the validators."""
    return f"{settings.app_id}-validator"


def budgets_app_id(settings: Settings) -> str:
    """The consumer group of the budgets' single writers."""
    return f"{settings.app_id}-budgets"


def changelogs(settings: Settings) -> tuple[Changelog, ...]:
    """The topics that hold the tables' states; that of the budgets only where there are any."""
    topics = TopicNames(settings.kafka.topic_prefix)
    always = (
        Changelog(router_app_id(settings), SEEN_TABLE, topics.requests),
        Changelog(validator_app_id(settings), JOINS_TABLE, topics.outcomes),
    )
    if not settings.budgets.root:
        return always
    return (*always, Changelog(budgets_app_id(settings), BUDGETS_TABLE, topics.usage))
