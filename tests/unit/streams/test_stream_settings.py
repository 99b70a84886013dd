"""Settings from the file and the environment."""

from pathlib import Path

import pytest

from millrace.schemas.errors import ConfigurationError
from millrace.streams.names import changelogs
from millrace.streams.settings import Settings, load_settings


def written(folder: Path, text: str) -> Path:
    """A config file."""
    file = folder / "millrace.toml"
    file.write_text(text)
    return file


def test_promised_defaults() -> None:
    """What the documentation says holds when nothing is set."""
    settings = load_settings(None, {})

    assert settings.app_id == "millrace"
    assert settings.kafka.bootstrap_servers is None
    assert settings.kafka.topic_prefix == "llm."
    assert settings.clickhouse.location.endswith("/.millrace/clickhouse")
    assert settings.clickhouse.embedded
    assert settings.clickhouse.engine_min_free_bytes == 256 * 2**20
    assert settings.providers == {}
    assert settings.budgets.root == ()
    assert settings.router.dedup_window_seconds == 6 * 3600
    assert settings.validator.finished_window_seconds == 6 * 3600
    assert settings.validation.default.max_repairs == 1
    assert settings.validation.default.extraction == "lines"
    assert settings.validation.when_validator_fails == "fail"
    assert settings.caller.chunk_flush_seconds == 0.03
    assert settings.caller.commit_interval_seconds == 0.5
    assert settings.caller.commit_after_calls == 100
    assert settings.caller.drain_seconds == 30
    assert settings.caller.cancellation_window_seconds == 3600
    assert settings.requests.default_deadline_seconds == 600
    assert settings.requests.max_request_bytes == 900_000
    assert settings.requests.reply_to == ("*replies*",)
    assert (settings.web.host, settings.web.port) == ("127.0.0.1", 6066)
    assert (settings.log.level, settings.log.format) == ("info", "auto")


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    """With its place, so that one look suffices."""
    file = written(
        tmp_path,
        """
        colour = "blue"
        [web]
        port = 70000
        [caller]
        drain_seconds = -1
        [providers.x]
        wire = "telegraph"
        base_url = "http://localhost"
        [[budgets]]
        name = "nothing"
        [[budgets]]
        name = "weekly"
        usd = "-1"
        """,
    )
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file, {"MILLRACE_LOG__LEVEL": "loud"})

    message = caught.value.message
    assert message.startswith("7 problem(s) with the settings")
    for place in ("colour", "web.port", "caller.drain_seconds", "providers.x.wire", "log.level"):
        assert f"\n  - {place}" in message
    for place in ("budgets.0: ", "budgets.1.usd"):
        assert f"\n  - {place}" in message
    assert str(file) in message


def test_keys_that_are_not_set_are_named_with_what_to_do() -> None:
    """All of them; their values are never settings."""
    environ = {
        "MILLRACE_PROVIDERS__A": '{"wire":"openai","base_url":"http://a","api_key_env":["K1","K2"]}',
        "MILLRACE_PROVIDERS__B": '{"wire":"openai","base_url":"http://b","api_key_env":["K3"],'
        '"enabled":false}',
        "K2": "secret-value",
    }
    with pytest.raises(ConfigurationError) as caught:
        load_settings(None, environ)

    message = caught.value.message
    assert "providers.a.api_key_env: environment variable K1 is not set" in message
    assert "K2" not in message
    assert "K3" not in message
    assert "secret-value" not in message


def test_a_variable_wins_over_the_file(tmp_path: Path) -> None:
    """Its value is JSON where it is JSON, else text."""
    file = written(
        tmp_path, '[web]\nport = 1\n[kafka]\nbootstrap_servers = ["file:1"]\ntopic_prefix = "f."\n'
    )
    settings = load_settings(
        file,
        {
            "MILLRACE_WEB__PORT": "2",
            "MILLRACE_KAFKA__TOPIC_PREFIX": "e.",
            "KAFKA_BOOTSTRAP_SERVERS": "usual:1",
        },
    )

    assert settings.web.port == 2
    assert settings.kafka.topic_prefix == "e."
    assert settings.kafka.bootstrap_servers == ("usual:1",)


def test_a_variable_reaches_names_that_variables_cannot_spell(tmp_path: Path) -> None:
    """`ollama-gpu` is `OLLAMA_GPU`."""
    file = written(
        tmp_path,
        '[providers.ollama-gpu]\nwire = "ollama"\nbase_url = "http://a"\nhardware = "gpu"\n',
    )
    settings = load_settings(file, {"MILLRACE_PROVIDERS__OLLAMA_GPU__ENABLED": "false"})

    assert settings.enabled_providers == {}
    assert settings.providers["ollama-gpu"].hardware == "gpu"


def test_a_variable_that_names_no_section_is_a_problem() -> None:
    """And none of the others is hidden by it."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(None, {"MILLRACE_APP_ID__X__Y": "1", "MILLRACE_APP_ID__Z": ""})

    assert "app_id" in caught.value.message


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("OPENAI_API_KEY", "k", "openai"),
        ("ANTHROPIC_API_KEY", "k", "anthropic"),
        ("GEMINI_API_KEY", "k", "gemini"),
        ("OPENROUTER_API_KEY", "k", "openrouter"),
        ("OLLAMA_BASE_URL", "http://localhost:11434", "ollama"),
        ("VLLM_BASE_URL", "http://localhost:8000/v1", "vllm"),
    ],
)
def test_a_usual_variable_alone_enables_its_provider(variable: str, value: str, name: str) -> None:
    """No file is needed."""
    settings = load_settings(None, {variable: value})

    assert list(settings.enabled_providers) == [name]
    local = settings.providers[name].hardware != "cloud"
    assert local is (name in {"ollama", "vllm"})
    assert "k" not in settings.model_dump_json().split('"')


def test_the_file_s_providers_are_the_only_ones(tmp_path: Path) -> None:
    """Whoever names some has chosen."""
    file = written(tmp_path, '[providers.x]\nwire = "ollama"\nbase_url = "http://a"\n')

    assert list(load_settings(file, {"OPENAI_API_KEY": "k"}).providers) == ["x"]


def test_clickhouse_and_data_folder(tmp_path: Path) -> None:
    """The embedded engine lies in the data folder; the usual variable names another."""
    file = written(tmp_path, f'data_folder = "{tmp_path}/d"\n')
    server = load_settings(file, {"CLICKHOUSE_URL": "http://u:secret@h:8123/db"})

    assert load_settings(file, {}).clickhouse.location == f"chdb://{tmp_path}/d/clickhouse"
    assert server.clickhouse.location == "http://h:8123/db"
    assert "secret" not in repr(server)


@pytest.mark.parametrize("text", ["= 1", "[web\n", "a = \x00"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str) -> None:
    """With the reason."""
    with pytest.raises(ConfigurationError, match=r"millrace\.toml' cannot be read"):
        load_settings(written(tmp_path, text), {})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Its path stands in the message."""
    with pytest.raises(ConfigurationError, match=r"no\.toml' does not exist"):
        load_settings(tmp_path / "no.toml", {})


def test_settings_cannot_be_changed() -> None:
    """Whoever holds them may share them."""
    settings = load_settings(None, {})

    assert isinstance(settings, Settings)
    with pytest.raises(ValueError, match="frozen"):
        settings.app_id = "other"  # type: ignore[misc]


def test_settings_of_no_section_have_variables_too() -> None:
    """A second pipeline on one cluster needs no file to have a name of its own."""
    settings = load_settings(None, {"MILLRACE_APP_ID": "staging", "MILLRACE_DATA_FOLDER": "/data"})

    assert (settings.app_id, settings.data_folder) == ("staging", Path("/data"))
    assert settings.clickhouse.location == "chdb:///data/clickhouse"


def test_a_variable_of_the_prefix_that_is_no_setting_is_left_alone() -> None:
    """MILLRACE_CONFIG names the file, others are for tests."""
    assert load_settings(None, {"MILLRACE_CONFIG": "x", "MILLRACE_RECORDINGS": "y"}) is not None


def test_budgets_have_a_changelog_only_where_there_are_any(tmp_path: Path) -> None:
    """Without budgets no topic is added to a cluster."""
    plain = load_settings(None, {})
    limited = load_settings(written(tmp_path, '[[budgets]]\nname = "all"\nusd = "5"\n'), {})

    names = {each.name for each in changelogs(plain)}
    assert {each.name for each in changelogs(limited)} - names == {
        "millrace-budgets-budgets-changelog"
    }
    assert not any("budget" in name for name in names)
