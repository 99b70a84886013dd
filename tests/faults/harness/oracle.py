"""What must hold whatever happened, judged from outside: topics, the simulator, SQL.

Each check returns what it found wrong, in words; an empty list is a pass. Nothing here asks
the pipeline how it is doing.
"""

import base64
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from harness.load import Sent
from harness.tape import Entry, Tape
from harness.watch import Commit

from millrace.sinks.query import ClickHouseReader

_SHOWN = 8
_BOOKED = """
SELECT request_id, row_id, precedence, usage_source, status, input_tokens, cached_tokens,
       output_tokens
FROM attempts FINAL ORDER BY request_id, row_id
"""
_TABLES = """
SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%Merge%'
"""


def one_end_each(tape: Tape, sent: Iterable[Sent]) -> list[str]:
    """Every request has exactly one terminal record, however often it lies there."""
    wrong = []
    for each in sent:
        ends = tape.ends.get(each.request_id, [])
        different = {json.dumps(end, sort_keys=True) for end in ends}
        if len(different) != 1:
            wrong.append(f"{each.request_id} has {len(different)} different ends")
        elif ends[0]["status"] not in each.ends:
            error = (ends[0].get("error") or {}).get("code")
            wrong.append(f"{each.request_id} ended as {ends[0]['status']} ({error})")
    return wrong


def gapless_streams(tape: Tape, sent: Iterable[Sent]) -> list[str]:
    """Chunks of each invocation count from 0 without gaps; the winner's make the answer."""
    wrong = []
    wanted = {each.request_id for each in sent if each.stream}
    streams: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    for entry in tape.entries["chunks"]:
        body = entry.body
        if body["request_id"] in wanted:
            key = (body["request_id"], body["member"], body["attempt"], body["invocation"])
            streams[key].append(entry)
    texts: dict[str, set[str]] = defaultdict(set)
    for key, chunks in streams.items():
        # Partitions that are added move a key: then the order holds on each of its partitions.
        ordered = sorted(chunks, key=lambda each: (each.partition, each.offset))
        chunks.sort(key=lambda each: int(each.body["sequence"]))
        numbers = [each.body["sequence"] for each in chunks]
        moved = len({each.partition for each in chunks}) > 1
        if numbers != list(range(len(numbers))) or (ordered != chunks and not moved):
            wrong.append(f"the stream {key} counts {[each.body['sequence'] for each in ordered]}")
        if chunks[-1].body.get("end") in ("stop", "length"):
            texts[key[0]].add("".join(each.body["delta"] for each in chunks))
    for request_id in wanted:
        ends = tape.ends.get(request_id)
        if ends and ends[0]["status"] == "completed" and ends[0]["text"] not in texts[request_id]:
            wrong.append(f"no whole stream of {request_id} makes its answer")
    return wrong


@dataclass(frozen=True)
class AtRisk:
    """What may be made again after the death of a caller, exactly."""

    records: frozenset[tuple[str, int, int]]
    """Request, member and first attempt of each call's record that no commit calls done."""
    begun: Mapping[str, int]
    """How often the ledger's topic said by then that an attempt had been called."""
    done: frozenset[str]
    """The attempts that were over by then, by the records that say so."""

    def covers(self, attempt: str) -> bool:
        """Whether this attempt may have been under way, or ended since the last commit."""
        request_id, member, number = attempt.rsplit("/", 2)
        # A record's later attempts are made in its place, and leave no record of their own.
        return attempt in self.begun and any(
            (request_id, int(member), first) in self.records for first in range(int(number) + 1)
        )


def at_risk(
    tape: Tape, commits: Mapping[tuple[str, int], tuple[int, str]], *, prefix: str
) -> AtRisk:
    """The calls that lie on their topics and that no commit (offset, metadata) calls done."""
    found = set()
    for (topic, partition), calls in _calls(tape, prefix=prefix).items():
        committed, metadata = commits.get((topic, partition), (0, ""))
        ahead = _done_ahead(committed, metadata)
        for offset, attempt in calls:
            if offset >= committed and not any(first <= offset < past for first, past in ahead):
                request_id, member, number = attempt.rsplit("/", 2)
                found.add((request_id, int(member), int(number)))
    begun = {attempt: len(invocations) for attempt, invocations in invocations(tape).items()}
    return AtRisk(frozenset(found), begun, _done(tape))


def paid_twice(tape: Tape) -> dict[str, int]:
    """Attempts that were called more than once, and how often beyond the first time."""
    return {
        attempt: len(found) - 1 for attempt, found in invocations(tape).items() if len(found) > 1
    }


def paid_for_nothing(
    tape: Tape,
    deaths: Sequence[AtRisk],
    *,
    prefix: str,
    asked: Mapping[str, int] | None = None,
) -> list[str]:
    """Each attempt was called again at most once for each death that it was at risk at.

    With how often the simulator was `asked` for each request, what was reserved and never sent
    does not count: its partition was given up first, and the next owner made the call.

    A router or validator that died before its input was committed has written calls twice. Only
    the caller that made the first remembers it: once that has died too, the second is made.
    No clock is asked: what had begun by a death is what the ledger's topic held then.
    """
    called = invocations(tape)
    written = Counter(each for calls in _calls(tape, prefix=prefix).values() for _, each in calls)
    reserved: Counter[str] = Counter()
    for attempt, invocations_of_it in called.items():
        reserved[attempt.rsplit("/", 2)[0]] += len(invocations_of_it)
    wrong = []
    for attempt, again in paid_twice(tape).items():
        times = called[attempt].values()
        allowed = sum(death.covers(attempt) for death in deaths)
        if asked is not None:
            request_id = attempt.rsplit("/", 2)[0]
            allowed += max(0, reserved[request_id] - asked.get(request_id, 0))
        if any(0 < death.begun.get(attempt, 0) < len(times) for death in deaths):
            allowed += max(0, written[attempt] - 1)
        if again > allowed:
            when = ", ".join(f"{time / 1000:.2f}" for time in times)
            wrong.append(f"{attempt} was called at {when}, and {allowed} times more may be")
    return wrong


def in_flight_and_ended(death: AtRisk) -> tuple[int, int]:
    """Of what was at risk: how much had not ended by then, and how much had, uncommitted."""
    ended = [attempt in death.done for attempt in death.begun if death.covers(attempt)]
    return ended.count(False), ended.count(True)


def invocations(tape: Tape) -> dict[str, dict[str, int]]:
    """The invocations of each attempt that the ledger's topic tells of, in order, with times."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for entry in tape.entries["usage"]:
        if entry.schema == "usage-event":
            body = entry.body
            attempt = f"{body['request_id']}/{body['member']}/{body['attempt']}"
            found[attempt].setdefault(body["invocation"], entry.timestamp_ms)
    return found


def _done_ahead(committed: int, metadata: str) -> list[tuple[int, int]]:
    """Ranges that a commit calls done beyond its offset: pairs of LEB128 numbers in base64."""
    numbers, number, shift = [], 0, 0
    for byte in base64.b64decode(metadata.removeprefix("1:")):
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
    ranges, at = [], committed
    for skip, length in zip(numbers[::2], numbers[1::2], strict=True):
        ranges.append((at + skip, at + skip + length))
        at += skip + length
    return ranges


def every_call_is_in_the_ledger(tape: Tape, lines: Sequence[dict[str, Any]]) -> list[str]:
    """The simulator was asked no more often than the ledger's topic says, request by request."""
    booked: Counter[str] = Counter()
    for row in {
        entry.body["row_id"] for entry in tape.entries["usage"] if entry.schema == "usage-event"
    }:
        booked[row.split("/", 1)[0]] += 1
    asked = Counter(request_id for request_id, _ in by_request(lines))
    return [
        f"{request_id} was asked {count} times and booked {booked[request_id]} times"
        for request_id, count in asked.items()
        if count > booked[request_id]
    ]


async def books_are_right(reader: ClickHouseReader, lines: Sequence[dict[str, Any]]) -> list[str]:
    """ClickHouse holds what the simulator told, to the token, request by request.

    A call whose process died before it could book the answer stays as reserved; so many of a
    request's told calls may be missing, no more.
    """
    booked = await reader.query(_BOOKED)
    assert not booked.truncated, f"more than {len(booked.rows)} rows cannot be judged"
    rows = [_named(row) for row in booked.rows]
    reported: dict[str, Counter[tuple[int, int, int]]] = defaultdict(Counter)
    lost: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for row in rows:
        count[row["request_id"]] += 1
        if int(row["precedence"]) == 1 or row["usage_source"] == "estimated":
            lost[row["request_id"]] += 1
        elif row["status"] == "completed":
            reported[row["request_id"]][_tokens(row)] += 1
    told: dict[str, Counter[tuple[int, int, int]]] = defaultdict(Counter)
    asked: Counter[str] = Counter()
    for request_id, line in by_request(lines):
        asked[request_id] += 1
        if line["usage_reported"] and line["ended"] == "complete":
            told[request_id][
                (line["input_tokens"], line["cached_tokens"], line["generated_tokens"])
            ] += 1
    wrong = []
    for request_id in sorted({*told, *reported}):
        invented = reported[request_id] - told[request_id]
        missing = (told[request_id] - reported[request_id]).total()
        if invented:
            wrong.append(f"{request_id} is booked with {dict(invented)}, which nobody told")
        if missing > lost[request_id]:
            wrong.append(
                f"{request_id}: {missing} told calls are not booked, "
                f"and only {lost[request_id]} are marked as lost or estimated"
            )
    wrong += [
        f"{request_id} has {count[request_id]} rows for {number} calls"
        for request_id, number in asked.items()
        if count[request_id] < number
    ]
    return wrong


def nothing_committed_past_unfinished_work(
    tape: Tape, commits: Iterable[Commit], *, prefix: str
) -> list[str]:
    """When a commit of a caller was seen, all before it had an outcome, or a wait.

    No clock is asked: the ends of the topics were read after the commit.
    """
    done: dict[str, list[tuple[TopicPartition, int]]] = defaultdict(list)
    for entry in (*tape.entries["outcomes"], *tape.entries["retries"]):
        place = TopicPartition(prefix + entry.topic, entry.partition)
        for attempt in _attempts_done(entry):
            done[attempt].append((place, entry.offset))
    calls = _calls(tape, prefix=prefix)
    wrong = []
    checked: dict[tuple[str, int], int] = defaultdict(int)
    for commit in commits:
        at = (commit.partition.topic.removeprefix(prefix), commit.partition.partition)
        if "-caller-" not in commit.group:
            continue
        for offset, attempt in calls[at][checked[at] :]:
            if offset >= commit.offset:
                break
            checked[at] += 1
            if not any(where < commit.ends.get(place, 0) for place, where in done[attempt]):
                wrong.append(f"{attempt} was committed past and not done ({at}, {offset})")
    return wrong


def _done(tape: Tape) -> frozenset[str]:
    """The attempts that an outcome or a wait says are over."""
    return frozenset(
        attempt
        for entry in (*tape.entries["outcomes"], *tape.entries["retries"])
        for attempt in _attempts_done(entry)
    )


def _calls(tape: Tape, *, prefix: str) -> dict[tuple[str, int], list[tuple[int, str]]]:
    """The offsets and attempts of each partition of calls, dead letters left out."""
    dead = {
        (entry.body["topic"], entry.body["partition"], entry.body["offset"])
        for entry in tape.entries["dead-letters"]
    }
    found: dict[tuple[str, int], list[tuple[int, str]]] = defaultdict(list)
    for topic, entries in tape.entries.items():
        if topic.startswith("calls."):
            for entry in entries:
                if (prefix + topic, entry.partition, entry.offset) not in dead:
                    found[topic, entry.partition].append((entry.offset, _attempt(entry.body)))
    return found


async def keeps_secrets(
    tape: Tape, reader: ClickHouseReader, *, folder: Path, key: str, password: str, prompt: str
) -> list[str]:
    """No key in anything written, and no prompt in logs and errors."""
    wrong = []
    for log in folder.glob("*.log"):
        text = log.read_text("utf-8", errors="replace")
        wrong += [
            f"{log.name} holds the {name}"
            for name, secret in (("key", key), ("password", password), ("prompt", prompt))
            if secret in text
        ]
    for topic, entries in tape.entries.items():
        for entry in entries:
            if key.encode() in entry.value or password.encode() in entry.value:
                wrong.append(f"a record of {topic} holds a secret (offset {entry.offset})")
            error = entry.body.get("error")
            if isinstance(error, dict) and prompt in str(error.get("message")):
                wrong.append(f"an error on {topic} holds a prompt (offset {entry.offset})")
    for (table,) in (await reader.query(_TABLES)).rows:
        sql = f"SELECT count() FROM {table} WHERE position(toString(tuple(*)), '{key}') > 0"  # noqa: S608
        if int((await reader.query(sql)).rows[0][0]):
            wrong.append(f"the table {table} holds the key")
    return wrong


def shown(wrong: Sequence[str]) -> str:
    """The first few of them, and how many there are."""
    more = f" (and {len(wrong) - _SHOWN} more)" if len(wrong) > _SHOWN else ""
    return "; ".join(wrong[:_SHOWN]) + more


def asked(lines: Sequence[dict[str, Any]]) -> Counter[str]:
    """How often the simulator was asked for each request."""
    return Counter(request_id for request_id, _ in by_request(lines))


def by_request(lines: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Lines with the request that each belongs to; a spent directive leaves no label."""
    labels = {line["messages_sha256"]: line["label"] for line in lines if line["label"]}
    return [
        (labels[line["messages_sha256"]], line)
        for line in lines
        if line["messages_sha256"] in labels
    ]


def _tokens(row: dict[str, Any]) -> tuple[int, int, int]:
    return int(row["input_tokens"]), int(row["cached_tokens"]), int(row["output_tokens"])


def _named(row: Sequence[Any]) -> dict[str, Any]:
    names = (
        "request_id",
        "row_id",
        "precedence",
        "usage_source",
        "status",
        "input_tokens",
        "cached_tokens",
        "output_tokens",
    )
    return dict(zip(names, row, strict=True))


def _attempt(call: dict[str, Any]) -> str:
    return f"{call['job']['request_id']}/{call.get('member', 0)}/{call.get('attempt', 1)}"


def _attempts_done(entry: Entry) -> list[str]:
    """The attempts that this record says are over, those of its call's history included."""
    call = entry.body.get("call")
    if not call:
        return []
    request_id, member = call["job"]["request_id"], call.get("member", 0)
    earlier = [
        f"{request_id}/{each.get('member', 0)}/{each['attempt']}"
        for each in call.get("history", ())
    ]
    own = [f"{request_id}/{member}/{call.get('attempt', 1)}"] if entry.topic == "outcomes" else []
    # Put off as it is, because its circuit is open: the wait itself is what follows.
    if entry.topic == "retries" and not earlier:
        own = [_attempt(call)]
    return [*own, *earlier]
