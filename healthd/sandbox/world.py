"""What the sandbox pretends exists: workspaces and their keys, accounts, profiles, and links that open once."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

PLATFORMS = (
    "facebook", "instagram", "twitter", "linkedin", "youtube", "tiktok", "threads", "bluesky",
    "pinterest", "reddit", "snapchat", "tumblr", "gmb", "discord", "telegram", "whatsapp",
)  # fmt: skip

VALIDITY = {
    "facebook": 60, "instagram": 60, "threads": 60, "linkedin": 60, "pinterest": 30, "discord": 365,
    "telegram": 365, "whatsapp": 365,
}  # fmt: skip
"""Days that a fresh grant reports. The others live on tokens of hours that the provider renews: always 0."""

LOGINS = {"youtube": "google", "gmb": "google", "facebook": "meta", "instagram": "meta"}
CREDENTIALS = {
    "telegram": ("bot_token", "chat"),
    "whatsapp": ("waba_id", "phone_number_id", "access_token"),
    "bluesky": ("identifier", "app_password"),
}
"""What connects an account without a browser."""
CREDENTIALS_ONLY = frozenset({"telegram", "whatsapp"})
SCOPES = frozenset(
    {
        "social:read", "social:write", "webhooks:read", "webhooks:write",
        "profiles:read", "profiles:write", "profiles:manage",
    }
)  # fmt: skip
LINK_LIFE = timedelta(minutes=15)
EXPIRING_WITHIN = 7
_BRANDS = ("Acme", "Northwind", "Blue Harbour", "Café Lumen", "Tall Pines", "Orbit", "Maple & Co", "Sundial")
_KINDS = ("Shop", "Studio", "News", "Support", "Kitchen", "Travel", "Careers", "Events")
_INVENTED = tuple(f"{_BRANDS[number % 8]} {_KINDS[number // 8]}" for number in range(64))
"""Names for accounts that were given none; a million share them."""
_HANDLES = tuple(name.split(maxsplit=1)[0].lower() for name in _INVENTED)


@dataclass(slots=True)
class Account:
    """``status`` is what the health endpoints say of it: ``connected``, ``expired``, ``error``, or anything odd."""

    id: int
    workspace: str
    platform: str
    name: str
    username: str
    validity_days: int
    profile: int | None = None
    status: str = "connected"
    token_expired: bool = False
    is_active: bool = True
    connected_at: int = 0

    def brief(self) -> dict[str, object]:
        return {"id": self.id, "platform": self.platform, "name": self.name}

    def health(self) -> dict[str, object]:
        return {
            "id": self.id,
            "platform": self.platform,
            "account_name": self.name,
            "status": self.status,
            "token_expired": self.token_expired,
            "validity_days": self.validity_days,
        }

    def row(self) -> dict[str, object]:
        return self.health() | {"is_active": self.is_active}

    @property
    def broken(self) -> bool:
        return bool(self.token_expired) or self.status != "connected"


@dataclass(slots=True)
class Profile:
    id: int
    workspace: str
    name: str
    external_id: str | None
    created_at: datetime
    status: str = "active"

    @property
    def workspace_id(self) -> int:
        """A profile is a workspace of its own to the provider."""
        return 50_000 + self.id


@dataclass(slots=True)
class Key:
    key: str
    workspace: str
    scopes: frozenset[str] = SCOPES
    revoked: bool = False


@dataclass(slots=True)
class Link:
    """A way to consent. ``account`` is ``None`` where a new one is to be connected; opening it uses it up.

    Where the person may choose, ``choices`` holds more platforms than ``platform``, which is the first of them.
    """

    token: str
    workspace: str
    platform: str
    expires_at: datetime
    choices: tuple[str, ...] = ()
    account: int | None = None
    profile: int | None = None
    return_url: str | None = None
    form: str | None = None
    """The secret of the one page that was shown; whoever holds it may answer."""
    result: str = "pending"
    connected: int | None = None


@dataclass
class Workspace:
    """``limit`` overrides the rate limit that follows from the number of accounts."""

    name: str
    id: int
    limit: int | None = None
    window: int = 0
    spent: int = 0
    accounts: dict[int, Account] = field(default_factory=dict)


@dataclass
class World:
    """Everything, with a clock that can be moved forward."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ahead: timedelta = timedelta(0)
    workspaces: dict[str, Workspace] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    accounts: dict[int, Account] = field(default_factory=dict)
    profiles: dict[int, Profile] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    """Platforms whose accounts all look broken for now, whatever their own state."""
    _next_account: int = 1001
    _next_profile: int = 201

    def now(self) -> datetime:
        return self.clock() + self.ahead

    def add_workspace(self, name: str) -> Workspace:
        """A workspace with a key that may do everything: ``sqk_test_<name>``."""
        if name not in self.workspaces:
            self.workspaces[name] = Workspace(name, 1 + len(self.workspaces))
            self.add_key(f"sqk_test_{name}", name)
        return self.workspaces[name]

    def add_key(self, key: str, workspace: str, scopes: Iterable[str] = SCOPES) -> Key:
        self.keys[key] = Key(key, workspace, frozenset(scopes))
        return self.keys[key]

    def add_account(
        self,
        workspace: str,
        platform: str,
        name: str | None = None,
        username: str | None = None,
        profile: int | None = None,
    ) -> Account:
        number = self._next_account
        self._next_account += 1
        account = Account(
            number,
            workspace,
            platform,
            name or _INVENTED[number % 64],
            username or f"{_HANDLES[number % 64]}{number}",
            VALIDITY.get(platform, 0),
            profile,
            connected_at=int(self.now().timestamp()),
        )
        self.accounts[number] = account
        self.workspaces[workspace].accounts[number] = account
        return account

    def fill(self, workspace: str, count: int, profiles: int = 0) -> None:
        """So many accounts, over all platforms in turn; in so many new profiles, or in the workspace itself."""
        made = [self.add_profile(workspace, f"Customer {number}", f"customer-{number}") for number in range(profiles)]
        homes: list[int | None] = [profile.id for profile in made] or [None]
        for number in range(count):
            home = homes[number * len(homes) // count]
            self.add_account(workspace, PLATFORMS[number % len(PLATFORMS)], profile=home)

    def remove_account(self, account: Account) -> None:
        del self.accounts[account.id]
        del self.workspaces[account.workspace].accounts[account.id]

    def add_profile(self, workspace: str, name: str, external_id: str | None) -> Profile:
        profile = Profile(self._next_profile, workspace, name, external_id, self.now())
        self._next_profile += 1
        self.profiles[profile.id] = profile
        return profile

    def accounts_of(self, workspace: str, profile: int | None) -> Iterator[Account]:
        return (account for account in self.workspaces[workspace].accounts.values() if account.profile == profile)

    def seen(self, account: Account) -> dict[str, object]:
        """The account's row as the health endpoints show it, its platform's troubles included."""
        row = account.row()
        if account.platform in self.down and not account.broken:
            row |= {"status": "expired", "token_expired": True, "validity_days": 0}
        return row

    def tally(self, account: Account) -> str:
        """Under which of the provider's four counts the account falls."""
        if not account.is_active:
            return "paused"
        if account.broken or account.platform in self.down:
            return "expired"
        days = account.validity_days
        return "expiring" if isinstance(days, int) and days <= EXPIRING_WITHIN else "healthy"

    def break_token(self, account: Account) -> None:
        account.status, account.token_expired, account.validity_days = "expired", True, 0

    def break_connection(self, account: Account) -> None:
        account.status, account.token_expired = "error", False

    def repair(self, account: Account) -> None:
        account.status, account.token_expired = "connected", False
        account.validity_days = VALIDITY.get(account.platform, 0)
        account.connected_at = int(self.now().timestamp())

    def siblings(self, account: Account) -> list[Account]:
        """Broken accounts behind the same login."""
        login = LOGINS.get(account.platform)
        return [
            other
            for other in self.accounts_of(account.workspace, account.profile)
            if login and other is not account and other.broken and LOGINS.get(other.platform) == login
        ]

    def mint(
        self,
        workspace: str,
        platform: str,
        *,
        account: int | None = None,
        profile: int | None = None,
        return_url: str | None = None,
        choices: tuple[str, ...] = (),
        life: timedelta = LINK_LIFE,
    ) -> Link:
        token, expires_at = secrets.token_urlsafe(24), self.now() + life
        link = Link(token, workspace, platform, expires_at, choices, account, profile, return_url)
        self.links[token] = link
        return link

    def is_too_old(self, link: Link) -> bool:
        return self.now() >= link.expires_at

    def is_over(self, link: Link) -> bool:
        return link.form is not None or self.is_too_old(link)

    def rate_limit(self, workspace: Workspace) -> int:
        """Requests a minute, by the published tiers."""
        if workspace.limit is not None:
            return workspace.limit
        count = len(workspace.accounts)
        return 60 if count <= 2 else 600 if count <= 2000 else 1200

    def spend(self, workspace: Workspace, requests: int = 1) -> tuple[int, int, int]:
        """Counts requests; returns limit, what is left (below zero: refuse) and when the window ends, Unix time."""
        window = int(self.now().timestamp()) // 60
        if window != workspace.window:
            workspace.window, workspace.spent = window, 0
        workspace.spent += requests
        limit = self.rate_limit(workspace)
        return limit, limit - workspace.spent, (window + 1) * 60
