"""What the config file may say of a provider."""

from typing import Any

import pytest
from pydantic import ValidationError

from millrace.providers.entry import ProviderEntry
from millrace.schemas.record import describe

TWO = [{"url": "http://me:secret@one:8000/v1"}, {"url": "https://two/v1/"}]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"wire": "openai"}, "needs a base_url, or instances"),
        ({"wire": "ollama", "instances": []}, "needs a base_url, or instances"),
        ({"wire": "openai", "base_url": "http://a", "instances": TWO}, "not both"),
        ({"wire": "openai", "instances": [TWO[0], TWO[0]]}, "same url"),
        ({"wire": "openai", "instances": [{"url": "http://a", "weight": 0}]}, "greater than 0"),
        ({"wire": "openai", "instances": [{"weight": 1}]}, "Field required"),
        ({"wire": "openai", "base_url": "http://a", "balance": "fair"}, "balance"),
        ({"wire": "openai", "base_url": "http://a", "pull_missing": True}, "no pull_missing"),
        ({"wire": "openai", "base_url": "http://a", "keep_alive_seconds": 0}, "no keep_alive"),
        ({"wire": "ollama", "base_url": "http://a", "project": "/p"}, "no project"),
        ({"wire": "cursor-cli", "base_url": "http://a"}, "no base_url"),
        ({"wire": "cursor-cli", "headers": {"a": "b"}}, "no headers"),
        ({"wire": "cursor-cli", "pull_missing": True}, "no pull_missing"),
    ],
)
def test_what_does_not_fit_together_is_said(given: dict[str, Any], why: str) -> None:
    """In words, with the settings' names."""
    with pytest.raises(ValidationError) as failed:
        ProviderEntry.model_validate(given)

    assert why in describe(failed.value)


def test_the_first_of_several_servers_stands_for_them() -> None:
    """Where one address is wanted: to list models, to look up prices."""
    entry = ProviderEntry.model_validate({"wire": "openai", "instances": TWO})

    assert entry.base_url == entry.instances[0].url
    assert ProviderEntry.model_validate(entry.model_dump()) == entry
    assert ProviderEntry.model_validate_json(entry.model_dump_json()) == entry


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({"wire": "openai", "base_url": "https://me:secret@a/v1"}, "https://a/v1"),
        ({"wire": "openai", "instances": TWO}, "http://one:8000/v1, https://two/v1"),
        ({"wire": "cursor-cli"}, "cursor-agent"),
    ],
)
def test_an_address_for_people_has_no_password(given: dict[str, Any], address: str) -> None:
    """It is shown by commands and in logs."""
    assert ProviderEntry.model_validate(given).address == address


def test_a_command_has_few_calls_at_once_unless_told() -> None:
    """Each is a process."""
    assert ProviderEntry.model_validate({"wire": "cursor-cli"}).limits.in_flight == 4
    told = {"wire": "cursor-cli", "limits": {"in_flight": 9}}
    assert ProviderEntry.model_validate(told).limits.in_flight == 9


def test_what_an_entry_promises_without_being_told() -> None:
    """Defaults are part of the contract."""
    entry = ProviderEntry.model_validate({"wire": "ollama", "base_url": "http://a"})

    assert (entry.balance, entry.pull_missing, entry.keep_alive_seconds) == (
        "round_robin",
        False,
        None,
    )
