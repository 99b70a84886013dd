"""The model server of every benchmark: the simulator in a process of its own."""

import argparse

import uvloop

from bench.children import say_ready, until_stdin_closes
from millrace.providers.simulator.server import Simulator
from millrace.providers.simulator.settings import SimulatorSettings


async def run(first_token_ms: float, tokens_per_second: float) -> None:
    settings = SimulatorSettings(
        time_to_first_token_ms=first_token_ms, tokens_per_second=tokens_per_second
    )
    async with Simulator(settings) as simulator:
        say_ready(url=simulator.base_url("bench", "openai"))
        await until_stdin_closes()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first-token-ms", type=float, default=0.0)
    parser.add_argument("--tokens-per-second", type=float, default=0.0)
    given = parser.parse_args()
    uvloop.run(run(given.first_token_ms, given.tokens_per_second))
