"""The schema: migrations lead to exactly the tables that the code knows, wholly or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, inspect, text

from healthd.store import migrations
from healthd.store.database import sqlite_engine
from healthd.store.migrations import WrongSchema
from healthd.store.schema import metadata

VERSIONS = Path(migrations.__file__).parent / "versions"


@pytest.fixture
def blank(tmp_path: Path) -> Iterator[Engine]:
    engine = sqlite_engine(f"sqlite:///{tmp_path / 'blank.db'}")
    yield engine
    engine.dispose()


def details(connection: Connection) -> dict[str, object]:
    """What Alembic's comparison does not see: defaults, and the conditions of indexes."""
    found: dict[str, object] = {}
    for name, kind, sql in connection.execute(text("SELECT name, type, sql FROM sqlite_master WHERE sql IS NOT NULL")):
        columns = connection.execute(text(f"PRAGMA table_info({name})")).all() if kind == "table" else []
        found[name] = [tuple(column) for column in columns] or re.sub(r"\s+", " ", sql)
    found.pop("alembic_version", None)
    return found


def test_a_fresh_database_has_exactly_the_tables_that_the_code_knows(blank: Engine) -> None:
    with blank.begin() as connection:
        assert migrations.upgrade(connection) == (None, migrations.HEAD)
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_a_fresh_database_has_exactly_the_defaults_and_indexes_that_the_code_knows(blank: Engine) -> None:
    by_the_code = sqlite_engine("sqlite://")
    with blank.begin() as migrated, by_the_code.begin() as created:
        migrations.upgrade(migrated)
        metadata.create_all(created)
        assert details(migrated) == details(created)
    by_the_code.dispose()


def test_head_is_the_newest_migration() -> None:
    newest = max(path.name for path in VERSIONS.glob("[0-9]*.py"))
    assert newest.startswith(f"{migrations.HEAD}_")


def test_upgrading_again_changes_nothing(blank: Engine) -> None:
    with blank.begin() as connection:
        migrations.upgrade(connection)
        connection.execute(text("INSERT INTO profiles (workspace, ref) VALUES ('acme', '')"))
    with blank.begin() as connection:
        assert migrations.upgrade(connection) == (migrations.HEAD, migrations.HEAD)
        assert connection.execute(text("SELECT count(*) FROM profiles")).scalar() == 1


def test_a_newer_schema_is_refused_with_what_to_do_and_left_alone(blank: Engine) -> None:
    with blank.begin() as connection:
        migrations.upgrade(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with blank.begin() as connection:
        with pytest.raises(WrongSchema, match=r"revision 9999.*Run the newer healthd.*backup"):
            migrations.upgrade(connection)
        assert migrations.current(connection) == "9999"


def test_an_upgrade_that_is_cut_off_leaves_what_was_there(blank: Engine) -> None:
    def upgrade_and_fail() -> None:
        with blank.begin() as connection:
            migrations.upgrade(connection)
            assert inspect(connection).has_table("accounts")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upgrade_and_fail()
    with blank.begin() as connection:
        assert inspect(connection).get_table_names() == []
        assert migrations.upgrade(connection) == (None, migrations.HEAD)


def test_a_release_may_live_in_a_folder_of_any_name(
    blank: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alembic reads a percent sign in its settings as the beginning of a variable."""
    odd = tmp_path / "100%s odd"
    odd.symlink_to(Path(migrations.__file__).parent)
    monkeypatch.setattr(migrations, "__file__", str(odd / "__init__.py"))
    with blank.begin() as connection:
        assert migrations.upgrade(connection) == (None, migrations.HEAD)
