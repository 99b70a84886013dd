"""`millrace explain`: how a request would be routed, and why, without sending it."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from millrace.agents.plan_route import PlanRoute
from millrace.schemas.call import Call, Job, Plan
from millrace.schemas.errors import ConfigurationError, InvalidEventError, PipelineError
from millrace.schemas.request import Request
from millrace.streams.cli.exits import FAILED
from millrace.streams.cli.options import AsJson, ConfigFile, read_settings
from millrace.streams.cli.output import UNKNOWN, print_json, print_table, say
from millrace.streams.cli.request_flags import (
    AnswerSchema,
    Dimensions,
    Embed,
    Hardware,
    MaxCost,
    MaxTokens,
    Members,
    Models,
    Private,
    Prompt,
    Providers,
    Strategy,
    Task,
    Temperature,
    Template,
    Variables,
)
from millrace.streams.cli.request_options import request_tree, single_request
from millrace.streams.discovery import with_listed_models
from millrace.streams.planning import acceptance, planner, task_question
from millrace.streams.settings import Settings

_DRY_RUN_ID = "explain"
_PERCENT = 100

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    epilog="Exit codes: 0 it would be routed; 1 it would be rejected; 2 request or settings are "
    "wrong."
)
def explain(
    *,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[REQUEST.json|-]", help="The request; - is stdin.", show_default=False
        ),
    ] = None,
    prompt: Prompt = None,
    embed: Embed = None,
    dimensions: Dimensions = None,
    task: Task = None,
    template: Template = None,
    var: Variables = None,
    model: Models = None,
    provider: Providers = None,
    strategy: Strategy = None,
    members: Members = None,
    hardware: Hardware = None,
    private: Private = False,
    max_cost: MaxCost = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    schema: AnswerSchema = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Show which models a request would go to, in which order, and why.

    A dry run: nothing is sent, and no broker is needed. Only local entries that name no models
    are asked for theirs. How models are doing at the moment is not looked at. With --json,
    prints one document.

    Examples:
      millrace explain --prompt "Why is the sky blue?" --task reasoning
      millrace explain request.json
      echo '{"prompt": "Why is the sky blue?"}' | millrace explain - --json
    """
    tree = request_tree(
        prompt=prompt, inputs=embed or [], dimensions=dimensions, task=task, template=template,
        variables=var or [], models=model or [], providers=provider or [], strategy=strategy,
        members=members, hardware=hardware, private=private, max_cost=max_cost,
        max_tokens=max_tokens, temperature=temperature, schema=schema, now=datetime.now(UTC),
    )  # fmt: skip
    if tree and file is not None:
        raise ConfigurationError(
            "options that make a request do not go with a file: give one or the other"
        )
    request = single_request(tree) if tree else _read(file)
    settings = asyncio.run(with_listed_models(read_settings(config), os.environ))
    try:
        job, plan, asked = plan_of(request, settings, planning := planner(settings))
    except PipelineError as error:
        if isinstance(error, ConfigurationError):
            raise
        if as_json:
            print_json({"routed": False, "error": error.info().model_dump(mode="json")})
        else:
            say(f"rejected ({error.code}): {error.message}")
        raise typer.Exit(FAILED) from error
    if as_json:
        print_json(_document(job, plan, planning, asked))
    else:
        _print(job, plan, planning, asked)


def plan_of(
    request: Request, settings: Settings, planning: PlanRoute
) -> tuple[Job, Plan, Call | None]:
    """The job and the plan that the router would make of a request now.

    And the call that would ask a model for its task before; what it says may lead to another plan.

    Raises:
        PipelineError: It would be rejected; the message says why.
    """
    accept = acceptance(settings)
    guess = accept.guess_task(request)
    job = accept.accept(
        request,
        request_id=request.request_id or _DRY_RUN_ID,
        accepted_at=datetime.now(UTC),
        guess=guess,
    )
    plan = planning.plan(job, request.route, guess)
    return job, plan, task_question(settings, planning).call(job, request.route, guess, plan)


def _read(file: Path | None) -> Request:
    if file is None and sys.stdin.isatty():
        raise ConfigurationError(
            "nothing to explain: give a file with a request, - for stdin, --prompt or --embed"
        )
    try:
        source = None if file is None or str(file) == "-" else file
        text = sys.stdin.buffer.read() if source is None else source.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{str(file)!r} cannot be read: {error.strerror}") from error
    try:
        return Request.decode(text)
    except InvalidEventError as error:
        raise ConfigurationError(f"{str(file)!r} is no request: {error.message}") from error


def _candidates(job: Job, plan: Plan, planning: PlanRoute) -> list[dict[str, Any]]:
    known = {(offer.provider, offer.model): offer for offer in planning.offers}
    rows = []
    for number, member in enumerate(plan.members):
        for place, each in enumerate(member.candidates):
            offer = known[each.provider, each.model]
            rows.append(
                {
                    "stage": member.stage,
                    "member": number,
                    "role": member.role,
                    "weight": member.weight,
                    "tier": each.tier if plan.cascade is not None else None,
                    "place": place,
                    "provider": each.provider,
                    "model": each.model,
                    "hardware": each.hardware,
                    "quality": offer.quality_for(job.task),
                    "estimated_cost_usd": planning.estimated_cost(job, offer),
                }
            )
    return rows


def _document(job: Job, plan: Plan, planning: PlanRoute, asked: Call | None) -> dict[str, Any]:
    rules = plan.model_dump(mode="json", exclude={"members", "reasons", "passed_over"})
    return {
        "routed": True,
        "task": job.task,
        "task_asked_of": _models(asked),
        **rules,
        "candidates": _candidates(job, plan, planning),
        "reasons": plan.reasons,
        "passed_over": [each.model_dump(mode="json") for each in plan.passed_over],
    }


def _print(job: Job, plan: Plan, planning: PlanRoute, asked: Call | None) -> None:
    say(f"Task        {job.task} ({_source(plan)})")
    if asked is not None:
        say(f"Asked       {', '.join(_models(asked))}, for the task; else this holds:")
    say(f"Strategy    {plan.strategy}{f', mode {plan.mode}' if plan.mode else ''}")
    if plan.mode is not None or plan.quorum > 1:
        say(f"Quorum      {plan.quorum} valid answer(s)")
    if plan.cascade is not None:
        thresholds = ", then ".join(f"{each:g}" for each in plan.cascade.thresholds)
        bar = f"at least {thresholds}" if thresholds else "but the only tier's answer is taken"
        say(f"Confidence  by {plan.cascade.confidence}, {bar}")
    say(f"Cost        {_dollars(plan.estimated_cost_usd)} estimated")
    say("")
    several = len(plan.members) > 1
    columns = [
        *(("Stage", "Member", "Role") if several else ()),
        *(("Tier",) if plan.cascade is not None else ()),
        "Order", "Provider", "Model", "Runs on", "Quality", "One call",
    ]  # fmt: skip
    rows = [
        [
            *((row["stage"], row["member"], row["role"]) if several else ()),
            *((row["tier"],) if plan.cascade is not None else ()),
            row["place"] + 1,
            row["provider"],
            row["model"],
            row["hardware"],
            row["quality"],
            _dollars(row["estimated_cost_usd"]),
        ]
        for row in _candidates(job, plan, planning)
    ]
    print_table(columns, rows, right=frozenset({"Quality", "One call"}))
    say("\nWhy")
    for reason in plan.reasons:
        say(f"  - {reason}")
    if plan.passed_over:
        say("\nPassed over")
        for each in plan.passed_over:
            say(f"  - {each.provider}/{each.model}: {each.reason}")


def _models(asked: Call | None) -> list[str]:
    """Whom the task would be asked of, in order."""
    if asked is None:
        return []
    (member,) = asked.plan.members
    return [f"{each.provider}/{each.model}" for each in member.candidates]


def _source(plan: Plan) -> str:
    if plan.task_confidence is None:
        return "as named"
    if plan.task_source == "default":
        return "the rules found nothing telling"
    return f"guessed by {plan.task_source}, {plan.task_confidence * _PERCENT:.0f} % sure"


def _dollars(amount: Decimal | None) -> str:
    return UNKNOWN if amount is None else f"${amount.normalize():f}"
