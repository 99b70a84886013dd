"""The options that make a request, for commands that send one or show what would become of it."""

from pathlib import Path
from typing import Annotated

import typer

Prompt = Annotated[str | None, typer.Option("--prompt", help="Ask this.")]
Embed = Annotated[
    list[str] | None, typer.Option("--embed", metavar="TEXT", help="Turn this into a vector.")
]
Dimensions = Annotated[
    int | None,
    typer.Option("--dimensions", metavar="N", help="With --embed: the length of the vectors."),
]
Task = Annotated[str | None, typer.Option("--task", help="The task type, such as code_review.")]
Template = Annotated[
    str | None, typer.Option("--template", help="Ask by a template: name or name@2.")
]
Variables = Annotated[
    list[str] | None,
    typer.Option("--var", metavar="NAME=VALUE", help="Fill in the template; @FILE reads a file."),
]
Models = Annotated[
    list[str] | None, typer.Option("--model", metavar="NAME", help="Only this model.")
]
Providers = Annotated[
    list[str] | None, typer.Option("--provider", metavar="NAME", help="Only this provider entry.")
]
Strategy = Annotated[str | None, typer.Option("--strategy", help="How to route, such as ensemble.")]
Members = Annotated[int | None, typer.Option("--members", help="Models an ensemble asks.")]
Hardware = Annotated[str | None, typer.Option("--hardware", help="any, local, cloud, gpu or cpu.")]
Private = Annotated[bool, typer.Option("--private", help="Only local hardware.")]
MaxCost = Annotated[str | None, typer.Option("--max-cost", metavar="USD", help="Spend at most.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Longest answer.")]
Temperature = Annotated[float | None, typer.Option("--temperature", help="0 to 2.")]
AnswerSchema = Annotated[
    Path | None,
    typer.Option("--schema", metavar="FILE", help="Answer as JSON that fits this schema."),
]
