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
