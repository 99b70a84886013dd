"""`millrace validate`: what the validator would say of an answer."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from pydantic import ValidationError

from millrace.agents.json_schema import compile_schema
from millrace.agents.repair import compose_repair
from millrace.agents.validate_output import ValidateOutput
from millrace.agents.validation.installed import load_validators
from millrace.agents.validation.rules import check_rules
from millrace.agents.validation.verdict import InvalidOutput, ValidOutput
from millrace.schemas.errors import ConfigurationError
from millrace.schemas.record import describe
from millrace.schemas.request import OutputSpec, as_task
from millrace.streams.cli.exits import FAILED
from millrace.streams.cli.options import AsJson, ConfigFile, read_settings
from millrace.streams.cli.output import print_json, say

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Exit codes: 0 valid; 1 invalid; 2 wrong options or settings.")
def validate(
    *,
    file: Annotated[
        typer.FileText, typer.Argument(metavar="FILE|-", help="The answer; - is stdin.")
    ],
    output_format: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="text, markdown, code or json."),
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A JSON Schema; implies --format json.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of code; implies --format code.")
    ] = None,
    rules: Annotated[
        str | None, typer.Option(metavar="JSON", help="Rules, as a request's output.rules.")
    ] = None,
    validator: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A validator; may be repeated.")
    ] = None,
    task: Annotated[
        str, typer.Option(metavar="TASK", help="Whose section of the config holds besides.")
    ] = "general",
    cut_off: Annotated[
        bool, typer.Option("--cut-off", help="The answer ended at its token limit.")
    ] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Check an answer as the pipeline would, without one: dry, and for nothing.

    Prints the score with its parts and what was taken off or mended, or what is wrong and what
    the model would be told.

    Examples:
      millrace validate answer.txt --schema schema.json
      millrace validate answer.md --language python --validator no_placeholders
      millrace validate - --rules '{"max_chars": 500}' --task summarization --json
    """
    named_task = as_task(task)
    if named_task is None:
        raise ConfigurationError(f"there is no task {task!r}")
    policy = read_settings(config).validation
    wanted = _output(output_format, schema, language, rules, validator)
    with ExitStack() as stack:
        names = {*wanted.validators, *policy.for_task(named_task).validators}
        validators = load_validators(
            names, timeout_seconds=policy.validator_timeout_seconds, stack=stack
        )
        check = ValidateOutput(policy=policy, validators=validators)
        found = check(wanted, file.read(), "length" if cut_off else "stop", task=named_task)
    if as_json:
        print_json(_shown(found))
    else:
        _tell(found)
    if isinstance(found, InvalidOutput):
        raise typer.Exit(FAILED)


def _output(
    output_format: str | None,
    schema: Path | None,
    language: str | None,
    rules: str | None,
    validators: list[str] | None,
) -> OutputSpec:
    implied = "json" if schema is not None else "code" if language is not None else "text"
    body: dict[str, Any] = {"format": output_format or implied, "validators": validators or []}
    if language is not None:
        body["language"] = language
    if schema is not None:
        body["schema"] = _parsed(_read(schema), f"the schema {str(schema)!r}")
    if rules is not None:
        body["rules"] = _parsed(rules, "--rules")
    try:
        output = OutputSpec.model_validate(body)
    except ValidationError as error:
        raise ConfigurationError(f"what is wanted is not clear: {describe(error)}") from error
    check_rules(output.rules)
    if output.json_schema is not None:
        compile_schema(output.json_schema)
    return output


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{str(file)!r} cannot be read: name a file of UTF-8") from error


def _parsed(text: str, what: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(f"{what} is not JSON: {error.msg}") from error


def _shown(found: ValidOutput | InvalidOutput) -> dict[str, Any]:
    if isinstance(found, ValidOutput):
        return {
            "valid": True,
            "score": found.score,
            "parts": dict(found.parts),
            "notes": found.notes,
            "text": found.text,
            "data": found.data,
        }
    return {
        "valid": False,
        "score": found.score,
        "error": found.error.model_dump(),
        "problems": [
            {"check": each.check, "message": each.message, "suggestion": each.suggestion}
            for each in found.problems
        ],
    }


def _tell(found: ValidOutput | InvalidOutput) -> None:
    if isinstance(found, ValidOutput):
        parts = ", ".join(f"{name} {value:g}" for name, value in found.parts.items())
        say(f"valid, score {found.score:g} ({parts})")
        for note in found.notes:
            say(f"note: {note}")
        return
    say(f"invalid ({found.error.code}): {found.error.message}")
    if found.problems:
        (told,) = compose_repair((), "", found.problems)
        say(f"\nThe model would be told:\n\n{told.text()}")
