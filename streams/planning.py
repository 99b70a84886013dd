"""The decisions of the router, made from the settings: for the router itself and for dry runs."""

from datetime import UTC, datetime

from millrace.agents.accept_request import AcceptRequest
from millrace.agents.ask_task import AskTask
from millrace.agents.health import HealthOf
from millrace.agents.joins.steps import Steps
from millrace.agents.plan_route import PlanRoute
from millrace.agents.validation.installed import validator_names
from millrace.prompts.library import PACKAGED, STEPS, PromptLibrary
from millrace.providers.pricing import Pricing
from millrace.providers.tokens import estimate_messages
from millrace.streams.offers import offers
from millrace.streams.settings import Settings
from millrace.streams.topics import max_outcome_bytes


def acceptance(settings: Settings, *, library: PromptLibrary | None = None) -> AcceptRequest:
    """What is accepted with these settings; templates are read unless their library is given.

    Raises:
        PromptError: A template cannot be used.
    """
    return AcceptRequest(
        library=library or PromptLibrary.load((PACKAGED, *settings.prompts.folders)),
        policy=settings.requests,
        own_topics=(f"{settings.kafka.topic_prefix}*", f"{settings.app_id}-*-changelog"),
        validators=validator_names(),
    )


def task_question(settings: Settings, plan: PlanRoute, *, steps: Steps | None = None) -> AskTask:
    """What asks for the task of a request; templates are read unless the steps are given."""
    return AskTask(policy=settings.classification, plan=plan, steps=steps or steps_of(settings))


def steps_of(settings: Settings) -> Steps:
    """What the steps of strategies ask; a folder of templates may hold newer versions.

    Raises:
        ConfigurationError: A template does not take what its step gives it.
    """
    return Steps(library=PromptLibrary.load((STEPS, *settings.prompts.folders)))


def planner(settings: Settings, *, health: HealthOf | None = None) -> PlanRoute:
    """How requests are routed with these settings."""
    return PlanRoute(
        offers=offers(settings.enabled_providers, Pricing(now=lambda: datetime.now(UTC))),
        policy=settings.routes,
        count_tokens=estimate_messages,
        max_outcome_bytes=max_outcome_bytes(settings.kafka),
        health=health,
        validation=settings.validation,
    )
