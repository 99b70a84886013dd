"""What counts as seen before."""

from millrace.providers.simulator.call import SimulatedCall, Turn
from millrace.providers.simulator.prompt_cache import BLOCK_TOKENS, LEAST_TOKENS, PromptCache


def _call(words: int, end: str, *, model: str = "m", instance: str = "a") -> SimulatedCall:
    turns = (Turn("system", "word " * words), Turn("user", end))
    return SimulatedCall(instance=instance, model=model, stream=True, turns=turns)


def test_a_long_beginning_is_cached_the_second_time() -> None:
    """In whole blocks; what follows it may differ."""
    cache = PromptCache()
    blocks = 1500 // BLOCK_TOKENS * BLOCK_TOKENS

    assert [(0, blocks), (blocks, 0)] == [cache.lookup(_call(1500, end)) for end in ("a", "b")]


def test_a_short_prompt_is_never_cached() -> None:
    """As with the providers."""
    cache = PromptCache()

    assert [cache.lookup(_call(LEAST_TOKENS // 2, "a")) for _ in range(2)] == [(0, 0)] * 2


def test_models_and_instances_do_not_share() -> None:
    """Each has a cache of its own."""
    cache = PromptCache()
    cache.lookup(_call(1500, "a"))

    assert cache.lookup(_call(1500, "a", model="n"))[0] == 0
    assert cache.lookup(_call(1500, "a", instance="b"))[0] == 0


def test_a_difference_at_the_start_spoils_the_rest() -> None:
    """Only beginnings count."""
    cache = PromptCache()
    cache.lookup(_call(1500, "a"))
    changed = SimulatedCall(
        instance="a", model="m", stream=True, turns=(Turn("system", "other " + "word " * 1499),)
    )

    assert cache.lookup(changed)[0] == 0
