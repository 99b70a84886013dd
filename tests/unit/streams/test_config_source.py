"""Where settings come from, and what of them can change while a process runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from millrace.schemas.errors import ConfigurationError
from millrace.streams.config_source import ConfigSource, read_env_file
from millrace.streams.live_settings import Commit, LiveSettings
from millrace.streams.settings import Settings

ENTRY = {"wire": "openai", "base_url": "http://a", "models": {"m": {}}}


def settings(**sections: Any) -> Settings:
    """Settings with two entries."""
    given: dict[str, Any] = {
        "clickhouse": {"url": "chdb:///tmp/engine"},
        "providers": {"a": ENTRY, "b": ENTRY},
    }
    return Settings.model_validate({**given, **sections})


def test_a_file_of_variables_wins_over_the_environment(tmp_path: Path) -> None:
    """For whoever started the process cannot change its environment."""
    file = tmp_path / "keys.env"
    file.write_text("# keys\n\nexport KEY_A='new'\nKEY_B=\"b=c\"\n  KEY_C = plain \n")
    source = ConfigSource(file=None, environ={"KEY_A": "old", "D": "d"}, env_file=file)

    assert source.environment() == {
        "KEY_A": "new", "KEY_B": "b=c", "KEY_C": "plain", "D": "d",
    }  # fmt: skip


def test_bad_lines_are_named_by_their_numbers_only(tmp_path: Path) -> None:
    """They may hold a key."""
    file = tmp_path / "keys.env"
    file.write_text("A=1\nsk-secret\n2B=x\n=y\n")

    with pytest.raises(ConfigurationError, match=r"line\(s\) 2, 3, 4") as caught:
        read_env_file(file)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(ConfigurationError, match=r"none\.env"):
        read_env_file(tmp_path / "none.env")


def test_the_fingerprint_goes_by_content(tmp_path: Path) -> None:
    """Of either file; one that comes into being counts."""
    config, keys = tmp_path / "millrace.toml", tmp_path / "keys.env"
    config.write_text("")
    source = ConfigSource(file=config, environ={}, env_file=keys)
    seen = [source.fingerprint()]
    for file, text in ((keys, ""), (keys, "A=1"), (config, "x = 1")):
        file.write_text(text)
        seen.append(source.fingerprint())
    config.touch()

    assert len(set(seen)) == 4
    assert source.fingerprint() == seen[-1]


async def test_what_can_change_does_and_the_rest_is_named() -> None:
    """By the path that it has in the config file."""
    before = settings()
    live = LiveSettings(running=before, loaded=before)
    waiting = await live.apply(
        settings(
            routes={"default": {"candidates": ["b/*"]}},
            requests={"default_deadline_seconds": 5},
            kafka={"partitions": 3},
            caller={"circuit": {"probes": 7}},
            providers={"a": {**ENTRY, "base_url": "http://elsewhere"}, "c": ENTRY},
        ),
        {},
    )

    assert sorted(each.partition(":")[0] for each in waiting) == [
        "caller.circuit.probes",
        "kafka.partitions",
        "providers.b",
        "providers.c",
    ]
    current = live.current
    assert current.routes.for_task("general").candidates == ("b/*",)
    assert current.requests.default_deadline_seconds == 5
    assert (current.kafka.partitions, current.caller.circuit.probes) == (6, 2)
    assert list(current.enabled_providers) == ["a"]
    assert str(current.providers["a"].base_url) == "http://elsewhere/"


async def test_an_entry_that_was_taken_out_can_come_back() -> None:
    """Its caller runs still; one that never ran takes a restart."""
    off = {**ENTRY, "enabled": False}
    before = settings(providers={"a": ENTRY, "b": off})
    live = LiveSettings(running=before, loaded=before)
    await live.apply(settings(providers={"b": off}), {})
    assert list(live.current.enabled_providers) == []

    waiting = await live.apply(settings(), {})

    assert list(live.current.enabled_providers) == ["a"]
    assert waiting == ("providers.b: new; takes a restart",)


async def test_models_that_were_listed_at_the_start_stay() -> None:
    """They stand in no file."""
    local = {**ENTRY, "hardware": "gpu", "models": {}}
    loaded = settings(providers={"a": local})
    running = settings(providers={"a": {**local, "models": {"listed": {}}}})
    live = LiveSettings(running=running, loaded=loaded)
    waiting = await live.apply(loaded, {})

    assert (list(live.current.providers["a"].models), waiting) == (["listed"], ())


async def test_where_one_part_cannot_follow_none_does() -> None:
    """Half of new settings would be neither the old nor the new ones."""
    done: list[str] = []

    def good(_: Settings, __: Mapping[str, str]) -> Commit:
        async def commit() -> None:
            done.append("good")

        return commit

    def bad(_: Settings, __: Mapping[str, str]) -> Commit:
        raise ConfigurationError("KEY_A: a key is made of visible characters")

    before = settings()
    live = LiveSettings(running=before, loaded=before)
    live.follow(good)
    live.follow(bad)

    with pytest.raises(ConfigurationError, match="KEY_A"):
        await live.apply(settings(routes={"default": {"max_candidates": 1}}), {})
    assert (done, live.current) == ([], before)
