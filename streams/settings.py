"""All settings: one TOML file, environment variables over it, every problem named at once.

Precedence, lowest first: defaults; the file; the usual variables (`OPENAI_API_KEY`,
`KAFKA_BOOTSTRAP_SERVERS`, `CLICKHOUSE_URL`, …), which add what the file does not name; then
`MILLRACE_SECTION__KEY`, and `MILLRACE_APP_ID` and `MILLRACE_DATA_FOLDER`, whose values are read
as JSON where they are JSON, else as text.
Keys are never settings: a provider entry names the environment variables that hold them.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import Field, ValidationError

from millrace.agents.budget_policy import BudgetPolicy
from millrace.agents.policy import ClassificationPolicy, RequestPolicy, RoutePolicy
from millrace.agents.validation.policy import ValidationPolicy
from millrace.providers.backoff import BackoffSettings
from millrace.providers.circuit import CircuitSettings
from millrace.providers.entry import ProviderEntry
from millrace.schemas.errors import ConfigurationError
from millrace.schemas.record import Frozen
from millrace.sinks.settings import ClickHouseSettings
from millrace.streams.health_settings import HealthSettings
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.lanes import LaneSettings
from millrace.streams.retry_settings import RetrySettings
from millrace.streams.settings_problems import settings_problems
from millrace.streams.usual_providers import usual_providers

ENV_PREFIX = "MILLRACE_"
_TOP_LEVEL = ("MILLRACE_APP_ID", "MILLRACE_DATA_FOLDER")
"""Settings that stand in no section; other variables of that prefix are not settings."""
_USUAL = (
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka", "bootstrap_servers"),
    ("CLICKHOUSE_URL", "clickhouse", "url"),
)
"""Variables that other programs read as well, and the settings that they are here."""
DEFAULT_DATA_FOLDER = Path(".millrace")


class RouterSettings(Frozen):
    """How requests are accepted."""

    dedup_window_seconds: float = Field(default=6 * 3600, gt=0)
    """How long a request id is remembered; the same id within it is not paid for again."""


class CallerSettings(Frozen):
    """How calls are made."""

    chunk_flush_seconds: float = Field(default=0.03, ge=0)
    """Deltas within this window go out as one chunk; the first token goes at once."""
    commit_interval_seconds: float = Field(default=0.5, gt=0)
    commit_after_calls: int = Field(default=100, ge=1)
    """A commit comes sooner when so many calls have ended since the last one: after a kill they
    are made, and paid, again."""
    drain_seconds: float = Field(default=30.0, ge=0)
    """At shutdown and before a rebalance, how long calls in flight may take to end."""
    remembered_attempts: int = Field(default=50_000, ge=0)
    """How many finished attempt ids a process remembers, so that a duplicate is not paid again."""
    cancellation_window_seconds: float = Field(default=3600.0, gt=0)
    """How long a cancellation is remembered for work that has not started yet."""
    backoff: BackoffSettings = BackoffSettings()
    circuit: CircuitSettings = CircuitSettings()
    lanes: LaneSettings = LaneSettings()


class ValidatorSettings(Frozen):
    """How requests end."""

    finished_window_seconds: float = Field(default=6 * 3600, gt=0)
    """How long an ended request is remembered, so that a late outcome never ends it again."""
    max_answers_bytes: int = Field(default=524_288, ge=1_000)
    """Of the answers that are kept of one request until its members are done. A member whose
    answer would exceed this has failed. They share a record of the changelog with the request,
    which takes four times kafka.max_request_bytes."""


class PromptSettings(Frozen):
    """Where templates come from besides the packaged ones."""

    folders: tuple[Path, ...] = ()


class WebSettings(Frozen):
    """The process's own HTTP server: health, readiness, and SQL for the embedded ClickHouse."""

    host: str = "127.0.0.1"
    port: int = Field(default=6066, ge=0, le=65535)
    """0 takes any free port."""


class LogSettings(Frozen):
    """Structured logs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"
    """`auto` is text on a terminal and JSON otherwise."""


class ReloadSettings(Frozen):
    """Taking new settings while a process runs."""

    poll_seconds: float = Field(default=2.0, ge=0)
    """How often the config file, and the file of variables, are looked at for changes; 0 leaves
    it to SIGHUP."""


class Settings(Frozen):
    """Everything that can be set."""

    app_id: str = Field(default="millrace", pattern=r"^[a-zA-Z0-9._-]{1,100}$")
    """Prefix of consumer groups and state topics; two pipelines on one cluster need two."""
    data_folder: Path = DEFAULT_DATA_FOLDER
    """Where embedded parts keep what they keep."""
    kafka: KafkaSettings = KafkaSettings()
    clickhouse: ClickHouseSettings
    """The embedded engine in `data_folder` when nothing is configured."""
    providers: dict[str, ProviderEntry] = Field(default_factory=dict)
    routes: RoutePolicy = RoutePolicy()
    classification: ClassificationPolicy = ClassificationPolicy()
    budgets: BudgetPolicy = BudgetPolicy()
    requests: RequestPolicy = RequestPolicy()
    validation: ValidationPolicy = ValidationPolicy()
    router: RouterSettings = RouterSettings()
    caller: CallerSettings = CallerSettings()
    retries: RetrySettings = RetrySettings()
    health: HealthSettings = HealthSettings()
    validator: ValidatorSettings = ValidatorSettings()
    prompts: PromptSettings = PromptSettings()
    web: WebSettings = WebSettings()
    reload: ReloadSettings = ReloadSettings()
    log: LogSettings = LogSettings()

    @property
    def enabled_providers(self) -> dict[str, ProviderEntry]:
        """The entries that may be routed to."""
        return {name: entry for name, entry in self.providers.items() if entry.enabled}


def load_settings(file: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the file and the environment once and check everything.

    Raises:
        ConfigurationError: Names every problem found, with the place where it stands.
    """
    tree = _read(file) if file is not None else {}
    problems: list[str] = []
    _add_usual_variables(tree, environ)
    _overlay_environment(tree, environ, problems)
    _default_clickhouse(tree)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems.extend(settings_problems(error, Settings))
        raise _all(problems, file) from error
    problems.extend(_missing_keys(settings, environ))
    if problems:
        raise _all(problems, file)
    return settings


def _all(problems: list[str], file: Path | None) -> ConfigurationError:
    place = f" in {str(file)!r}" if file else ""
    lines = "".join(f"\n  - {problem}" for problem in problems)
    return ConfigurationError(f"{len(problems)} problem(s) with the settings{place}:{lines}")


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"config file {str(file)!r} does not exist") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"config file {str(file)!r} cannot be read: {error}") from error


def _add_usual_variables(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    for variable, section, name in _USUAL:
        value, table = environ.get(variable), tree.setdefault(section, {})
        # What is no table is told of with everything else that is wrong.
        if value and isinstance(table, dict):
            table[name] = value
    named = tree.setdefault("providers", {})
    if isinstance(named, dict) and not named:
        named.update(usual_providers(environ))


def _default_clickhouse(tree: dict[str, Any]) -> None:
    section = tree.setdefault("clickhouse", {})
    if isinstance(section, dict) and "url" not in section:
        # What is no path is told of with everything else that is wrong.
        named = tree.get("data_folder", DEFAULT_DATA_FOLDER)
        folder = Path(named if isinstance(named, str | Path) else DEFAULT_DATA_FOLDER).absolute()
        section["url"] = f"chdb://{folder / 'clickhouse'}"


def _overlay_environment(
    tree: dict[str, Any], environ: Mapping[str, str], problems: list[str]
) -> None:
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX):
            continue
        if "__" not in variable and variable not in _TOP_LEVEL:
            continue
        path = variable.removeprefix(ENV_PREFIX).lower().split("__")
        node: Any = tree
        for part in path[:-1]:
            node = node.setdefault(_existing(node, part), {})
            if not isinstance(node, dict):
                problems.append(f"{variable}: {part!r} is not a section")
                break
        else:
            node[_existing(node, path[-1])] = _value(environ[variable])


def _existing(node: dict[str, Any], part: str) -> str:
    """The key that a variable's part means; variables cannot spell `-`, `.` or capitals."""
    folded = {key.lower().replace("-", "_").replace(".", "_"): key for key in node}
    return folded.get(part, part)


def _value(raw: str) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw


def _missing_keys(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    return [
        f"providers.{name}.api_key_env: environment variable {variable} is not set; "
        f"set it, or set providers.{name}.enabled = false"
        for name, entry in settings.enabled_providers.items()
        for variable in (
            *entry.api_key_env,
            *(variable for each in entry.instances for variable in each.api_key_env),
        )
        if not environ.get(variable)
    ]
