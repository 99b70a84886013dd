"""What people are told whose settings are wrong."""

from pathlib import Path

import pytest

from millrace.schemas.errors import ConfigurationError
from millrace.streams.settings import load_settings


def told(folder: Path, text: str, **environ: str) -> str:
    """What is said of a config file."""
    file = folder / "millrace.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file, environ)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[kafka]\nbootstrap_server = 'a:1'",
            "kafka.bootstrap_server: there is no such setting; did you mean 'bootstrap_servers'?",
        ),
        (
            "[provider.x]\nwire = 'openai'",
            "provider: there is no such setting; did you mean 'providers'?",
        ),
        (
            "[providers.x]\nwire = 'openai'\nbase_url = 'http://a'\n[providers.x.limits]\nrpm = 1",
            "providers.x.limits.rpm: there is no such setting; there are ",
        ),
        (
            "[providers.x]\nwire = 'opnai'\nbase_url = 'http://a'",
            "'ollama' or 'cursor-cli'; did you mean 'openai'?",
        ),
        (
            "[routes.code_reviw]\nstrategy = 'auto'",
            "routes.code_reviw: there is no such setting; did you mean 'code_review'?",
        ),
        (
            "[budgets]\nname = 'a'",
            "budgets: there may be several of these: write [[budgets]] in place of [budgets]",
        ),
        ("[[budgets]]\nname = 'a'\nusd = 1\nteams = 'x'", "budgets.0.teams: there is no such"),
        ("kafka = 5", "kafka: this is a table of settings: write [kafka]"),
        ("data_folder = 5", "data_folder: a path is text, in quotes"),
        (
            "[routes.default]\nvote_by = 'field'",
            "routes.default: vote_by 'field' goes with vote_field",
        ),
    ],
)
def test_a_problem_is_told_in_the_words_of_the_file(tmp_path: Path, text: str, line: str) -> None:
    """Where it stands, and what may have been meant."""
    said = told(tmp_path, text, KAFKA_BOOTSTRAP_SERVERS="a:1")

    assert line in said
    assert "1 problem(s)" in said


def test_every_problem_is_told_at_once_and_no_value(tmp_path: Path) -> None:
    """Variables count as the file does; what is given may be a secret."""
    said = told(
        tmp_path,
        "[web]\nport = 'hunter2'\n[kafka]\npassword = 'hunter2'\n[log]\nlevel = 'hunter2'",
        MILLRACE_KAFKAA__X="hunter2",
    )

    assert "4 problem(s)" in said
    assert "hunter2" not in said
