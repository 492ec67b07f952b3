"""Where accounts live (a workspace, or a profile in it), and how fresh our knowledge is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from healthd.core.model import Profile
from healthd.store.schema import profiles
from healthd.store.words import upsert

OWN = ""
"""The ref that stands for the workspace itself."""


@dataclass(frozen=True, slots=True)
class Scope:
    """One inventory: the workspace's own accounts (``ref`` is ``OWN``) or a profile's."""

    workspace: str
    ref: str
    active: bool
    bulk_at: datetime | None
    inventory_at: datetime | None
    name: str = ""
    external_id: str | None = None
    short_since: datetime | None = None
    """Since when its lists have been too short to be believed."""


def ensure_own(connection: Connection, workspaces: Sequence[str]) -> None:
    for workspace in workspaces:
        connection.execute(upsert(profiles).values(workspace=workspace, ref=OWN).on_conflict_do_nothing())


def replace_profiles(connection: Connection, workspace: str, found: Sequence[Profile]) -> None:
    """What the provider lists now; a profile that is gone becomes inactive, its accounts keep their history."""
    connection.execute(
        update(profiles).where(profiles.c.workspace == workspace, profiles.c.ref != OWN).values(active=False)
    )
    for profile in found:
        facts = {"name": profile.name, "external_id": profile.external_id, "active": profile.active}
        connection.execute(
            upsert(profiles)
            .values(workspace=workspace, ref=profile.ref, **facts)
            .on_conflict_do_update(index_elements=["workspace", "ref"], set_=facts)
        )


def _scope(row: Row[Any]) -> Scope:
    return Scope(
        row.workspace, row.ref, row.active, row.bulk_at, row.inventory_at, row.name, row.external_id,
        row.short_since,
    )  # fmt: skip


_GET = select(profiles).where(profiles.c.workspace == bindparam("in_workspace"), profiles.c.ref == bindparam("wanted"))


def get(connection: Connection, workspace: str, ref: str) -> Scope | None:
    row = connection.execute(_GET, {"in_workspace": workspace, "wanted": ref}).first()
    return None if row is None else _scope(row)


_ALL_SCOPES = select(profiles).order_by(profiles.c.workspace, profiles.c.ref)
_SCOPES = _ALL_SCOPES.where(profiles.c.workspace == bindparam("here"))
_CHANGE = update(profiles).where(profiles.c.workspace == bindparam("here"), profiles.c.ref == bindparam("profile"))


def scopes(connection: Connection, workspace: str | None = None) -> list[Scope]:
    query = _ALL_SCOPES if workspace is None else _SCOPES
    return [_scope(row) for row in connection.execute(query, {"here": workspace})]


def mark_bulk(connection: Connection, workspace: str, ref: str, at: datetime) -> None:
    connection.execute(_CHANGE, {"here": workspace, "profile": ref, "bulk_at": at})


def mark_inventory(connection: Connection, workspace: str, ref: str, at: datetime) -> None:
    connection.execute(_CHANGE, {"here": workspace, "profile": ref, "inventory_at": at})


def note_short(connection: Connection, workspace: str, ref: str, since: datetime | None) -> None:
    """Since when its lists have been too short to be believed; ``None`` where they are long enough."""
    connection.execute(_CHANGE, {"here": workspace, "profile": ref, "short_since": since})


def set_active(connection: Connection, workspace: str, ref: str, *, active: bool) -> None:
    connection.execute(_CHANGE, {"here": workspace, "profile": ref, "active": active})
