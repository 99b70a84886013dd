"""Has a small model say what kind of work a request is, where the rules are not sure."""

from dataclasses import dataclass

from millrace.agents.classify_task import TaskGuess
from millrace.agents.joins.steps import Steps
from millrace.agents.plan_route import PlanRoute
from millrace.agents.policy import ClassificationPolicy
from millrace.schemas.call import Call, Job, Plan, Undecided
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.request import OutputSpec, Parameters, Route
from millrace.schemas.vocabulary import Strategy

_SIDES: frozenset[Strategy] = frozenset({"local_only", "cloud_only"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AskTask:
    """Makes the call that comes before a request's plan, if there is to be one."""

    policy: ClassificationPolicy
    plan: PlanRoute
    steps: Steps

    def call(self, job: Job, route: Route, guess: TaskGuess | None, plan: Plan) -> Call | None:
        """Ask one of the configured models; None where nobody is asked.

        The models are bound by the request's privacy, hardware, side and cost as those are that
        answer it, and nobody is asked where none of them may be. What the question may cost is
        taken from `max_cost_usd`; where too little is left, it is not asked. `plan` is the one by
        the `guess`; it and the route travel in the call.
        """
        if guess is None or not self.policy.models or guess.confidence >= self.policy.below:
            return None
        asked = job.model_copy(
            update={"output": OutputSpec(), "parameters": Parameters(), "tools": ()}
        )
        within = Route(
            strategy=route.strategy if route.strategy in _SIDES else "local_first",
            models=self.policy.models,
            hardware=route.hardware,
            sensitivity=route.sensitivity,
            max_cost_usd=route.max_cost_usd,
        )
        try:
            question = self.plan.plan(asked, within, guess)
            if route.max_cost_usd is not None and question.estimated_cost_usd:
                rest = route.max_cost_usd - question.estimated_cost_usd
                route = route.model_copy(update={"max_cost_usd": rest})
                plan = self.plan.plan(job, route, guess)
        except InvalidEventError:
            return None
        (member,) = question.members
        classifying = member.model_copy(update={"role": "classify"})
        return Call(
            job=job,
            plan=question.model_copy(update={"members": (classifying,)}),
            brief=self.steps.classify(job),
            undecided=Undecided(route=route, plan=plan),
        )
