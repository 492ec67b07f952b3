"""Where accounts live (a workspace, or a profile in it), and how fresh our knowledge is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from healthd.core.model import Profile
from healthd.store.schema import profiles

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


def scopes(connection: Connection, workspace: str | None = None) -> list[Scope]:
    query = select(profiles).order_by(profiles.c.workspace, profiles.c.ref)
    if workspace is not None:
        query = query.where(profiles.c.workspace == workspace)
    return [
        Scope(row.workspace, row.ref, row.active, row.bulk_at, row.inventory_at) for row in connection.execute(query)
    ]


def mark_bulk(connection: Connection, workspace: str, ref: str, at: datetime) -> None:
    connection.execute(
        update(profiles).where(profiles.c.workspace == workspace, profiles.c.ref == ref).values(bulk_at=at)
    )


def mark_inventory(connection: Connection, workspace: str, ref: str, at: datetime) -> None:
    connection.execute(
        update(profiles).where(profiles.c.workspace == workspace, profiles.c.ref == ref).values(inventory_at=at)
    )


def set_active(connection: Connection, workspace: str, ref: str, *, active: bool) -> None:
    connection.execute(
        update(profiles).where(profiles.c.workspace == workspace, profiles.c.ref == ref).values(active=active)
    )
