"""What ClickHouse tells of ensembles and cascades."""

from typing import Any


def tier(number: int, confidence: float | None, *, sufficed: bool) -> dict[str, Any]:
    """How far a tier's answer was trusted."""
    return {
        "tier": number,
        "provider": "openai",
        "model": f"m{number}",
        "confidence": confidence,
        "threshold": 0.7,
        "sufficed": sufficed,
    }


def cascade(*results: dict[str, Any]) -> dict[str, Any]:
    """A cascade of two tiers that ended with the last of these."""
    return {
        "confidence": "logprobs",
        "tiers": 2,
        "tier": results[-1]["tier"],
        "sufficed": results[-1]["sufficed"],
        "results": list(results),
    }


async def test_how_often_each_tier_sufficed(open_clickhouse: Any, make: Any) -> None:
    """Tiers that were not asked are not counted; a climb is no fallback."""
    store = await open_clickhouse()
    cheap, poor = tier(0, 0.9, sufficed=True), tier(0, 0.3, sufficed=False)
    dear = tier(1, None, sufficed=True)
    climbed = [make.attempt(), make.attempt(2, role="answer", tier=1)]
    await store.sink.write(
        [
            make.response("r1", attempts=[make.attempt()], cascade=cascade(cheap)),
            make.response("r2", attempts=climbed, cascade=cascade(poor, dear)),
            make.response("r3", attempts=climbed, cascade=cascade(poor, dear)),
            make.response("r4", attempts=[make.attempt()]),
        ]
    )

    rows = await store.select(
        "SELECT tier, model, asked, sufficed, round(sufficed_share, 2) AS share, "
        "round(confidence, 2) AS sure FROM tiers ORDER BY tier"
    )
    [fallbacks] = await store.select("SELECT requests, fell_back FROM fallbacks")
    [kept] = await store.select(
        "SELECT attempt_tiers, cascade_tier, cascade_sufficed, decided_by FROM responses FINAL "
        "WHERE request_id = 'r2'"
    )

    assert [tuple(row.values()) for row in rows] == [
        (0, "m0", 3, 1, 0.33, 0.5),
        (1, "m1", 2, 2, 1.0, None),
    ]
    assert tuple(fallbacks.values()) == (4, 0)
    assert tuple(kept.values()) == ([0, 1], 1, True, "confidence")


async def test_how_ensembles_were_decided(open_clickhouse: Any, make: Any) -> None:
    """By mode and by what decided; partial results are counted."""
    store = await open_clickhouse()
    voted = {"mode": "vote", "members": 3, "answered": 3, "decided_by": "vote", "agreement": 1.0}
    short = {**voted, "answered": 2, "missing": [2], "partial": True, "agreement": 0.5}
    fell_back = {**voted, "mode": "best_of", "decided_by": "score", "notes": ["the judge failed"]}
    await store.sink.write(
        [
            make.response("r1", ensemble=voted, strategy="ensemble"),
            make.response("r2", ensemble=short, strategy="ensemble"),
            make.response("r3", ensemble=fell_back, strategy="ensemble"),
            make.response("r4"),
        ]
    )

    rows = await store.select(
        "SELECT mode, decided_by, requests, partial, agreement FROM ensembles ORDER BY mode"
    )

    assert [tuple(row.values()) for row in rows] == [
        ("best_of", "score", 1, 0, 1.0),
        ("vote", "vote", 2, 1, 0.75),
    ]


async def test_what_stopped_members_cost_is_counted(open_clickhouse: Any, make: Any) -> None:
    """A race's response cannot know it; the ledger does, by request and by strategy."""
    store = await open_clickhouse()
    raced = {"members": 2, "answered": 1, "cancelled": [1], "decided_by": "first"}
    race = {"strategy": "parallel", "team": "a"}
    await store.sink.write(
        [
            make.usage("r1", member=0, cost_usd="0.5", **race),
            make.usage("r1", member=1, cost_usd="0.2", status="cancelled", **race),
            make.usage("r2", member=0, cost_usd="0.1", **race),
            make.usage("r2", member=1, cost_usd=None, cost_source="unknown", **race),
            make.usage("r3", cost_usd="9"),
            make.response("r1", ensemble=raced, strategy="parallel", cost_usd="0.5"),
            make.response("r2", ensemble=raced, strategy="parallel", cost_usd="0.1"),
            make.response("r4", ensemble=raced, strategy="parallel", cost_usd="0.3"),
        ]
    )

    by_request = await store.select(
        "SELECT request_id, strategy, team, members, attempts, stopped, cost_usd, stopped_usd, "
        "unknown_cost FROM request_costs ORDER BY request_id"
    )
    by_strategy = await store.select(
        "SELECT strategy, requests, attempts, cost_usd FROM cost_by_strategy ORDER BY strategy"
    )
    [races] = await store.select("SELECT mode, requests, cost_usd, unknown_cost FROM ensembles")

    assert [tuple(row.values()) for row in by_request] == [
        ("r1", "parallel", "a", 2, 2, 1, "0.7", "0.2", 0),
        ("r2", "parallel", "a", 2, 2, 0, "0.1", None, 1),
        ("r3", "auto", "", 1, 1, 0, "9", None, 0),
    ]
    assert [tuple(row.values()) for row in by_strategy] == [
        ("auto", 1, 1, "9"),
        ("parallel", 2, 4, "0.8"),
    ]
    # Of r4 no call is in the ledger yet.
    assert tuple(races.values()) == ("", 3, "0.8", 2)
