"""The options that commands share, and the settings behind them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from millrace.streams.config_source import ConfigSource
from millrace.streams.settings import Settings

DEFAULT_CONFIG = Path("millrace.toml")

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="MILLRACE_CONFIG",
        metavar="FILE",
        help="The config file; ./millrace.toml when it exists and none is named.",
        show_default=False,
    ),
]
EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        envvar="MILLRACE_ENV_FILE",
        metavar="FILE",
        help="Variables, such as keys, that win over the environment's and may be changed.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def config_source(config: Path | None, env_file: Path | None = None) -> ConfigSource:
    """The named file, else ./millrace.toml where there is one; $MILLRACE_ENV_FILE likewise."""
    if config is None and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
    if env_file is None and (named := os.environ.get("MILLRACE_ENV_FILE")):
        env_file = Path(named)
    return ConfigSource(file=config, environ=os.environ, env_file=env_file)


def read_settings(config: Path | None) -> Settings:
    """Settings from the named file, else from ./millrace.toml where there is one.

    Raises:
        ConfigurationError: Names every problem found.
    """
    settings, _ = config_source(config).load()
    return settings
