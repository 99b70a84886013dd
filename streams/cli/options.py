"""The options that commands share, and the settings behind them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from millrace.streams.settings import Settings, load_settings

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
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def read_settings(config: Path | None) -> Settings:
    """Settings from the named file, else from ./millrace.toml where there is one.

    Raises:
        ConfigurationError: Names every problem found.
    """
    if config is None and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
    return load_settings(config, os.environ)
