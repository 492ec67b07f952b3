"""What the API takes and gives. Times are UTC in RFC 3339; what is not so, or not known, is ``null``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from healthd.core.contacts import format_days, format_quiet, format_zone
from healthd.core.duration import parse_duration
from healthd.core.model import Cause, NoticeKind, NoticeStatus, Resolution, State, Target
from healthd.core.roles import Role
from healthd.desk import LONGEST_QUIET, RepairLink
from healthd.metrics import AllowanceReading
from healthd.store.access import Audited
from healthd.store.accounts import StoredAccount
from healthd.store.contacts import BadAddress as StoredBadAddress
from healthd.store.contacts import StoredAssignment, StoredContact
from healthd.store.incidents import Incident as StoredIncident
from healthd.store.notices import StoredNotice
from healthd.store.storms import Storm as StoredStorm
from healthd.store.subscriptions import Looked
from healthd.store.troubles import Trouble as StoredTrouble
from healthd.store.views import IncidentRow, NoticeRow, Sort
from healthd.telling import DryRun, Story

T = TypeVar("T")


def _shown(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


Moment = Annotated[datetime, PlainSerializer(_shown, return_type=str, when_used="json")]
"""Given out."""


def _written(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be text, such as 2026-11-24T15:00:00Z")  # noqa: TRY004 - pydantic wants this one
    return value


def _whole(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        raise ValueError("must be a whole number")
    return value


def _flag(value: object) -> object:
    if value not in {"true", "false"}:
        raise ValueError("must be true or false")
    return value == "true"


Time = Annotated[AwareDatetime, BeforeValidator(_written)]
"""Taken: never a bare number, which could be seconds or milliseconds."""
Flag = Annotated[bool, BeforeValidator(_flag)]
LARGEST = 2**53 - 1
"""The largest number that every JSON reader holds exactly."""
Number = Annotated[int, Field(ge=1, le=LARGEST), BeforeValidator(_whole)]
Limit = Annotated[int, Field(ge=1, le=200), BeforeValidator(_whole)]
Names = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=50)]


class Given(BaseModel):
    """Something that somebody sends: a word that is not known is a mistake, not a wish."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Shown(BaseModel):
    """Something that is given out: every member is always there."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class Page(Shown, Generic[T]):
    items: list[T]
    next: str | None = Field(description="The `cursor` of the next page; `null` on the last one.")


class AccountRef(Shown):
    """An account, as far as it takes to recognise it."""

    id: int = Field(description="healthd's own id, which every address of this API takes.")
    workspace: str
    ref: str = Field(description="The provider's id.")
    platform: str
    name: str
    username: str | None
    profile: str | None = Field(description="The end customer whose account it is.")
    state: State
    paused: bool = Field(description="Nothing is posted to it. It can be paused and broken.")

    @classmethod
    def of(cls, stored: StoredAccount) -> Self:
        return cls(**_account(stored))


class Account(AccountRef):
    changed_at: Moment | None = Field(description="Since when it is in this state.")
    as_of: Moment | None = Field(description="The newest moment of the provider's that the state takes into account.")
    validity_days: int | None
    first_seen_at: Moment
    missing_since: Moment | None = Field(description="Since when the provider no longer lists it.")
    clicked_at: Moment | None = Field(description="When somebody last set out to repair it.")
    muted_until: Moment | None = Field(description="Nobody is told of it until then.")
    auto_paused_at: Moment | None = Field(description="When healthd itself paused it, because it is broken.")
    next_check_at: Moment | None

    @classmethod
    def of(cls, stored: StoredAccount) -> Self:
        return cls(**_account(stored), **_more(stored))


class Incident(Shown):
    """From the break to the repair."""

    id: str
    account: AccountRef
    cause: Cause
    broken_at: Moment = Field(description="By the provider's clock.")
    opened_at: Moment
    confirmed_at: Moment | None = Field(description="`null` while it stands on an event's word alone.")
    resolved_at: Moment | None
    resolution: Resolution | None
    storm_id: str | None
    acknowledged_at: Moment | None
    acknowledged_until: Moment | None
    acknowledged_by: str | None
    snoozed_until: Moment | None

    @classmethod
    def of(cls, row: IncidentRow) -> Self:
        return cls(account=AccountRef.of(row.account), **_incident(row.incident))


class AccountInFull(Account):
    incident: Incident | None = Field(description="The open one.")

    @classmethod
    def with_incident(cls, stored: StoredAccount, incident: StoredIncident | None) -> Self:
        shown = Incident.of(IncidentRow(incident, stored)) if incident else None
        return cls(**_account(stored), **_more(stored), incident=shown)


class Notice(Shown):
    """Something that somebody is told, was told, or is not told, and why."""

    id: str
    kind: NoticeKind
    status: NoticeStatus
    reason: str | None = Field(description="Why it stands so: what failed, what keeps it back.")
    hold: str | None = Field(description="What keeps it back, such as `paused` or `storm:ID`.")
    channel: str
    address: str
    contact: str | None = Field(description="Whose address it is, by key.")
    level: int = Field(description="Its place in the chain of those responsible; 0 is told first.")
    why: str = Field(description="The rule that names its recipient.")
    account: AccountRef | None
    incident_id: str | None
    trouble_id: str | None
    storm_id: str | None
    message_id: str = Field(description="Notices with the same one went out as one message.")
    created_at: Moment
    due_at: Moment
    sent_at: Moment | None
    attempts: int
    may_have_arrived: bool = Field(description="An attempt ended without anybody knowing its outcome.")

    @classmethod
    def of(cls, row: NoticeRow) -> Self:
        return cls(**_notice(row))


class NoticeInFull(Notice):
    content: dict[str, str] | None = Field(
        description="The message as it was rendered, by part; the link is not in it. `null` before that."
    )

    @classmethod
    def with_content(cls, row: NoticeRow, leader: StoredNotice) -> Self:
        content = leader.content if row.notice.content is None else row.notice.content
        return cls(**_notice(row), content=None if content is None else dict(content))


class IncidentInFull(Incident):
    notices: list[Notice] = Field(description="Who was told of it and who will be, the newest first; at most 200.")

    @classmethod
    def with_notices(cls, row: IncidentRow, told: Iterable[NoticeRow]) -> Self:
        shown = [Notice.of(one) for one in told]
        return cls(account=AccountRef.of(row.account), **_incident(row.incident), notices=shown)


class Entry(Shown):
    at: Moment
    what: str
    detail: str


class Timeline(Shown):
    """What happened to an account and why, the oldest first."""

    items: list[Entry]

    @classmethod
    def of(cls, story: Story) -> Self:
        return cls(items=[Entry(at=at, what=what, detail=detail) for at, what, detail, *_ in story.moments()])


class Recipient(Shown):
    channel: str
    address: str
    contact: str | None


class Level(Shown):
    after_seconds: float
    why: str = Field(description="The rule that names them.")
    recipients: list[Recipient]


class Told(Shown):
    when: str
    who: str
    where: str
    why: str
    note: str = Field(description="Why they would wait, or hear nothing.")


class Plan(Shown):
    """Who would be told if the account broke now, when, and why they."""

    levels: list[Level]
    told: list[Told]
    labels: dict[str, str]

    @classmethod
    def of(cls, run: DryRun) -> Self:
        levels = [
            Level(
                after_seconds=level.after.total_seconds(),
                why=level.why,
                recipients=[Recipient(**_target(one.target), contact=one.contact or None) for one in level.recipients],
            )
            for level in run.plan
        ]
        keys = ("when", "who", "where", "why", "note")
        return cls(
            levels=levels, told=[Told(**dict(zip(keys, row, strict=True))) for row in run.rows()], labels=run.labels
        )


class Until(Given):
    """For how long: one of the two."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["until"]}, {"required": ["for"]}],
            "examples": [{"for": "2d"}, {"until": "2030-01-01T08:00:00Z"}],
        }
    )

    until: Time = Field(default=None, description="A moment to come, at most a year ahead.")  # type: ignore[assignment]
    span: str = Field(
        default="",
        alias="for",
        description="A number and a unit: `90s`, `30m`, `2h`, `7d`, `2w`.",
        pattern=r"^( *[0-9]{1,6}(\.[0-9]{1,3})? *[smhdw])+ *$",
        max_length=40,
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError('write either {"for": "2d"} or {"until": "2030-01-01T08:00:00Z"}')
        return self

    def at(self, now: datetime) -> datetime:
        """In UTC; further ahead than the longest quiet is the longest quiet."""
        if not self.span:
            return min(self.until, now + LONGEST_QUIET)
        return now + min(parse_duration(self.span), LONGEST_QUIET)


class Link(Shown):
    """A link for whoever asked. Treat it as a password."""

    url: str
    expires_at: Moment | None
    lasting: bool = Field(
        description="It leads to healthd's page and works until the incident ends; else it is the provider's own, "
        "for once and for a quarter of an hour."
    )

    @classmethod
    def of(cls, made: RepairLink) -> Self:
        return cls(url=made.url, expires_at=made.expires_at, lasting=made.lasting)


class Touched(Shown):
    notices: int = Field(description="How many notices that concerned.")


class Storm(Shown):
    """A platform whose accounts broke all at once: people's notices are held while it lasts."""

    id: str
    workspace: str
    platform: str
    began_at: Moment
    last_at: Moment
    broken: int
    accounts: int = Field(description="How many accounts the workspace has on the platform.")
    ended_at: Moment | None
    outcome: str | None
    decided_by: str | None

    @classmethod
    def of(cls, one: StoredStorm) -> Self:
        return cls(**{name: getattr(one, name) for name in cls.model_fields})


class ContactGiven(Given):
    """A person, or a team that acts as one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Ada Lovelace",
                    "addresses": {"mail": ["ada@acme.example"]},
                    "zone": "Europe/Berlin",
                    "quiet_hours": "22:00-07:00",
                    "working_days": "mon-fri",
                    "language": "de",
                }
            ]
        }
    )

    name: str = Field(default="", max_length=200)
    addresses: dict[str, Annotated[list[str], Field(max_length=50)]] = Field(
        description="By channel; the empty text where a channel has just one recipient.", max_length=50
    )
    zone: str = Field(default="", max_length=200, description="Such as `Europe/Berlin`; empty is UTC.")
    quiet_hours: str = Field(default="", max_length=200, description="Such as `22:00-07:00`, on the clock of the zone.")
    working_days: str = Field(default="", max_length=200, description="Such as `mon-fri`; empty is every day.")
    language: str = Field(default="", max_length=40, description="Such as `de`; empty is the default's.")


class Contact(Shown):
    key: str
    name: str
    addresses: dict[str, list[str]]
    zone: str
    quiet_hours: str
    working_days: str
    language: str
    source: Literal["file", "api", "resolver"] | str
    updated_at: Moment
    wrong: list[str] = Field(description="What of it could not be read.")

    @classmethod
    def of(cls, one: StoredContact) -> Self:
        contact = one.contact
        addresses: dict[str, list[str]] = {}
        for target in contact.addresses:
            addresses.setdefault(target.channel, []).append(target.address)
        return cls(
            key=contact.key,
            name=contact.name,
            addresses=addresses,
            zone=format_zone(contact.hours.zone),
            quiet_hours=format_quiet(contact.hours.quiet),
            working_days=format_days(contact.hours.days),
            language=contact.language,
            source=one.source,
            updated_at=one.updated_at,
            wrong=list(one.wrong),
        )


class OwnersGiven(Given):
    """Who is responsible, level by level: those of the first are told at once, the next if nothing helped."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"owners": [["ada"], ["bob", "eve"]], "labels": {"brand": "rocket"}}]}
    )

    owners: list[Annotated[list[str], Field(max_length=50)]] = Field(
        default=[], max_length=9, description="Keys of contacts."
    )
    labels: dict[str, str] = Field(default={}, max_length=50, description="What routes may ask for.")


class Owners(Shown):
    workspace: str
    scope: str
    ref: str = Field(description="The account's or profile's id, the platform's name, or empty for the workspace.")
    owners: list[list[str]]
    labels: dict[str, str]
    source: str
    updated_at: Moment
    wrong: list[str]

    @classmethod
    def of(cls, one: StoredAssignment) -> Self:
        owned = one.owned
        return cls(
            workspace=owned.workspace,
            scope=owned.scope,
            ref=owned.ref,
            owners=[list(level) for level in owned.owners],
            labels=dict(owned.labels),
            source=one.source,
            updated_at=one.updated_at,
            wrong=list(one.wrong),
        )


class Address(Given):
    """One place where somebody is reached."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"channel": "mail", "address": "ada@acme.example"}]})

    channel: str = Field(max_length=200)
    address: str = Field(default="", max_length=400)


class BadAddress(Shown):
    """An address that reaches nobody: it is not written to again until somebody says that it is good."""

    channel: str
    address: str
    since: Moment
    reason: str
    source: str = Field(description="Who said so.")

    @classmethod
    def of(cls, bad: StoredBadAddress) -> Self:
        return cls(**_target(bad.target), since=bad.since, reason=bad.reason, source=bad.source)


class Trouble(Shown):
    """What stands between healthd and a workspace's API."""

    workspace: str
    kind: str
    since: Moment
    message: str
    remedy: str
    request_id: str | None

    @classmethod
    def of(cls, one: StoredTrouble) -> Self:
        return cls(**{name: getattr(one, name) for name in cls.model_fields})


class Allowance(Shown):
    """Calls of the last minute."""

    limit: int = Field(description="What the provider grants the workspace, its other programs included.")
    share: int = Field(description="What healthd allows itself.")
    used: int
    waiting: dict[str, int] = Field(description="Calls that wait for their turn, by how urgent they are.")

    @classmethod
    def of(cls, one: AllowanceReading) -> Self:
        waiting = {lane.name.lower(): number for lane, number in one.waiting.items()}
        return cls(limit=one.limit, share=one.share, used=one.used, waiting=waiting)


class Subscription(Shown):
    """What the provider says of the webhook that it is to call, as of the last look."""

    url: str
    status: str
    events: list[str]
    checked_at: Moment
    problem: str | None
    repaired_at: Moment | None

    @classmethod
    def of(cls, one: Looked) -> Self:
        return cls(
            url=one.url,
            status=one.status,
            events=list(one.events),
            checked_at=one.checked_at,
            problem=one.problem or None,
            repaired_at=one.repaired_at,
        )


class Workspace(Shown):
    name: str
    accounts: dict[State, int]
    paused: int
    incidents_open: int
    nobody_told: int = Field(description="Broken accounts of which nobody could be told.")
    profiles: int
    swept_at: Moment | None = Field(description="The oldest of its profiles' last sweeps; `null` where one is to come.")
    inventory_at: Moment | None
    troubles: list[Trouble]
    storms: list[Storm]
    allowance: Allowance | None
    subscription: Subscription | None


class Workspaces(Shown):
    items: list[Workspace]


class Platform(Shown):
    platform: str
    accounts: dict[State, int]
    paused: int
    opened_by_day: dict[date, int] = Field(description="Incidents that began on each of the last 14 days (UTC).")


class Waiting(Shown):
    pending: int
    sending: int
    held: dict[str, int] = Field(description="By what keeps them back.")
    oldest_due_seconds: float


class Overview(Shown):
    at: Moment
    accounts: dict[State, int]
    paused: int
    platforms: list[Platform]
    incidents_open: int
    nobody_told: int
    longest_broken: list[Account]
    notices: Waiting
    webhooks: dict[str, int] = Field(description="Those not yet understood, by status.")
    bad_addresses: dict[str, int] = Field(description="By channel.")
    storms: list[Storm]
    troubles: list[Trouble]


class Act(Shown):
    """Something that somebody did."""

    id: int
    at: Moment
    who: str
    action: str
    subject: str
    account_id: int | None
    detail: str

    @classmethod
    def of(cls, one: Audited) -> Self:
        return cls(**{name: getattr(one, name) for name in cls.model_fields})


class Me(Shown):
    who: str
    role: Role
    by: str = Field(
        description="How you proved it: `bearer`, `session`, `proxy`, or `local` for being on this machine."
    )
    csrf: str | None = Field(description="What writes send as `X-CSRF-Token`; a bearer token needs none.")


class Paged(Given):
    """A page."""

    cursor: str | None = Field(default=None, max_length=2000, description="`next` of the page before.")
    limit: Limit = 50


class AccountsWanted(Paged):
    workspace: Names = []
    platform: Names = []
    state: Annotated[list[State], Field(max_length=20)] = []
    profile: str | None = Field(default=None, max_length=200)
    paused: Flag | None = None
    muted: Flag | None = None
    q: str = Field(default="", max_length=200, description="An id, `workspace/id`, or a part of a name or a handle.")
    sort: Sort = Field(
        default=Sort.ID,
        description="`changed`: what has been in its state for longest; `newest`: what moved last; both leave out "
        "accounts of which nothing is known yet.",
    )


class IncidentsWanted(Paged):
    open: Flag | None = Field(default=None, description="`true`: only those that last; `false`: only those over.")
    untold: Flag = Field(default=False, description="Only those that last and of which nobody could be told.")
    workspace: Names = []
    platform: Names = []
    cause: Annotated[list[Cause], Field(max_length=20)] = []
    account: Number | None = None
    storm: str | None = Field(default=None, max_length=200)


class NoticesWanted(Paged):
    status: Annotated[list[NoticeStatus], Field(max_length=20)] = []
    kind: Annotated[list[NoticeKind], Field(max_length=20)] = Field(
        default=[], description="`event`, for a customer's own app, is left out unless it is asked for."
    )
    channel: Names = []
    account: Number | None = None
    incident: str | None = Field(default=None, max_length=200)
    contact: str = Field(default="", max_length=200)


class StormsWanted(Paged):
    lasting: Flag | None = None


class OwnersWanted(Paged):
    workspace: Names = []


class AuditWanted(Given):
    cursor: str | None = Field(default=None, max_length=2000, description="`next` of the page before.")
    limit: Limit = 50
    account: Number | None = None


class Mistake(Shown):
    where: Literal["body", "query", "path", "header"]
    field: str
    detail: str


class ProblemDetails(BaseModel):
    """An error, after RFC 9457. Programs read `type`, people `detail`."""

    type: str = Field(examples=["urn:healthd:problem:not-found"])
    title: str
    status: int
    detail: str = ""
    errors: list[Mistake] = Field(default=[], description="Each mistake, where there are several.")
    reason: str = Field(default="", description="The provider's kind of refusal.")
    remedy: str = Field(default="", description="What to do about it.")
    request_id: str = Field(default="", description="The provider's own id of the call.")


def _account(stored: StoredAccount) -> dict[str, Any]:
    account = stored.account
    return {
        "id": stored.id,
        "workspace": account.workspace,
        "ref": account.ref,
        "platform": account.platform,
        "name": stored.name,
        "username": stored.username,
        "profile": stored.profile or None,
        "state": account.state,
        "paused": account.paused,
    }


def _more(stored: StoredAccount) -> dict[str, Any]:
    account = stored.account
    return {
        "changed_at": account.changed_at,
        "as_of": account.as_of,
        "validity_days": account.validity_days,
        "first_seen_at": stored.first_seen_at,
        "missing_since": stored.missing_since,
        "clicked_at": stored.clicked_at,
        "muted_until": stored.muted_until,
        "auto_paused_at": stored.auto_paused_at,
        "next_check_at": stored.probe_at,
    }


def _incident(incident: StoredIncident) -> dict[str, Any]:
    return {name: getattr(incident, name) for name in Incident.model_fields if name != "account"}


_SAME = (
    "id",
    "kind",
    "status",
    "reason",
    "hold",
    "level",
    "why",
    "incident_id",
    "trouble_id",
    "storm_id",
    "message_id",
)
_TIMES = ("created_at", "due_at", "sent_at", "attempts", "may_have_arrived")


def _notice(row: NoticeRow) -> dict[str, Any]:
    notice = row.notice
    facts = {name: getattr(notice, name) for name in (*_SAME, *_TIMES)}
    about = AccountRef.of(row.account) if row.account else None
    return facts | _target(notice.target) | {"contact": notice.contact or None, "account": about}


def _target(target: Target) -> dict[str, str]:
    return {"channel": target.channel, "address": target.address}
