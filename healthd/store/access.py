"""Who may use the private listener, who is signed in, and what they did."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Row, delete, exists, insert, or_, select, update

from healthd.core.roles import Role
from healthd.store.schema import access_tokens, audit, sessions

PREFIX = "hdt_"
NOTE_USE_EVERY = timedelta(minutes=1)
"""How exactly the last use of a token or session is on record."""


class NameTaken(Exception):
    """There is a token of this name."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What is on record of a token; the token itself is nowhere."""

    id: str
    name: str
    role: Role
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    used_at: datetime | None

    @property
    def who(self) -> str:
        return f"token:{self.name}"


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that has signed in. ``origin``: what it began with, where that is no token of the store."""

    digest: str
    who: str
    role: Role
    token_id: str | None
    origin: str
    began_at: datetime
    used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Audited:
    """Something that somebody did."""

    id: int
    at: datetime
    who: str
    action: str
    subject: str
    account_id: int | None
    detail: str


def new_secret() -> str:
    """32 random bytes in base64url, for a token or a session."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What is stored in place of a token or a session's cookie. They are random, so a plain hash tells nothing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def create_token(
    connection: Connection,
    name: str,
    role: Role,
    digest: str,
    *,
    at: datetime,
    by: str,
    expires_at: datetime | None = None,
) -> AccessToken:
    """Raises ``NameTaken``."""
    if connection.execute(select(exists().where(access_tokens.c.name == name))).scalar_one():
        raise NameTaken(name)
    made = AccessToken(secrets.token_hex(8), name, role, at, by, expires_at, None)
    connection.execute(
        insert(access_tokens).values(
            id=made.id, name=name, role=role, digest=digest, created_at=at, created_by=by, expires_at=expires_at
        )
    )
    ends = f", until {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else ""
    note_audit(connection, at, by, "token.create", made.who, detail=f"{role}{ends}")
    return made


def revoke_token(connection: Connection, name: str, *, at: datetime, by: str) -> bool:
    """Whether there was one. The sessions that began with it end with it."""
    gone = connection.execute(delete(access_tokens).where(access_tokens.c.name == name)).rowcount
    if gone:
        note_audit(connection, at, by, "token.revoke", f"token:{name}")
    return bool(gone)


def tokens(connection: Connection) -> list[AccessToken]:
    """All of them by name, the expired ones too."""
    return [_token(row) for row in connection.execute(select(access_tokens).order_by(access_tokens.c.name))]


def has_tokens(connection: Connection) -> bool:
    """Whether there is any, expired ones included: one that runs out must not open the door for everybody."""
    return bool(connection.execute(select(exists().select_from(access_tokens))).scalar_one())


def token_of(connection: Connection, digest: str, now: datetime) -> AccessToken | None:
    """The token with this digest, unless it has expired."""
    row = connection.execute(select(access_tokens).where(access_tokens.c.digest == digest, _lasts(now))).first()
    return None if row is None else _token(row)


def _lasts(now: datetime) -> ColumnElement[bool]:
    return or_(access_tokens.c.expires_at.is_(None), access_tokens.c.expires_at > now)


def note_token_use(connection: Connection, token_id: str, at: datetime) -> None:
    connection.execute(update(access_tokens).where(access_tokens.c.id == token_id).values(used_at=at))


def begin_session(connection: Connection, session: Session, *, instead_of: str | None, how: str) -> bool:
    """Whether the token that it begins with is still there. ``instead_of``: the digest of the session that the same
    browser had before, which ends.
    """
    if instead_of is not None:
        end_session(connection, instead_of)
    token = select(exists().where(access_tokens.c.id == session.token_id))
    if session.token_id is not None and not connection.execute(token).scalar_one():
        return False
    connection.execute(
        insert(sessions).values(
            digest=session.digest, who=session.who, role=session.role, token_id=session.token_id,
            origin=session.origin, began_at=session.began_at, used_at=session.used_at, expires_at=session.expires_at,
        )
    )  # fmt: skip
    note_audit(connection, session.began_at, session.who, "sign_in", detail=how)
    return True


def session_of(connection: Connection, digest: str, now: datetime) -> Session | None:
    """The session with this digest, unless it or its token has expired. Its role is what its token has by now."""
    query = (
        select(sessions, access_tokens.c.role.label("token_role"))
        .outerjoin(access_tokens, access_tokens.c.id == sessions.c.token_id)
        .where(sessions.c.digest == digest, sessions.c.expires_at > now, _lasts(now))
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    return Session(
        row.digest, row.who, Role(row.token_role or row.role), row.token_id, row.origin, row.began_at, row.used_at,
        row.expires_at,
    )  # fmt: skip


def note_session_use(connection: Connection, session: Session, at: datetime) -> None:
    connection.execute(update(sessions).where(sessions.c.digest == session.digest).values(used_at=at))
    if session.token_id is not None:
        note_token_use(connection, session.token_id, at)


def end_session(connection: Connection, digest: str) -> None:
    connection.execute(delete(sessions).where(sessions.c.digest == digest))


def note_audit(
    connection: Connection,
    at: datetime,
    who: str,
    action: str,
    subject: str = "",
    account_id: int | None = None,
    detail: str = "",
) -> None:
    """Puts on record what somebody did, in the transaction that does it."""
    connection.execute(
        insert(audit).values(at=at, who=who, action=action, subject=subject, account_id=account_id, detail=detail)
    )


def audit_of(connection: Connection, after_id: int | None, limit: int, account_id: int | None = None) -> list[Audited]:
    """The newest first, ``limit`` at the most; those that come after the one with ``after_id`` in that order, which
    are older.
    """
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if after_id is not None:
        query = query.where(audit.c.id < after_id)
    if account_id is not None:
        query = query.where(audit.c.account_id == account_id)
    return [
        Audited(row.id, row.at, row.who, row.action, row.subject, row.account_id, row.detail)
        for row in connection.execute(query)
    ]


def _token(row: Row[tuple[object, ...]]) -> AccessToken:
    return AccessToken(row.id, row.name, Role(row.role), row.created_at, row.created_by, row.expires_at, row.used_at)
