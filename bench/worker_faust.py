"""A stock Faust agent with concurrency that asks the model server itself: one hop, no promises.

requests → [streamed HTTP call] → chunks and responses.
"""

import argparse
import asyncio
import logging
import tempfile
from typing import Any

import aiohttp
import faust
import orjson
import uvloop

from bench.children import say_ready, until_stdin_closes
from bench.streamed_call import deltas, session


def build_app(given: argparse.Namespace, http: aiohttp.ClientSession) -> faust.App:
    """The app as Faust's own guide would have it, with values as bytes."""
    app = faust.App(
        given.name,
        broker=f"kafka://{given.bootstrap}",
        store="memory://",
        datadir=given.folder,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=0.5,
        broker_session_timeout=10.0,
        producer_compression_type="lz4",
        producer_linger=0.002,
        web_enabled=False,
        autodiscover=False,
        loghandlers=[],
    )

    def topic(kind: str) -> Any:
        return app.topic(
            f"{given.name}.{kind}",
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
        )

    requests, chunks, responses = topic("requests"), topic("chunks"), topic("responses")

    async def ask(stream: Any) -> None:
        async for key, value in stream.items():
            request = orjson.loads(value)
            answer = {"request_id": request["request_id"], "status": "completed"}
            text: list[str] = []
            async for delta in deltas(http, given.upstream, request["prompt"]):
                text.append(delta)
                if len(text) == 1:
                    first = {**answer, "sequence": 0, "delta": delta}
                    await chunks.send(key=key, value=orjson.dumps(first))
            last = {**answer, "sequence": 1, "delta": "".join(text[1:]), "end": "stop"}
            await chunks.send(key=key, value=orjson.dumps(last))
            answer["text"] = "".join(text)
            await responses.send(key=key, value=orjson.dumps(answer))

    app.agent(requests, name="ask", concurrency=given.concurrency)(ask)
    return app


async def run(given: argparse.Namespace) -> None:
    for name in ("faust", "mode"):
        logging.getLogger(name).setLevel(logging.ERROR)
    async with session() as http:
        app = build_app(given, http)
        ready = asyncio.Event()

        async def complete(*_: Any, **__: Any) -> None:
            ready.set()

        app.on_rebalance_complete.connect(complete, weak=False)
        await app.start()
        await ready.wait()
        say_ready(**{kind: f"{given.name}.{kind}" for kind in ("requests", "chunks", "responses")})
        await until_stdin_closes()
        await app.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--concurrency", type=int, default=256)
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as scratch:
        parser.set_defaults(folder=scratch)
        uvloop.run(run(parser.parse_args()))
