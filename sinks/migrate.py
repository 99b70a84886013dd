"""Bring a database to the tables and views this version works with.

A migration is a file `migrations/NNNN_name.sql`: statements divided by `;`. Each is applied once,
in the order of the numbers, and recorded with a checksum. ClickHouse has no lock to hold
meanwhile, so two processes may apply the same one at the same time: every statement must be
harmless to repeat (`IF NOT EXISTS`, `OR REPLACE`). A published migration is never edited; what
changes comes in a new one.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from clickhouse_connect.driver.client import Client

from millrace.schemas.errors import ConfigurationError
from millrace.sinks.lexer import statements

RECORDS_TABLE = "schema_migrations"

_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_CREATE_RECORDS = f"""
CREATE TABLE IF NOT EXISTS {RECORDS_TABLE} (
    number UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ReplacingMergeTree ORDER BY (number, checksum)
"""
_RECORDED = f"SELECT DISTINCT number, name, checksum FROM {RECORDS_TABLE} ORDER BY number"  # noqa: S608  # a constant


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step; its checksum does not depend on how lines end."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256("\n".join(self.sql.splitlines()).encode()).hexdigest()


def shipped_migrations() -> tuple[Migration, ...]:
    """The migrations that come with this version, in order.

    Raises:
        ConfigurationError: A file is not named like a migration, or two have the same number.
    """
    found = []
    for entry in files("millrace.sinks").joinpath("migrations").iterdir():
        if not entry.name.endswith(".sql"):
            continue
        match = _FILE_NAME.fullmatch(entry.name)
        if match is None:
            raise ConfigurationError(f"{entry.name!r} is not named like a migration: NNNN_name.sql")
        found.append(Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    numbers = [migration.number for migration in found]
    if len(set(numbers)) < len(numbers):
        raise ConfigurationError(f"two migrations have the same number: {numbers}")
    return tuple(found)


def migrate(
    client: Client, *, database: str, migrations: Sequence[Migration]
) -> tuple[Migration, ...]:
    """Make the database if need be, apply what is missing, and return that; blocks.

    Leaves the client in the database. What a newer version has applied is left alone.

    Raises:
        ConfigurationError: A migration was changed after it had been applied.
    """
    known = client.query(
        "SELECT count() FROM system.databases WHERE name = {name:String}",
        parameters={"name": database},
    )
    if not known.result_rows[0][0]:
        # Asked for only where needed: users often may not create databases.
        client.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    client.database = database
    client.command(_CREATE_RECORDS)
    recorded: dict[int, set[str]] = {}
    for number, _, checksum in client.query(_RECORDED).result_rows:
        recorded.setdefault(number, set()).add(checksum)
    _check(migrations, recorded, database=database)
    missing = tuple(m for m in migrations if m.number not in recorded)
    for migration in missing:
        for statement in statements(migration.sql):
            client.command(statement.text)
        client.insert(
            RECORDS_TABLE,
            [(migration.number, migration.name, migration.checksum)],
            column_names=("number", "name", "checksum"),
            column_type_names=("UInt32", "String", "String"),
        )
    return missing


def _check(
    migrations: Sequence[Migration], recorded: dict[int, set[str]], *, database: str
) -> None:
    changed = [
        f"{migration.number:04d}_{migration.name}"
        for migration in migrations
        if recorded.get(migration.number, {migration.checksum}) != {migration.checksum}
    ]
    if changed:
        raise ConfigurationError(
            f"the database {database!r} was migrated with other contents of {', '.join(changed)}: "
            "put the published files back and bring the change in a new migration, or use another "
            "database"
        )
