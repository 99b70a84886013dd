"""Where ClickHouse is."""

import pytest
from pydantic import ValidationError

from millrace.sinks.settings import ClickHouseSettings


def test_defaults_are_as_promised() -> None:
    """A change of a default is a change of behaviour."""
    settings = ClickHouseSettings(url="chdb:///data")

    assert settings.model_dump(exclude={"url"}) == {
        "database": None,
        "batch_rows": 5_000,
        "batch_seconds": 1.0,
        "verify_tls": True,
        "ca_file": None,
        "client_certificate": None,
        "client_key": None,
        "connect_timeout_seconds": 10,
        "request_timeout_seconds": 120,
        "ttl_days": None,
        "store_text": True,
        "engine_memory_bytes": 1 << 30,
        "engine_min_free_bytes": 256 << 20,
    }


@pytest.mark.parametrize(
    ("url", "database", "location"),
    [
        ("chdb:///var/lib/x%20y", "millrace", "chdb:///var/lib/x y"),
        ("http://ch:8123", "millrace", "http://ch:8123/millrace"),
        ("https://u:p%40ss@ch/books?insert_quorum=2", "books", "https://ch/books"),
    ],
)
def test_a_url_says_where_and_which_database(url: str, database: str, location: str) -> None:
    """The place can be shown: it holds neither user nor password."""
    settings = ClickHouseSettings(url=url)

    assert (settings.database_name, settings.location) == (database, location)


def test_a_given_database_takes_the_place_of_the_urls() -> None:
    """The setting is stronger."""
    assert ClickHouseSettings(url="http://ch/a", database="b").database_name == "b"


def test_the_query_string_sets_the_servers_settings() -> None:
    """Anything a cluster needs for an insert can be said in the URL."""
    settings = ClickHouseSettings(url="http://ch/?insert_quorum=2&role=")

    assert settings.server_settings == {"insert_quorum": "2", "role": ""}


@pytest.mark.parametrize(
    "url",
    [
        "chdb://data",
        "chdb:///",
        "clickhouse://user:s3cret@ch",
        "http://",
        "http://user:s3cret@ch:port",
        "http://user:s3cret@ch/drop table",
        "s3cret",
        "",
    ],
)
def test_a_wrong_url_is_refused_without_showing_it(url: str) -> None:
    """The message says what a URL must look like, not what was in it."""
    with pytest.raises(ValidationError) as caught:
        ClickHouseSettings(url=url)

    assert "s3cret" not in str(caught.value)


def test_the_password_is_never_shown() -> None:
    """Not in what Python or pydantic print."""
    settings = ClickHouseSettings(url="http://u:s3cret@ch")

    assert "s3cret" not in f"{settings!r} {settings} {settings.model_dump_json()}"
