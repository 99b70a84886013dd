"""What the view of embeddings says of small amounts of data."""

from typing import Any

VECTORS = ((0.5, 0.5), (1.0, 0.0), (0.0, 1.0))


async def test_vectors_are_counted_by_model_team_and_length(
    open_clickhouse: Any, make: Any
) -> None:
    """Answers in words, failures and replays are left out; an unknown cost is no 0."""
    store = await open_clickhouse()
    embedded = {"provider": "openai", "model": "small", "team": "a", "embeddings": VECTORS}
    replay = {"replay_id": "again", "original_request_id": "r1"}
    await store.sink.write(
        [
            make.response("r1", **embedded, cost_usd="0.25"),
            make.response("r2", **embedded, cost_usd="0.5"),
            make.response("r3", **embedded | {"embeddings": ((0.5,),), "cost_usd": None}),
            make.response("r4", **embedded, replay=replay),
            make.response("r5", **embedded | {"embeddings": (), "status": "failed"}),
        ]
    )

    rows = await store.select("SELECT * FROM embeddings ORDER BY dimensions DESC")
    assert [
        (row["model"], row["team"], row["dimensions"], row["requests"], row["vectors"])
        for row in rows
    ] == [("small", "a", 2, 2, 6), ("small", "a", 1, 1, 1)]
    assert [(row["cost_usd"], row["unknown_cost"]) for row in rows] == [("0.75", 0), (None, 1)]
