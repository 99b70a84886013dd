"""`millrace schemas`: what crosses the public topics, for machines."""

from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from millrace.schemas.errors import ConfigurationError
from millrace.streams.asyncapi import asyncapi_document
from millrace.streams.cli.options import ConfigFile, read_settings
from millrace.streams.cli.output import print_json, say
from millrace.streams.json_schemas import PUBLIC_RECORDS, json_schema
from millrace.streams.topics import TopicNames

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Exit codes: 0 fine; 2 no such record, or the folder cannot be written.")
def schemas(
    *,
    record: Annotated[
        str | None, typer.Argument(help="Print one record's JSON Schema, such as request.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write one file each, and asyncapi.json.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Write JSON Schema (2020-12) and AsyncAPI 3.0 for the public topics.

    Prints the AsyncAPI document, one JSON document, when neither record nor folder is given.

    Examples:
      millrace schemas > asyncapi.json
      millrace schemas request
      millrace schemas --out schemas/
    """
    if record is not None:
        print_json(_named(record))
        return
    kafka = read_settings(config).kafka
    document = asyncapi_document(
        names=TopicNames(kafka.topic_prefix),
        version=metadata.version("millrace"),
        bootstrap_servers=kafka.bootstrap_servers or (),
    )
    if out is None:
        print_json(document)
        return
    files = {f"{item.schema_name}.schema.json": json_schema(item) for item in PUBLIC_RECORDS}
    files["asyncapi.json"] = document
    _write(out, files)
    say(f"wrote {len(files)} files to {out}")


def _named(name: str) -> dict[str, Any]:
    for record in PUBLIC_RECORDS:
        if record.schema_name == name:
            return json_schema(record)
    known = ", ".join(record.schema_name for record in PUBLIC_RECORDS)
    raise ConfigurationError(f"there is no record {name!r}; there are {known}")


def _write(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, document in files.items():
            text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
            (folder / name).write_bytes(text)
    except OSError as error:
        raise ConfigurationError(
            f"{str(folder)!r} cannot be written: {error.strerror}; name a folder that can be"
        ) from error
