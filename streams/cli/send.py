"""`millrace send`: produce requests, and follow their answers."""

import asyncio
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from millrace.schemas.chunk import Chunk
from millrace.schemas.dead_letter import DeadLetter
from millrace.schemas.errors import ConfigurationError
from millrace.schemas.ids import request_id_at, uuid7
from millrace.schemas.request import Request
from millrace.schemas.response import Response
from millrace.streams.cli.broker import find_broker, require_topics
from millrace.streams.cli.exits import FAILED, USAGE
from millrace.streams.cli.follow import Follower, Sent, followed_topics
from millrace.streams.cli.moments import Start, parse_moment
from millrace.streams.cli.options import AsJson, ConfigFile, read_settings
from millrace.streams.cli.output import print_json_line, printable, say
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
from millrace.streams.cli.request_lines import (
    BadLine,
    Outgoing,
    outgoing,
    read_raw,
    read_requests,
    requests_of,
)
from millrace.streams.cli.request_options import request_tree, single_request
from millrace.streams.cli.topic_reader import TopicReader
from millrace.streams.cli.transcript import Transcript
from millrace.streams.kafka_errors import kafka_errors
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.publisher import Publisher
from millrace.streams.topics import TopicNames

FOLLOW_SECONDS = 300.0
_NAMED = 5
_SIDE_BY_SIDE = (b'"ensemble"', b'"parallel"', b'"delegate"')
"""Of a request with one of these strategies, the words of several members come together."""
STDIN = Path("-")

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    epilog="""Exit codes: 0 sent, and with --follow all completed; 1 one did not complete, or not
in time; 2 a line is no request; 3 no broker.
"""
)
def send(
    *,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE|-]",
            help="Requests, one JSON object a line; or a single one over several lines.",
            show_default=False,
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
    stream: Annotated[bool, typer.Option("--stream", help="Tokens as they come.")] = False,
    team: Annotated[str | None, typer.Option(help="Who asks, for the books.")] = None,
    lane: Annotated[str | None, typer.Option(help="interactive or batch.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A tag.")] = None,
    request_id: Annotated[
        str | None, typer.Option("--id", help="The request's id; the same again costs nothing.")
    ] = None,
    conversation: Annotated[str | None, typer.Option(help="The conversation's id.")] = None,
    reply_to: Annotated[str | None, typer.Option(help="A topic for the answer.")] = None,
    deadline: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Give up after so long.")
    ] = None,
    followed: Annotated[
        bool, typer.Option("--follow", "-f", help="Show tokens and how each request ends.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With --follow: count answers since then, such as 1h."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="With --follow: wait so long.")
    ] = FOLLOW_SECONDS,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Send the good lines despite bad ones.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Send lines unchecked, as they are.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Send requests from a file, from stdin, or made of options.

    Everything is checked before anything is sent. With --json, prints one JSON object a line:
    where each request went or, with --follow, each terminal record.

    Examples:
      millrace send --prompt "Why is the sky blue?" --follow
      millrace send requests.jsonl --follow --timeout 60
      millrace send request.json --follow
      millrace send --template code_review@1 --var code=@app.py --var language=python -f
      jq -c . questions.json | millrace send - --json
      millrace send --embed "a mill" --embed "a river" --dimensions 256 --follow
      millrace send --prompt "7 * 6?" --strategy ensemble --members 3 --id sum-1 -f
    """
    now = datetime.now(UTC)
    tree = request_tree(
        prompt=prompt, inputs=embed or [], dimensions=dimensions, task=task, template=template,
        variables=var or [], models=model or [], providers=provider or [], strategy=strategy,
        members=members, hardware=hardware, private=private, max_cost=max_cost,
        max_tokens=max_tokens, temperature=temperature, schema=schema, stream=stream, team=team,
        lane=lane, tags=tag or [], request_id=request_id, conversation=conversation,
        reply_to=reply_to, deadline=deadline, now=now,
    )  # fmt: skip
    if tree:
        if file is not None or raw:
            raise ConfigurationError(
                "options that make a request do not go with a file or --raw: give one or the other"
            )
        if followed and not embed:
            tree["stream"] = True
        lines: Iterable[Outgoing | BadLine] = [outgoing(single_request(tree), line=1, new_id=uuid7)]
    else:
        content = _content(file)
        if raw:
            lines = read_raw(content.split(b"\n"))
        else:
            lines = read_requests(requests_of(content), new_id=uuid7)
    kafka = find_broker(read_settings(config))
    good = _sendable(lines, limit=None if raw else kafka.max_request_bytes, keep_going=keep_going)
    start = Start("end" if since is None else parse_moment(since, now=now))
    asyncio.run(
        _run(
            good,
            kafka=kafka,
            followed=followed,
            start=start,
            timeout_seconds=timeout,
            as_json=as_json,
        )
    )


def _content(file: Path | None) -> bytes:
    if file is None and sys.stdin.isatty():
        raise ConfigurationError(
            "nothing to send: give a file of JSON lines, - for stdin, --prompt or --embed"
        )
    if file is None or file == STDIN:
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{str(file)!r} cannot be read: {error.strerror}") from error


def _sendable(
    lines: Iterable[Outgoing | BadLine], *, limit: int | None, keep_going: bool
) -> list[Outgoing]:
    good: list[Outgoing] = []
    bad = 0
    for line in lines:
        problem = None
        if isinstance(line, BadLine):
            problem = line.problem
        elif limit is not None and len(line.value) > limit:
            problem = f"{len(line.value)} bytes, more than kafka.max_request_bytes {limit}"
        else:
            good.append(line)
        if problem is not None:
            bad += 1
            say(f"line {line.line}: {problem}", err=True)
    if bad and not keep_going:
        say(
            f"millrace: {bad} bad line(s), so nothing was sent; correct them, "
            "or send the good ones with --keep-going",
            err=True,
        )
        raise typer.Exit(USAGE)
    if not good:
        raise ConfigurationError("nothing to send: there is no request in the input")
    return good


async def _run(
    requests: list[Outgoing],
    *,
    kafka: KafkaSettings,
    followed: bool,
    start: Start,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    names = TopicNames(kafka.topic_prefix)
    async with AsyncExitStack() as stack:
        reader = None
        if followed:
            reader = TopicReader(kafka=kafka, topics=followed_topics(names), start=start)
            await stack.enter_async_context(reader)
        await require_topics(kafka, names.requests)
        sent = await produce(requests, kafka=kafka, topic=names.requests)
        if reader is None:
            _report(sent, as_json=as_json)
            return
        alone = len(requests) == 1 and not any(each in requests[0].value for each in _SIDE_BY_SIDE)
        ends = _Ends(inline=alone, as_json=as_json)
        follower = Follower(
            names=names,
            on_chunk=ends.chunk,
            on_response=ends.response,
            on_dead_letter=ends.dead_letter,
        )
        missing = await follower.follow(reader, sent, timeout_seconds=timeout_seconds)
    if missing:
        some = ", ".join([*sorted(missing)[:_NAMED], *(["…"] if len(missing) > _NAMED else [])])
        say(
            f"millrace: {len(missing)} request(s) had not ended after {timeout_seconds:g} s: "
            f"{some}; see what became of one with `millrace watch --request ID --from 10m`. What "
            "was sent before is not answered again: `--since 1h` shows its answer of then",
            err=True,
        )
    if missing or ends.failed:
        raise typer.Exit(FAILED)


async def produce(requests: list[Outgoing], *, kafka: KafkaSettings, topic: str) -> list[Sent]:
    """Produce the requests; return where each lies, once that is certain.

    Raises:
        BrokerError: One could not be delivered.
    """
    headers = Request.kafka_headers()
    async with Publisher(settings=kafka) as publisher:
        deliveries = [
            await publisher.publish_bytes(
                topic,
                request.value,
                key=request.key,
                headers=headers if request.checked else (),
            )
            for request in requests
        ]
        with kafka_errors(f"deliver a request to {topic!r}"):
            places = [await delivery for delivery in deliveries]
    return [
        Sent(
            request_id=request.request_id or request_id_at(topic, place.partition, place.offset),
            line=request.line,
            topic=topic,
            partition=place.partition,
            offset=place.offset,
        )
        for request, place in zip(requests, places, strict=True)
    ]


def _report(sent: list[Sent], *, as_json: bool) -> None:
    if as_json:
        for request in sent:
            print_json_line(asdict(request))
    elif len(sent) == 1:
        say(f"sent {sent[0].request_id} to {sent[0].topic}")
    else:
        say(f"sent {len(sent)} requests to {sent[0].topic}")


class _Ends:
    """Prints how requests end, and remembers whether one did not complete."""

    def __init__(self, *, inline: bool, as_json: bool) -> None:
        self.failed = False
        self._transcript = Transcript(write=_write, inline=inline)
        self._as_json = as_json

    def chunk(self, chunk: Chunk) -> None:
        if not self._as_json:
            self._transcript.chunk(chunk)

    def response(self, response: Response) -> None:
        self.failed |= response.status != "completed"
        if self._as_json:
            print_json_line(response.model_dump(mode="json"))
        else:
            self._transcript.response(response)

    def dead_letter(self, letter: DeadLetter) -> None:
        self.failed = True
        if self._as_json:
            print_json_line(letter.model_dump(mode="json"))
        else:
            say(
                f"{letter.topic} {letter.partition}@{letter.offset}: set aside · "
                f"{letter.error.code}: {printable(letter.error.message)}"
            )


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
