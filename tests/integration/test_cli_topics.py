"""Commands on a broker: what they send, read, make and change."""

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from broker_under_test import BrokerUnderTest

from millrace.schemas.dead_letter import DeadLetter
from millrace.schemas.errors import BrokerError, PipelineError
from millrace.schemas.ids import replayed_request_id
from millrace.schemas.request import Request
from millrace.schemas.response import Response
from millrace.streams.cli.follow import Follower, Sent, followed_topics
from millrace.streams.cli.moments import Start
from millrace.streams.cli.topic_reader import TopicReader
from millrace.streams.cli.topics import needed_topics
from millrace.streams.publisher import Publisher
from millrace.streams.settings import Settings, load_settings
from millrace.streams.topics import TopicNames

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Program:
    """The command `millrace` with a config file for the broker under test."""

    folder: Path
    environ: dict[str, str]
    settings: Settings

    def run(self, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        script = "from millrace.streams.cli.main import main; main()"
        return subprocess.run(
            [sys.executable, "-c", script, *arguments],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env=self.environ,
            timeout=60,
            check=False,
        )

    def json_lines(self, *arguments: str, stdin: bytes = b"") -> list[Any]:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return [orjson.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
async def program(broker: BrokerUnderTest, tmp_path: Path) -> Program:
    """The program on a broker that has the pipeline's topics."""
    environ = {
        "PATH": "/usr/bin:/bin",
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "MILLRACE_KAFKA__TOPIC_PREFIX": broker.settings.topic_prefix,
        "MILLRACE_KAFKA__PARTITIONS": "2",
        "OPENAI_API_KEY": "none",
    }
    settings = load_settings(None, {**environ, "MILLRACE_DATA_FOLDER": str(tmp_path)})
    settings = settings.model_copy(update={"app_id": broker.topic("app")})
    (tmp_path / "millrace.toml").write_text(f'app_id = "{broker.topic("app")}"\n')
    await broker.create(needed_topics(settings))
    return Program(tmp_path, environ, settings)


@pytest.fixture
def names(broker: BrokerUnderTest) -> TopicNames:
    """The topics of the broker under test."""
    return TopicNames(broker.settings.topic_prefix)


async def _write(
    broker: BrokerUnderTest, topic: str, *records: Request | Response | DeadLetter
) -> None:
    async with Publisher(settings=broker.settings) as publisher:
        for record in records:
            await (await publisher.publish(topic, record, key=None, partition=0))


def _response(request_id: str, text: str = "", **more: Any) -> Response:
    fields = {"request_id": request_id, "status": "completed", "text": text, "completed_at": NOW}
    return Response.model_validate({**fields, **more})


def test_requests_are_sent_and_can_be_watched(program: Program, names: TopicNames) -> None:
    """With the headers of their schema, keyed by conversation or id, as they were written."""
    lines = b'{"prompt": "a", "request_id": "1"}\n{"prompt": "b", "conversation_id": "talk"}\n'

    sent = program.json_lines("send", "-", "--json", stdin=lines)
    seen = program.json_lines(
        "watch", "--topic", "requests", "--from", "beginning", "--no-follow", "--json"
    )

    places = {(place["partition"], place["offset"]) for place in sent}
    assert places == {(record["partition"], record["offset"]) for record in seen}
    by_key = {record["key"]: record for record in seen}
    assert by_key["1"]["value"] == {"prompt": "a", "request_id": "1"}
    assert by_key["talk"]["value"]["request_id"] == sent[1]["request_id"]
    for record in seen:
        assert record["topic"] == names.requests
        assert record["headers"] == {"schema": "request", "schema-version": "1"}


def test_bad_lines_keep_everything_from_being_sent_unless_asked(program: Program) -> None:
    """Each is named, on stderr; --raw sends them as they are."""
    lines = b'{"prompt": "a"}\n{"prompt": ""}\nnot json\n'

    refused = program.run("send", "-", stdin=lines)
    kept_on = program.json_lines("send", "-", "--keep-going", "--json", stdin=lines)
    raw = program.json_lines("send", "-", "--raw", "--json", stdin=lines)

    assert refused.returncode == 2
    assert b"line 2: " in refused.stderr
    assert b"line 3: " in refused.stderr
    assert [place["line"] for place in kept_on] == [1]
    assert [place["line"] for place in raw] == [1, 2, 3]
    seen = program.json_lines(
        "watch", "-t", "requests", "--from", "beginning", "--no-follow", "--json"
    )
    assert len(seen) == 4


def test_a_topic_that_does_not_exist_is_named(program: Program) -> None:
    """And none is brought into being by looking."""
    for _ in range(2):
        done = program.run("watch", "--topic", "weather", "--no-follow")

        assert done.returncode == 2
        assert b"there is no topic" in done.stderr


async def test_reading_starts_where_it_is_told(
    broker: BrokerUnderTest, program: Program, names: TopicNames
) -> None:
    """At an end, an offset or a time, also where the broker has no index of times."""
    await _write(broker, names.requests, *(Request(prompt=str(n)) for n in range(5)))
    past, future = datetime.now(UTC) - timedelta(1), datetime.now(UTC) + timedelta(1)

    async def read(start: Start) -> list[int]:
        reader = TopicReader(kafka=broker.settings, topics=(names.requests,), start=start)
        async with reader:
            return [record.offset async for record in reader.records(await reader.ends())]

    assert await read(Start("beginning")) == [0, 1, 2, 3, 4]
    assert await read(Start("end")) == []
    assert await read(Start(3)) == [3, 4]
    assert await read(Start(past)) == [0, 1, 2, 3, 4]
    assert await read(Start(future)) == []


async def test_a_missing_topic_is_no_place_to_read(broker: BrokerUnderTest) -> None:
    """The reader says so and makes none."""
    topic = broker.topic("nowhere")

    with pytest.raises(BrokerError, match="does not exist"):
        async with TopicReader(kafka=broker.settings, topics=(topic,), start=Start("end")):
            pass
    async with broker.topic_admin() as admin:
        assert topic not in await admin.partition_counts()


async def test_following_ends_with_each_request_s_own_end(
    broker: BrokerUnderTest, program: Program, names: TopicNames
) -> None:
    """A terminal record, or a dead letter where there is none; others' are not reported."""
    seen: list[str] = []
    follower = Follower(
        names=names,
        on_chunk=lambda chunk: seen.append(chunk.delta),
        on_response=lambda response: seen.append(response.request_id),
        on_dead_letter=lambda letter: seen.append(letter.error.code),
    )
    sent = [
        Sent(request_id=name, line=n, topic=names.requests, partition=0, offset=n)
        for n, name in enumerate(("good", "conflict", "slow"))
    ]
    error = PipelineError("used before", code="request_id_conflict").info()
    letter = DeadLetter(topic=names.requests, partition=0, offset=1, error=error, dead_at=NOW)
    start = Start("end")
    async with TopicReader(
        kafka=broker.settings, topics=followed_topics(names), start=start
    ) as reader:
        await _write(
            broker, names.responses, _response("other"), _response("good"), _response("good")
        )
        await _write(broker, names.dead_letters, letter)

        missing = await follower.follow(reader, sent, timeout_seconds=5)

    assert missing == {"slow"}
    assert sorted(seen) == ["good", "request_id_conflict"]


def test_send_and_follow_says_what_did_not_end(program: Program) -> None:
    """With an exit code that tells."""
    done = program.run("send", "--prompt", "x", "--id", "lost", "--follow", "--timeout", "1")

    assert done.returncode == 1
    assert b"had not ended after 1 s: lost" in done.stderr


def test_topics_are_compared_with_what_is_needed(program: Program, broker: BrokerUnderTest) -> None:
    """All is well where the pipeline made them."""
    document = orjson.loads(program.run("topics", "--json").stdout)

    assert document["differences"] == []
    assert broker.topic("requests") in {topic["name"] for topic in document["topics"]}


@pytest.mark.kafka
def test_missing_topics_are_made_on_request_only(
    program: Program, real_broker: BrokerUnderTest
) -> None:
    """On a real broker."""
    prefix = f"{real_broker.settings.topic_prefix}more."
    environ = {**program.environ, "MILLRACE_KAFKA__TOPIC_PREFIX": prefix}
    environ["KAFKA_BOOTSTRAP_SERVERS"] = real_broker.bootstrap_servers
    other = Program(program.folder, environ, program.settings)

    assert other.run("topics").returncode == 1
    made = other.run("topics", "--create", "--json")
    again = other.run("topics", "--create", "--json")

    assert made.returncode == 0, made.stderr.decode()
    assert f"{prefix}requests" in orjson.loads(made.stdout)["created"]
    assert orjson.loads(again.stdout)["created"] == []


def test_a_dry_run_of_a_replay_sends_nothing(program: Program) -> None:
    """It says how many, by task, and about what cost."""
    lines = b'{"prompt": "a", "request_id": "1"}\n{"prompt": "b", "task": "reasoning"}\nbad\n'
    program.json_lines("send", "-", "--raw", "--json", stdin=lines)

    (first,) = [orjson.loads(program.run("replay", "--from", "1h", "--dry-run", "--json").stdout)]

    assert first["requests"] == 2
    assert set(first["tasks"]) == {"general", "reasoning"}
    assert first["left_out"] == {"never accepted": 1}
    assert float(first["estimated_cost_usd"]) > 0
    seen = program.json_lines(
        "watch", "-t", "requests", "--from", "beginning", "--no-follow", "--json"
    )
    assert len(seen) == 3


def test_a_replay_of_the_same_name_goes_on_where_it_was(program: Program) -> None:
    """No request is sent twice, and replays are not replayed."""
    lines = b"".join(b'{"prompt": "a", "request_id": "%d"}\n' % n for n in range(4))
    program.json_lines("send", "-", "--json", stdin=lines)
    replay = ("replay", "--from", "1h", "--replay-id", "try", "--json", "--model", "gpt-4.1-nano")

    begun = orjson.loads(program.run(*replay, "--limit", "2").stdout)
    ended = orjson.loads(program.run(*replay).stdout)

    assert (begun["requests"], ended["requests"]) == (2, 2)
    assert ended["left_out"] == {"sent before": 2, "replay": 2}
    seen = program.json_lines(
        "watch", "-t", "requests", "--from", "beginning", "--no-follow", "--json"
    )
    replays = [record["value"] for record in seen if "replay" in record["value"]]
    assert {replayed_request_id("try", str(n)) for n in range(4)} == {
        value["request_id"] for value in replays
    }
    assert len(replays) == 4
    assert all(value["route"]["models"] == ["gpt-4.1-nano"] for value in replays)
