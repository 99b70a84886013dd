"""What the views say of small amounts of data that can be reckoned by hand."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.sinks.reports import REPORTS

PAST, FUTURE = timedelta(hours=-1), timedelta(hours=1)


async def test_costs_are_summed_by_day_team_model_task_and_prompt(
    open_clickhouse: Any, make: Any
) -> None:
    """Each cost view sums what was spent, by its own key; replays are left out."""
    store = await open_clickhouse()
    prompt = {"name": "review", "version": 3, "sha256": "f" * 64}
    await store.sink.write(
        [
            make.usage("r1", team="a", task="reasoning", prompt=prompt, cost_usd="0.000000000001"),
            make.usage("r1", team="a", task="reasoning", attempt=2, model="big", cost_usd="1.1"),
            make.usage("r2", team="b", started_at=make.now - timedelta(days=2), cost_usd="0.25"),
            make.usage("r3", team="b", cost_usd=None, cost_source="unknown"),
            make.usage("r4", team="b", replay_id="again", cost_usd="99"),
        ]
    )
    today, before = str(make.now.date()), str((make.now - timedelta(days=2)).date())

    async def sums(view: str, *keys: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        rows = await store.select(f"SELECT * FROM {view}")  # noqa: S608  # our own names
        return {
            tuple(row[key] for key in keys): (
                row["requests"],
                row["attempts"],
                row["unknown_cost"],
                row["input_tokens"],
                row["cost_usd"],
            )
            for row in rows
        }

    assert await sums("cost_by_day", "day") == {
        (today,): (2, 3, 1, 300, "1.100000000001"),
        (before,): (1, 1, 0, 100, "0.25"),
    }
    assert await sums("cost_by_team", "day", "team") == {
        (today, "a"): (1, 2, 0, 200, "1.100000000001"),
        (today, "b"): (1, 1, 1, 100, None),
        (before, "b"): (1, 1, 0, 100, "0.25"),
    }
    assert await sums("cost_by_model", "day", "provider", "model") == {
        (today, "openai", "gpt"): (2, 2, 1, 200, "0.000000000001"),
        (today, "openai", "big"): (1, 1, 0, 100, "1.1"),
        (before, "openai", "gpt"): (1, 1, 0, 100, "0.25"),
    }
    assert await sums("cost_by_task", "day", "task") == {
        (today, "reasoning"): (1, 2, 0, 200, "1.100000000001"),
        (today, "general"): (1, 1, 1, 100, None),
        (before, "general"): (1, 1, 0, 100, "0.25"),
    }
    assert await sums("cost_by_prompt", "prompt_name", "prompt_version") == {
        ("review", 3): (1, 1, 0, 100, "0.000000000001")
    }


async def test_a_call_without_an_end_is_in_flight_and_then_lost(
    open_clickhouse: Any, make: Any
) -> None:
    """Before its deadline a reservation is under way; after it, an estimate in the books."""
    store = await open_clickhouse()
    usage = {"input_tokens": 7, "output_tokens": 5, "source": "reported"}
    await store.sink.write(
        [
            make.usage("open", "reserved", cost_usd="2", deadline=make.now + FUTURE),
            make.usage("lost", "reserved", cost_usd="3", deadline=make.now + PAST, usage=usage),
            make.usage("done", "spent", cost_usd="5", deadline=make.now + PAST),
        ]
    )

    rows = await store.select("SELECT request_id, status, usage_source FROM ledger")
    [day] = await store.select("SELECT attempts, lost, estimated, cost_usd FROM cost_by_day")
    [under_way] = await store.select("SELECT attempts, reserved_usd FROM in_flight")
    [error] = await store.select("SELECT code, attempts, cost_usd FROM errors")

    assert {row["request_id"]: (row["status"], row["usage_source"]) for row in rows} == {
        "open": ("in_flight", "estimated"),
        "lost": ("lost", "estimated"),
        "done": ("completed", "reported"),
    }
    assert day == {"attempts": 2, "lost": 1, "estimated": 1, "cost_usd": "8"}
    assert under_way == {"attempts": 1, "reserved_usd": "2"}
    assert error == {"code": "lost", "attempts": 1, "cost_usd": "3"}


async def test_latency_is_that_of_completed_calls(open_clickhouse: Any, make: Any) -> None:
    """Quantiles leave out failed calls, and first tokens that never came."""
    store = await open_clickhouse()
    timings = [(n, {"total_ms": n * 10, "time_to_first_token_ms": n}) for n in range(1, 102)]
    await store.sink.write(
        [make.usage(f"r{n}", timing=timing) for n, timing in timings]
        + [make.usage("plain", timing={"total_ms": 510})]
        + [make.usage("failed", status="failed", timing={"total_ms": 9e6})]
    )

    [row] = await store.select("SELECT * FROM latency")

    assert row["attempts"] == 102
    assert row["first_token_p50_ms"] == pytest.approx(51)
    assert row["first_token_p90_ms"] == pytest.approx(91)
    assert row["first_token_p99_ms"] == pytest.approx(100)
    assert row["total_p50_ms"] == pytest.approx(510)
    assert row["total_p99_ms"] == pytest.approx(1000, rel=0.01)


async def test_errors_are_counted_by_provider_model_and_code(
    open_clickhouse: Any, make: Any
) -> None:
    """A call without an error code goes by its status; completed ones are no errors."""
    store = await open_clickhouse()
    await store.sink.write(
        [
            make.usage("r1", status="failed", error_code="rate_limited", cost_usd=None),
            make.usage("r1", attempt=2, status="failed", error_code="rate_limited", cost_usd="1"),
            make.usage("r2", status="cancelled", provider="ollama"),
            make.usage("r3"),
        ]
    )

    rows = await store.select(
        "SELECT provider, code, attempts, requests, cost_usd, unknown_cost FROM errors "
        "ORDER BY provider"
    )

    assert [tuple(row.values()) for row in rows] == [
        ("ollama", "cancelled", 1, 1, "0.5", 0),
        ("openai", "rate_limited", 2, 1, "1", 1),
    ]


async def test_keys_are_told_apart_by_the_names_of_their_variables(
    open_clickhouse: Any, make: Any
) -> None:
    """Every call that ended is one of its key's, and what has no key is left out."""
    store = await open_clickhouse()
    refused = {"status": "failed", "error_code": "authentication_failed", "cost_usd": "0"}
    await store.sink.write(
        [
            make.usage("r1", key_alias="KEY_A", **refused),
            make.usage("r1", attempt=2, key_alias="KEY_B", cost_usd="1"),
            make.usage("r2", key_alias="KEY_B", cost_usd=None),
            make.usage("r3", key_alias=None),
            make.usage("r4", "reserved", key_alias="KEY_B"),
        ]
    )

    rows = await store.select(
        "SELECT key_alias, attempts, completed, refused, cost_usd, unknown_cost FROM calls_by_key "
        "ORDER BY key_alias"
    )

    assert [tuple(row.values()) for row in rows] == [
        ("KEY_A", 1, 0, 1, "0", 0),
        ("KEY_B", 2, 2, 0, "1", 1),
    ]


async def test_fallbacks_tell_needed_from_successful_ones(open_clickhouse: Any, make: Any) -> None:
    """Members of an ensemble are no fallbacks; a second attempt of one member is."""
    store = await open_clickhouse()
    limited = {"code": "rate_limited", "message": "slow down"}
    failed = make.attempt(1, "failed", error=limited)
    await store.sink.write(
        [
            make.response("r1", attempts=[make.attempt()]),
            make.response("r2", attempts=[failed, make.attempt(2, provider="ollama")]),
            make.response("r3", status="failed", attempts=[failed, make.attempt(2, "failed")]),
            make.response("r4", attempts=[make.attempt(member=0), make.attempt(member=1)]),
            make.response("r5", status="rejected"),
            make.response(
                "r6",
                replay={"replay_id": "again", "original_request_id": "r3"},
                attempts=[failed, make.attempt(2)],
            ),
        ]
    )

    [row] = await store.select("SELECT * FROM fallbacks")
    causes = await store.select(
        "SELECT provider, code, attempts, requests, completed_requests FROM fallback_causes "
        "ORDER BY code"
    )

    del row["day"]
    assert row == {
        "task": "general",
        "requests": 4,
        "fell_back": 2,
        "completed_after_fallback": 1,
        "fallback_share": 0.5,
        "success_share": 0.5,
    }
    assert [tuple(cause.values()) for cause in causes] == [
        ("openai", "failed", 1, 1, 0),
        ("openai", "rate_limited", 2, 2, 1),
    ]


async def test_cache_savings_are_the_cached_share_of_the_input(
    open_clickhouse: Any, make: Any
) -> None:
    """The share is over all input of a model, and unknown where there was none."""
    store = await open_clickhouse()
    await store.sink.write(
        [
            make.usage("r1", usage={"input_tokens": 100, "cached_tokens": 80}),
            make.usage("r2", usage={"input_tokens": 300, "cache_write_tokens": 9}),
            make.usage("r3", model="none", usage={}),
        ]
    )

    rows = await store.select("SELECT * FROM cache_savings ORDER BY model")

    assert [tuple(row.values())[2:] for row in rows] == [
        ("gpt", 400, 80, 9, 0.2),
        ("none", 0, 0, 0, None),
    ]


async def test_dead_letters_are_counted_by_reason(open_clickhouse: Any, make: Any) -> None:
    """Redelivered dead letters count once; the last message stands for its kind."""
    store = await open_clickhouse()
    later = make.now + timedelta(seconds=5)
    error = {"code": "invalid_json", "message": "the last"}
    letters = [make.dead_letter(1), make.dead_letter(2, dead_at=later, error=error)]
    tombstone = make.dead_letter(
        3, value=None, request_id="r1", error={"code": "tombstone", "message": "empty"}
    )
    await store.sink.write([*letters, tombstone])
    await store.sink.write(letters)

    rows = await store.select(
        "SELECT code, records, with_request_id, last_message FROM dead_letter_reasons ORDER BY code"
    )

    assert [tuple(row.values()) for row in rows] == [
        ("invalid_json", 2, 0, "the last"),
        ("tombstone", 1, 1, "empty"),
    ]


async def test_evaluations_set_original_and_replay_side_by_side(
    open_clickhouse: Any, make: Any
) -> None:
    """Status, cost, latency and text of both; a missing original leaves its side empty."""
    store = await open_clickhouse()

    def replay_of(request_id: str) -> dict[str, str]:
        return {"replay_id": "again", "original_request_id": request_id}

    slow, quick = {"total_ms": 900.0}, {"total_ms": 100.0}
    replayed = {"text": "blue!", "model": "new", "cost_usd": "0.1", "timing": quick}
    await store.sink.write(
        [
            make.response("r1", text="blue", cost_usd="0.3", timing=slow),
            make.response("x1", replay=replay_of("r1"), **replayed),
            make.response("x2", status="failed", replay=replay_of("gone")),
            make.response("r3", text="unrelated"),
        ]
    )

    first, second = await store.select("SELECT * FROM evaluations ORDER BY replay_request_id")

    assert (first["original_status"], first["replay_status"]) == ("completed", "completed")
    assert (first["original_model"], first["replay_model"]) == ("gpt", "new")
    assert (first["original_cost_usd"], first["replay_cost_usd"]) == ("0.3", "0.1")
    assert first["cost_difference_usd"] == "-0.2"
    assert (first["original_total_ms"], first["replay_total_ms"]) == (900, 100)
    assert (first["original_text"], first["replay_text"]) == ("blue", "blue!")
    assert first["same_text"] == 0
    assert (second["original_status"], second["original_cost_usd"]) == ("", None)
    assert (second["replay_status"], second["same_text"]) == ("failed", None)


async def test_endings_leave_replays_out_and_count_unknown_costs(
    open_clickhouse: Any, make: Any
) -> None:
    """A request without a call costs nothing; one with a call of unknown cost is counted."""
    store = await open_clickhouse()
    error = {"code": "invalid_request", "message": "bad"}
    await store.sink.write(
        [
            make.response("r1", cost_usd="0.3", usage={"input_tokens": 1}),
            make.response("r2", usage={"input_tokens": 1}),
            make.response("r3", status="rejected", error=error),
            make.response("x", replay={"replay_id": "again", "original_request_id": "r1"}),
        ]
    )

    rows = await store.select(
        "SELECT status, code, requests, cost_usd, unknown_cost FROM endings ORDER BY status"
    )

    assert [tuple(row.values()) for row in rows] == [
        ("completed", "", 2, "0.3", 1),
        ("rejected", "invalid_request", 1, None, 0),
    ]


async def test_quality_counts_answers_and_what_was_none(open_clickhouse: Any, make: Any) -> None:
    """Replays and requests that ended for other reasons are left out."""
    store = await open_clickhouse()
    mended = {"score": 0.5, "parts": {"json": 0.5}, "notes": ["mended"]}
    invalid = {"code": "output_invalid", "message": "not JSON"}
    late = {"code": "deadline_exceeded", "message": "late"}
    replay = {"replay_id": "again", "original_request_id": "r1"}
    await store.sink.write(
        [
            make.response("r1", quality={"score": 1.0, "parts": {"json": 1.0}}),
            make.response("r2", quality=mended),
            make.response("r3", status="failed", error=invalid),
            make.response("r4", status="failed", error=late),
            make.response("r5", quality=mended, replay=replay),
        ]
    )

    rows = await store.select("SELECT requests, answers, score, noted, invalid FROM quality")
    assert [tuple(row.values()) for row in rows] == [(3, 2, 0.75, 1, 1)]
    stored = await store.select(
        "SELECT quality_parts['json'] AS part, quality_notes AS notes FROM responses "
        "WHERE request_id = 'r2'"
    )
    assert [tuple(row.values()) for row in stored] == [(0.5, ["mended"])]


async def test_open_requests_are_those_without_an_end(open_clickhouse: Any, make: Any) -> None:
    """Asked, not ended, not a replay; overdue once the deadline has passed."""
    store = await open_clickhouse()
    replay = {"replay_id": "again", "original_request_id": "r1"}
    await store.sink.write(
        [
            make.request("r1"),
            make.request("r2", deadline=make.now + PAST),
            make.request("r3"),
            make.request("r4", replay=replay),
            make.response("r3"),
        ]
    )

    rows = await store.select("SELECT request_id, overdue FROM requests_open ORDER BY request_id")

    assert [tuple(row.values()) for row in rows] == [("r1", None), ("r2", 1)]


async def test_plans_are_seen_beside_what_came_of_them(open_clickhouse: Any, make: Any) -> None:
    """Whom it was planned to ask, why others were not, and what it cost against the estimate."""
    store = await open_clickhouse()
    candidates = [
        {"provider": "openai", "model": "gpt", "hardware": "cloud"},
        {"provider": "gpu", "model": "llama", "hardware": "gpu", "tier": 1},
    ]
    plan = {
        "strategy": "cascade",
        "members": [{"candidates": candidates}],
        "reasons": ["strategy cascade as asked"],
        "complexity": 0.5,
        "task_source": "rules",
        "task_confidence": 0.8,
        "estimated_cost_usd": "0.0012",
        "passed_over": [
            {"provider": "lab", "model": "m", "reason": "its quality 40 is below 60"},
            {"provider": "lab", "model": "n", "reason": "it lacks tools"},
        ],
    }
    asked = {"plan": plan, "strategy": "cascade", "cost_usd": "0.001"}
    await store.sink.write([make.response("r1", **asked), make.response("r2", **asked)])

    [routed] = await store.select("SELECT * FROM routing")
    over = await store.select("SELECT model, reason, requests FROM passed_over_reasons")
    [kept] = await store.select(
        "SELECT planned, route_reasons, task_confidence FROM responses FINAL WHERE request_id='r1'"
    )

    assert (routed["requests"], routed["guessed"], routed["complexity"]) == (2, 2, 0.5)
    assert Decimal(routed["estimated_usd"]) == Decimal("0.0024")
    assert Decimal(routed["cost_usd"]) == Decimal("0.002")
    assert sorted(tuple(row.values()) for row in over) == [
        ("m", "its quality N is below N", 2),
        ("n", "it lacks tools", 2),
    ]
    assert len(kept["planned"]) == 2
    assert kept["route_reasons"] == ["strategy cascade as asked"]
    assert kept["task_confidence"] == 0.8


async def test_every_report_answers_with_the_columns_it_promises(
    open_clickhouse: Any, make: Any
) -> None:
    """A report's query runs and gives a row for data that concerns it."""
    store = await open_clickhouse()
    replay = {"replay_id": "again", "original_request_id": "r1"}
    failed = make.attempt(1, "failed")
    prompt = {"name": "review", "version": 3, "sha256": "f" * 64}
    plan = {
        "strategy": "auto",
        "members": [{"candidates": [{"provider": "openai", "model": "gpt", "hardware": "cloud"}]}],
        "passed_over": [{"provider": "lab", "model": "mystery", "reason": "it lacks tools"}],
    }
    await store.sink.write(
        [
            make.request("r1"),
            make.usage("r1", "reserved", prompt=prompt),
            make.usage("r2", prompt=prompt, timing={"total_ms": 5}, key_alias="KEY"),
            make.usage("r3", status="failed"),
            make.response(
                "r2", attempts=[failed, make.attempt(2)], plan=plan, quality={"score": 1.0}
            ),
            make.response(
                "r4",
                ensemble={"members": 2, "answered": 2},
                cascade={
                    "confidence": "score",
                    "tiers": 2,
                    "results": [{"tier": 0, "provider": "openai", "model": "gpt"}],
                },
            ),
            make.response("r5", embeddings=((0.5,),)),
            make.response("x1", replay=replay),
            make.dead_letter(),
        ]
    )
    today = make.now.date()
    await store.reader.open()

    for report in REPORTS.values():
        answer = await store.reader.query(report.sql, parameters={"since": today})
        later = {"since": today + timedelta(days=1)}
        nothing = await store.reader.query(report.sql, parameters=later)

        assert answer.columns == tuple(column.name for column in report.columns), report.name
        assert len(answer.rows) >= 1, report.name
        assert nothing.rows == [], report.name


CALLS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.decimals(0, 1000, places=9)),  # reserved
        st.one_of(st.none(), st.decimals(0, 1000, places=9)),  # spent
        st.sampled_from(["reserved", "spent", "both"]),
        st.booleans(),  # whether the deadline has passed
    ),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(calls=CALLS, data=st.data())
async def test_no_order_and_no_repetition_changes_a_sum(
    embedded_clickhouse: Any, make: Any, calls: Any, data: st.DataObject
) -> None:
    """However often, in whatever order and batches events come: the sums are those of once each."""
    store = await embedded_clickhouse()
    # Not drawn: an id that comes again finds the rows of an earlier example.
    team = f"team {uuid4()}"
    events = []
    expected, unknown, lost, count = Decimal(0), 0, 0, 0
    for number, (reserved, spent, kind, passed) in enumerate(calls):
        deadline = make.now + (PAST if passed else FUTURE)
        common = {"team": team, "deadline": deadline, "request_id": f"{team}{number}"}
        if kind != "spent":
            events.append(make.usage(event="reserved", cost_usd=reserved, **common))
        if kind != "reserved":
            events.append(make.usage(event="spent", cost_usd=spent, **common))
        if kind == "reserved" and not passed:
            continue
        cost = reserved if kind == "reserved" else spent
        count += 1
        lost += kind == "reserved"
        unknown += cost is None
        expected += cost or 0
    deliveries = data.draw(st.permutations(events * 3))
    cut = data.draw(st.integers(0, len(deliveries)))

    await store.sink.write(deliveries[:cut])
    await store.sink.write(deliveries[cut:])
    rows = await store.select("SELECT * FROM cost_by_team WHERE team = {team:String}", team=team)

    if not count:
        assert rows == []
        return
    [row] = rows
    assert (row["attempts"], row["lost"], row["unknown_cost"]) == (count, lost, unknown)
    assert Decimal(row["cost_usd"] or 0) == expected
