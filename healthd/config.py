"""Settings: one TOML file, overridden by ``HEALTHD_…`` variables, secrets from files. Every mistake is told at once,
with its file, its dotted key, what is wrong and what was probably meant; never with the value of a secret.

Validation goes in two steps: each value by itself (pydantic), then what no value can know alone. Broken values are set
aside in between, so that one mistake does not hide those of the second kind.
"""

from __future__ import annotations

import copy
import difflib
import importlib.util
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from healthd import sections
from healthd.access import OidcSettings, ProxySettings, TokenSettings
from healthd.bounces import BounceSettings
from healthd.channels import ChannelSettings
from healthd.channels.email import EmailSettings
from healthd.channels.sentences import LANGUAGES, is_language
from healthd.channels.slack import SlackSettings
from healthd.channels.webhook import Secret, WebhookSettings
from healthd.channels.wording import BY_HAND
from healthd.core.cadence import Cadence
from healthd.core.contacts import CONTACT_KEY
from healthd.core.duration import parse_duration
from healthd.core.model import DEFAULT_LIFETIMES, Lifetime, Policy, Severity, Target
from healthd.core.post_failures import AUTH_CODES
from healthd.core.probing import ProbePolicy
from healthd.core.routing import ESCALATE_AFTER, Route, Routing, Step, references
from healthd.core.storm import StormPolicy
from healthd.dispatch import Hook
from healthd.store.database import is_postgres

ENV_PREFIX = "HEALTHD_"
OTHER_VARIABLES = frozenset({"HEALTHD_CONFIG", "HEALTHD_CHROMIUM"})
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
LONGEST = timedelta(days=3660)

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?(?P<path>/[\w./~-]*)?"
)
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+|(127\.0\.0\.1|localhost):\d{1,5}", re.ASCII)
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)
_LISTEN = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})", re.ASCII)
_KUBERNETES = re.compile(
    r"HEALTHD_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)\w*)?)"
)
"""Kubernetes sets such variables in every pod beside a Service whose name begins with ``healthd``."""


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        wanted = 'is no span of time: write a number and a unit in quotes, such as "90s", "5m", "6h", "7d"'
        raise ValueError(wanted)  # noqa: TRY004 - pydantic takes a TypeError for a fault of ours
    return parse_duration(value)


def _as_list(value: object) -> object:
    """Ids of accounts and profiles may be written as numbers."""
    return [value] if isinstance(value, int) else sections.as_list(value)


def _sensible(value: timedelta) -> timedelta:
    if not timedelta(0) < value <= LONGEST:
        raise ValueError("must be longer than nothing and no longer than ten years")
    return value


def _not_endless(value: timedelta) -> timedelta:
    return value if value == timedelta(0) else _sensible(value)


Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_sensible)]
Wait = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_not_endless)]
"""A span that may be nothing: "0s"."""
Durations = Annotated[tuple[Duration, ...], BeforeValidator(_as_list)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]


def _signs_links(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 32:
        raise ValueError("needs 32 characters or more: make one with `openssl rand -base64 32`")
    return value


def _signs_webhooks(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().strip():
        raise ValueError("is empty: anybody could sign with it")
    return value


LinkSecrets = Annotated[tuple[Annotated[SecretStr, AfterValidator(_signs_links)], ...], BeforeValidator(_as_list)]
WebhookSecrets = Annotated[tuple[Annotated[SecretStr, AfterValidator(_signs_webhooks)], ...], BeforeValidator(_as_list)]


class Section(sections.Section):
    model_config = ConfigDict(coerce_numbers_to_str=True)


def _address(value: str) -> str:
    found = _LISTEN.fullmatch(value)
    if found is None or int(found["port"]) > 65535:
        raise ValueError("write an address and a port, such as 0.0.0.0:8080 or [::]:8080")
    return value


Address = Annotated[str, AfterValidator(_address)]


def split_address(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _is_safe(url: re.Match[str] | None) -> bool:
    """https, or plain http that does not leave this machine."""
    return url is not None and (url["scheme"] == "https" or url["host"].strip("[]") in LOOPBACK)


def _is_bare(url: str) -> bool:
    """A safe address without a path."""
    found = _URL.fullmatch(url)
    return (
        found is not None
        and _is_safe(found)
        and not (found["path"] or "").strip("/")
        and int(found["port"] or 0) <= 65535
    )


class Server(Section):
    """The two listeners."""

    listen: Address = "0.0.0.0:8080"
    admin_listen: Address = "127.0.0.1:9090"
    trusted_proxies: Names = ()
    header_timeout: Duration = timedelta(seconds=10)
    body_timeout: Duration = timedelta(seconds=10)
    drain_timeout: Duration = timedelta(seconds=10)
    max_connections: int = Field(2000, ge=10)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in value:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError:
                raise ValueError(
                    f"{proxy!r} is no address or network: write them as 10.0.0.7 or 10.0.0.0/8, never as names"
                ) from None
        return value

    @property
    def admin_is_local(self) -> bool:
        """Whether only this machine reaches the private listener."""
        return split_address(self.admin_listen)[0] in LOOPBACK


class AccessSettings(Section):
    """Who may use the private listener."""

    pages: bool = True
    metrics: Literal["open", "token"] = "open"
    url: str | None = None
    session_lifetime: Duration = timedelta(hours=12)
    tokens: dict[str, TokenSettings] = Field(default_factory=dict)
    oidc: OidcSettings | None = None
    proxy: ProxySettings | None = None

    @field_validator("url")
    @classmethod
    def _own(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not _is_bare(value):
            raise ValueError(
                "must be the bare https address under which operators reach the private listener, such as "
                '"https://healthd-ops.example.com" (plain http only on this machine)'
            )
        return value.rstrip("/")

    @property
    def by_settings(self) -> bool:
        """Whether the settings let anybody in; tokens of the store are not known here."""
        return bool(self.tokens) or self.oidc is not None or self.proxy is not None

    @property
    def asks(self) -> bool:
        """Whether anything here is for those alone who prove who they are."""
        return self.pages or self.metrics == "token"


class StoreSettings(Section):
    """Where everything is kept."""

    url: str = "sqlite:///healthd.db"
    password: SecretStr | None = None

    @field_validator("url")
    @classmethod
    def _known(cls, value: str) -> str:
        if is_postgres(value):
            return _postgres_url(value)
        if not value.startswith("sqlite:///") or value == "sqlite:///" or ":memory:" in value:
            raise ValueError(
                'give a file on a local disk, such as "sqlite:////data/healthd.db" (four slashes: absolute), or a '
                'PostgreSQL database, such as "postgresql://healthd@db.example.com/healthd"'
            )
        return value

    @property
    def address(self) -> str:
        """The URL with the password: for whoever connects, and for nobody's eyes."""
        if self.password is None or not self.is_postgres:
            return self.url
        return make_url(self.url).set(password=self.password.get_secret_value()).render_as_string(hide_password=False)

    @property
    def is_postgres(self) -> bool:
        """Whether other daemons may share it."""
        return is_postgres(self.url)


def _postgres_url(value: str) -> str:
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        raise ValueError('write it as "postgresql://healthd@db.example.com:5432/healthd"') from None
    if url.password or "password" in url.query:
        raise ValueError('must not hold the password, since logs show it: write password = { file = "…" } below it')
    if not url.database:
        raise ValueError('names no database: write it as "postgresql://healthd@db.example.com/healthd"')
    return value


class LinkSettings(Section):
    mode: Literal["page", "direct"] = "page"
    secrets: LinkSecrets = ()
    lifetime: Duration = timedelta(days=7)
    allowed_hosts: Names = ()

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [host for host in value if not _HOST.fullmatch(host.lower())]
        if wrong:
            raise ValueError(
                f"{wrong[0]!r} is no host: write it as www.example.com, without https:// and path, or as "
                "127.0.0.1:8090 for a sandbox on this machine"
            )
        return tuple(host.lower() for host in value)


class WorkspaceSettings(Section):
    """One workspace at one provider."""

    provider: Literal["smartlyq"] = "smartlyq"
    api_key: SecretStr
    base_url: str = "https://api.smartlyq.com/v1"
    webhook_secrets: WebhookSecrets = ()
    webhooks: Literal["auto", "off"] = "auto"
    profiles: Literal["all", "none"] = "all"
    auto_pause: bool = False
    rate_share: float = Field(0.5, gt=0, le=1)

    @field_validator("api_key")
    @classmethod
    def _one_word(cls, value: SecretStr) -> SecretStr:
        key = value.get_secret_value()
        if not key.strip():
            raise ValueError("is empty")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("holds blanks, line breaks or signs that no key has: copy it again")
        return value

    @field_validator("base_url")
    @classmethod
    def _https(cls, value: str) -> str:
        if not _is_safe(_URL.fullmatch(value)):
            raise ValueError(
                "must be https, without user, query or fragment (plain http only to a sandbox on this machine)"
            )
        return value.rstrip("/")


class SweepSettings(Section):
    mode: Literal["bulk", "each"] = "bulk"
    bulk_interval: Duration = timedelta(seconds=60)
    account_interval: Duration = timedelta(hours=6)
    inventory_interval: Duration = timedelta(minutes=15)
    confirm_timeout: Duration = timedelta(minutes=5)
    error_patience: Duration = timedelta(hours=1)
    expiring_days: int = Field(7, ge=0, le=60)
    request_timeout: Duration = timedelta(seconds=15)


class PostSettings(Section):
    """What posts that could not be published say of their account."""

    auth_codes: Names = AUTH_CODES


class LifetimeSettings(Section):
    deadline: bool = False


class NoticeSettings(Section):
    """Who is told, when, and how many at once."""

    default: Names = ()
    operator: Names = ()
    language: str = "en"
    templates: Path | None = None
    by_hand: str = BY_HAND
    remind_after: Durations = Cadence().remind_after
    repeat_interval: Duration | None = None
    most_reminders: int = Field(Cadence().most_reminders, ge=0, le=1000)
    escalate_after: Duration = ESCALATE_AFTER
    acknowledge_for: Duration = Cadence().acknowledge_for
    group_wait: Wait = Cadence().group_wait
    group_interval: Wait = Cadence().group_interval
    digest_above: int = Field(Cadence().digest_above, ge=1, le=1000)
    chronic_repairs: int = Field(Cadence().chronic_repairs, ge=0, le=1000)
    chronic_within: Duration = Cadence().chronic_within
    give_up_after: Duration = Cadence().give_up_after

    @field_validator("language")
    @classmethod
    def _spoken(cls, value: str) -> str:
        if not is_language(value):
            raise ValueError(f"is no language: messages come in {', '.join(LANGUAGES)}")
        return value

    @field_validator("templates")
    @classmethod
    def _folder(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError("is no folder")
        return value

    @field_validator("group_wait")
    @classmethod
    def _soon(cls, value: timedelta) -> timedelta:
        if value > timedelta(hours=1):
            raise ValueError("a message that waits longer than an hour for others comes too late")
        return value

    @field_validator("remind_after")
    @classmethod
    def _rising(cls, value: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(
                'the times count from the opening of the incident and must rise, such as ["1d", "3d", "7d"]'
            )
        return value


class StormSettings(Section):
    """When so many accounts of a platform break at once that people's notices are held."""

    least: int = Field(StormPolicy().least, ge=1, le=1_000_000)
    share: float = Field(StormPolicy().share, gt=0, le=1)
    window: Duration = StormPolicy().window
    calm: Duration = StormPolicy().calm
    longest: Duration = StormPolicy().longest

    def policy(self) -> StormPolicy:
        return StormPolicy(self.least, self.share, self.window, self.calm, self.longest)


class WebhookCareSettings(Section):
    """How the webhook that a provider is to call is looked after."""

    audit_interval: Duration = timedelta(hours=1)
    repair: bool = True


class ContactSettings(Section):
    """The customer's own endpoint that knows who is responsible for an account."""

    resolver_url: str | None = None
    resolver_secret: Secret | None = None
    resolver_timeout: Duration = timedelta(seconds=5)
    cache_for: Duration = timedelta(minutes=15)
    allow_private: bool = False

    @field_validator("resolver_url")
    @classmethod
    def _https(cls, value: str | None) -> str | None:
        if value is not None and not _is_safe(_URL.fullmatch(value)):
            raise ValueError("must be https, without user, query or fragment (plain http only on this machine)")
        return value

    @model_validator(mode="after")
    def _signed(self) -> ContactSettings:
        if (self.resolver_url is None) != (self.resolver_secret is None):
            raise ValueError("resolver_url and resolver_secret belong together: set both, or neither")
        return self


class StepSettings(Section):
    """Who is told next, if nobody has repaired it by then."""

    after: Duration
    to: Names = Field(min_length=1)


class RouteSettings(Section):
    to: Names = Field(min_length=1)
    workspace: Names = ()
    platform: Names = ()
    account: Names = ()
    profile: Names = ()
    labels: dict[str, str] = Field(default_factory=dict)
    then: tuple[StepSettings, ...] = ()
    stop: bool = True

    def route(self) -> Route:
        return Route(
            _parsed(self.to),
            frozenset(self.workspace),
            frozenset(self.platform),
            frozenset(self.account),
            frozenset(self.profile),
            tuple(self.labels.items()),
            tuple(Step(_parsed(step.to), step.after) for step in self.then),
            self.stop,
        )


class TracingSettings(Section):
    """Where traces are sent, if anywhere."""

    endpoint: str | None = None
    sample: float = Field(1.0, ge=0, le=1)
    headers: dict[str, SecretStr] = Field(default_factory=dict)

    @field_validator("endpoint")
    @classmethod
    def _https(cls, value: str | None) -> str | None:
        if value is not None and not _is_safe(_URL.fullmatch(value)):
            raise ValueError("must be https, without user, query or fragment (plain http only on this machine)")
        return value

    @field_validator("headers")
    @classmethod
    def _sendable(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, one in value.items():
            if not _HEADER.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a header")
            text = one.get_secret_value()
            if not text.isascii() or not text.isprintable():
                raise ValueError(f"{name}: holds signs that no header may have: copy it again")
        return value


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "pretty"] = "auto"


class Settings(Section):
    """Everything an operator may set. ``config.example.toml`` explains each key."""

    public_url: str | None = None
    server: Server = Server()
    access: AccessSettings = AccessSettings()
    store: StoreSettings = StoreSettings()
    link: LinkSettings = LinkSettings()
    sweep: SweepSettings = SweepSettings()
    posts: PostSettings = PostSettings()
    notices: NoticeSettings = NoticeSettings()
    storm: StormSettings = StormSettings()
    contacts: ContactSettings = ContactSettings()
    webhook: WebhookCareSettings = WebhookCareSettings()
    tracing: TracingSettings = TracingSettings()
    log: LogSettings = LogSettings()
    workspaces: dict[str, WorkspaceSettings] = Field(default_factory=dict)
    channels: dict[str, ChannelSettings] = Field(default_factory=dict)
    bounces: dict[str, BounceSettings] = Field(default_factory=dict)
    routes: tuple[RouteSettings, ...] = ()
    lifetimes: dict[str, LifetimeSettings] = Field(default_factory=dict)

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not _is_bare(value):
            raise ValueError(
                'must be the bare https address of the public listener, such as "https://healthd.example.com" '
                "(plain http only on this machine)"
            )
        return value.rstrip("/")

    def policy(self) -> Policy:
        lifetimes = DEFAULT_LIFETIMES | {name: Lifetime(life.deadline) for name, life in self.lifetimes.items()}
        return Policy(self.sweep.confirm_timeout, self.sweep.error_patience, self.sweep.expiring_days, lifetimes)

    def probe_policy(self) -> ProbePolicy:
        return ProbePolicy(self.sweep.account_interval)

    def cadence(self) -> Cadence:
        chosen = self.notices
        return Cadence(
            remind_after=chosen.remind_after,
            repeat_interval=chosen.repeat_interval,
            most_reminders=chosen.most_reminders,
            give_up_after=chosen.give_up_after,
            group_wait=chosen.group_wait,
            group_interval=chosen.group_interval,
            digest_above=chosen.digest_above,
            acknowledge_for=chosen.acknowledge_for,
            chronic_repairs=chosen.chronic_repairs,
            chronic_within=chosen.chronic_within,
        )

    def operators(self) -> tuple[Target, ...]:
        """Who is told of trouble with an API."""
        return _parsed(self.notices.operator)

    def routing(self) -> Routing:
        routes = tuple(route.route() for route in self.routes)
        return Routing(routes, _parsed(self.notices.default), self.notices.escalate_after)

    def named_contacts(self) -> dict[str, str]:
        """Contacts, by key, that the settings name, and where."""
        places = [("notices.default", self.notices.default), ("notices.operator", self.notices.operator)]
        for number, route in enumerate(self.routes, 1):
            places += [(f"route {number}", names) for names in (route.to, *(step.to for step in route.then))]
        return {key: where for where, names in reversed(places) for key in references(_parsed(names))}

    def address_checks(self) -> dict[str, Callable[[str], None]]:
        """What each channel has against an address, said by a ``ValueError``."""
        return {name: channel.validate_address for name, channel in self.channels.items()}

    def mail_channels(self) -> list[str]:
        """The channels whose addresses are those of mailboxes."""
        return [name for name, channel in self.channels.items() if isinstance(channel, EmailSettings)]

    def signing_secrets(self) -> dict[str, str]:
        """Of the Slack apps whose buttons lead back to us, by channel."""
        return {
            name: channel.signing_secret.get_secret_value()
            for name, channel in self.channels.items()
            if isinstance(channel, SlackSettings) and channel.signing_secret is not None
        }

    def hooks(self) -> tuple[Hook, ...]:
        """The outgoing webhooks, and the events that each of them wants."""
        return tuple(
            Hook(name, frozenset(channel.events))
            for name, channel in self.channels.items()
            if isinstance(channel, WebhookSettings)
        )

    def severities(self) -> dict[str, Severity]:
        """What each channel wants at the least."""
        return {name: Severity[channel.min_severity.upper()] for name, channel in self.channels.items()}


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it stands, what is wrong, and what was probably meant."""

    where: str
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.where}: {key}{self.message}{hint}"


class ConfigError(Exception):
    """The configuration cannot be used. ``problems`` holds every mistake found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def load(path: Path | None, environ: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings without touching the network. Raises ``ConfigError`` with all mistakes at once."""
    given = _Given(str(path) if path else "environment", _read(path) if path else {})
    given.override(os.environ if environ is None else environ)
    given.content = _with_files(given, given.content)
    settings = _valid(given)
    if settings is not None:
        given.blame(_cross_checks(settings, given.broken))
    if settings is None or given.problems:
        raise ConfigError(given.problems)
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        hint = "Copy config.example.toml to start, or name another file with --config."
        raise ConfigError([Problem(str(path), "", "there is no such file.", hint)]) from None
    except OSError as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error.strerror}.")]) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem(str(path), "", "is not UTF-8 text.")]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Problem(str(path), "", f"is not TOML: {error}.")]) from None


Place = tuple[str | int, ...]
"""Where a value stands, from the top: ``("workspaces", "acme", "api_key")``."""


@dataclass
class _Given:
    """What the operator wrote, where each value came from, and what has been found wrong with it."""

    where: str
    content: dict[str, Any]
    variables: dict[Place, str] = field(default_factory=dict)
    unread: set[Place] = field(default_factory=set)
    broken: set[Place] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def override(self, environ: Mapping[str, str]) -> None:
        """Puts the variables' values over the file's. A value that looks like a JSON list or object is read as one."""
        for name, text in sorted(environ.items()):
            if not name.startswith(ENV_PREFIX) or name in OTHER_VARIABLES:
                continue
            if "__" not in name and _KUBERNETES.fullmatch(name):
                continue
            place: Place = tuple(name.removeprefix(ENV_PREFIX).lower().split("__"))
            self.variables[place] = name
            section: Any = self.content
            for part in place[:-1]:
                section = section.setdefault(part, {}) if isinstance(section, dict) else None
            if isinstance(section, dict):
                section[place[-1]] = _from_text(text)

    def source(self, place: Place) -> str:
        """The variable that the value came from, or the file."""
        lengths = range(len(place), 0, -1)
        variable = next((self.variables[place[:n]] for n in lengths if place[:n] in self.variables), None)
        return f"environment {variable}" if variable else self.where

    def blame(self, found: Iterator[tuple[Place, str, str]]) -> None:
        self.problems += [
            Problem(self.source(place), ".".join(map(str, place)), message, hint) for place, message, hint in found
        ]


def _from_text(text: str) -> Any:
    if text.lstrip()[:1] in {"[", "{"}:
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _with_files(given: _Given, value: Any, place: Place = ()) -> Any:
    """The settings with the content of a file wherever ``{ file = "…" }`` stands, as it may for any secret."""
    if isinstance(value, dict):
        if value.keys() == {"file"} and not any(_keys_at(Settings, place)):
            return _file_content(given, value["file"], place)
        return {name: _with_files(given, inner, (*place, name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_files(given, inner, (*place, number)) for number, inner in enumerate(value)]
    return value


_UNREAD = "unread-" * 7
"""Stands for a secret whose file cannot be read; what follows from it is not told."""


def _file_content(given: _Given, name: object, place: Place) -> str:
    """The messages name no file: who writes the secret itself there by mistake would find it in a log."""
    hint = ""
    try:
        content = Path(str(name)).read_text("utf-8").strip()
        problem = "" if content else "the file that it names is empty."
    except UnicodeDecodeError:
        content, problem = "", "the file that it names is not UTF-8 text."
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "that is no name for a file"
        content, problem = "", f"the file that it names cannot be read: {why}."
        hint = "" if str(name).startswith("/") else f"A name without a / at its start is looked for in {Path.cwd()}."
    if problem:
        given.blame(iter([(place, problem, hint)]))
        given.unread.add(place)
        given.broken.add(place)
    return content or _UNREAD


def _valid(given: _Given) -> Settings | None:
    """The settings, with whatever is wrong noted and set aside; ``None`` where too little is left."""
    content = copy.deepcopy(given.content)
    first = True
    while True:
        try:
            return Settings.model_validate(content)
        except ValidationError as error:
            found: list[dict[str, Any]] = [dict(one) for one in error.errors(include_input=False, include_url=False)]
        if first:
            given.blame(_explained(given, found))
        first = False
        places = [_place(one["loc"]) for one in found]
        given.broken.update(places)
        if not _set_aside(content, places):
            return None


def _place(location: Place) -> Place:
    """pydantic puts a channel's type between its name and its keys."""
    return (*location[:2], *location[3:]) if location[0] == "channels" else location


def _set_aside(content: dict[str, Any], places: Sequence[Place]) -> bool:
    """Takes out the values at these places, or what stands nearest to them; whether there was anything."""
    there = {_nearest(content, place) for place in places} - {()}
    # The deeper ones first, and the last of a list before its others: what is taken out moves none that is still to go.
    for place in sorted(there, key=lambda one: (-len(one), [-part if isinstance(part, int) else 0 for part in one])):
        *path, key = place
        holder = _value_at(content, path)
        if place[0] == "routes" and len(place) == 2:
            holder[key] = {"to": ["-"]}  # the routes behind it keep their numbers
        else:
            del holder[key]
    return bool(there)


def _nearest(content: Any, place: Place) -> Place:
    """The place, or the part of the way to it that there is."""
    for done, part in enumerate(place):
        inside = (
            part in content if isinstance(content, dict) else isinstance(content, list) and part in range(len(content))
        )
        if not inside:
            return place[:done]
        content = content[part]
    return place


def _value_at(content: Any, place: Sequence[str | int]) -> Any:
    for part in place:
        content = content[part]
    return content


def _explained(given: _Given, found: Sequence[dict[str, Any]]) -> Iterator[tuple[Place, str, str]]:
    lists = {_place(error["loc"])[:-1] for error in found}
    for error in found:
        place = _place(error["loc"])
        if error["type"] == "too_short" and place in lists:
            continue  # pydantic does not count those that are wrong
        unread = place in given.unread
        # A check of a whole section may be about the secret that could not be read.
        unread |= error["type"] == "value_error" and any(one[: len(place)] == place for one in given.unread)
        if unread:
            continue
        hint = _hint(given, error, place)
        if error["type"].startswith("union_tag_"):
            place = (*place, "type")
        if error["type"] == "extra_forbidden":
            place = next((one for one in given.variables if one[: len(place)] == place), place)
        yield place, _said(error), hint


_SAID = {
    "missing": "is missing.",
    "extra_forbidden": "is not a key that healthd knows.",
    "union_tag_not_found": 'needs a type: "email", "slack", "apprise" or "webhook".',
    "union_tag_invalid": 'is of no type that there is: "email", "slack", "apprise" or "webhook".',
    "string_type": "must be text, in quotes.",
    "tuple_type": "must be a list: [ … ].",
    "bool_type": "must be true or false.",
    "bool_parsing": "must be true or false.",
    "int_type": "must be a whole number.",
    "int_parsing": "must be a whole number.",
    "int_from_float": "must be a whole number.",
    "float_type": "must be a number.",
    "float_parsing": "must be a number.",
    "too_short": "is empty.",
    "string_too_short": "is empty.",
    **dict.fromkeys(
        ("dict_type", "model_type", "model_attributes_type"), "must be a section with keys of its own, not one value."
    ),
}


def _said(error: dict[str, Any]) -> str:
    if error["type"] == "literal_error":
        return f"must be {error['ctx']['expected']}."
    message = _SAID.get(error["type"]) or error["msg"].removeprefix("Value error, ").rstrip(".") + "."
    return str(message).replace("Input should be", "must be")


def _hint(given: _Given, error: dict[str, Any], place: Place) -> str:
    match error["type"]:
        case "extra_forbidden":
            return _meant(given, error["loc"], place)
        case "literal_error":
            return _closest(str(_value_at(given.content, place)), re.findall(r"'([^']*)'", error["ctx"]["expected"]))
        case "union_tag_invalid":
            return _closest(str(error["ctx"]["tag"]), _TYPES)
    return ""


def did_you_mean(wrong: str, known: Iterable[object]) -> str:
    """The one of the known names that is meant, or all of them: the second half of a sentence."""
    names = list(map(str, known))
    close = difflib.get_close_matches(wrong, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"


def _closest(wrong: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else ""


def _meant(given: _Given, location: Place, place: Place) -> str:
    """What an unknown key was probably meant to be: another name, or the same one in its own place."""
    *parents, wrong = map(str, location)
    known = sorted(_keys_at(Settings, parents))
    for variable in given.variables:
        if variable[: len(place)] == place:
            before, after = place[:-1], variable[len(place) :]
            close = difflib.get_close_matches(wrong, known, n=1)
            meant = [ENV_PREFIX + "__".join(map(str, (*before, name, *after))).upper() for name in close]
            return f"Did you mean {meant[0]}?" if meant else "Names look like HEALTHD_SERVER__LISTEN."
    if parents and wrong in Settings.model_fields:
        return "It belongs at the top of the file, before the first [section]."
    if hint := _closest(wrong, known):
        return hint
    sections = {name: one.annotation for name, one in Settings.model_fields.items() if isinstance(one.annotation, type)}
    home = next((name for name, model in sections.items() if wrong in _keys_at(model, ())), None)
    return f"It belongs under [{home}]." if home else f"Known here: {', '.join(known)}."


_TYPES = ("email", "slack", "apprise", "webhook")


def _keys_at(model: Any, path: Sequence[str | int]) -> Iterator[str]:
    """The keys that are known at a place, in every shape that may stand there."""
    for shape in _models(model):
        if not path:
            yield from shape.model_fields
        elif str(path[0]) in _TYPES and "type" in shape.model_fields:
            if str(path[0]) in get_args(shape.model_fields["type"].annotation):
                yield from _keys_at(shape, path[1:])
        elif path[0] in shape.model_fields:
            inner = shape.model_fields[str(path[0])].annotation
            skip = 2 if get_origin(inner) in {dict, tuple} else 1
            if len(path) >= skip:
                yield from _keys_at(inner, path[skip:])


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _cross_checks(settings: Settings, broken: set[Place]) -> Iterator[tuple[Place, str, str]]:
    """What no single key can know: ``(place, message, hint)``. Nothing is said of what is broken already."""
    for found in (
        *_essentials(settings),
        *_access(settings),
        *_names(settings),
        *_pausing(settings),
        *_targets(settings, broken),
    ):
        place = found[0]
        if not any(one[: len(place)] == place[: len(one)] for one in broken):
            yield found


def _access(settings: Settings) -> Iterator[tuple[Place, str, str]]:
    chosen = settings.access
    if chosen.oidc is not None and chosen.url is None:
        hint = "The provider sends people back there; tell it of the address with /sign-in/oidc/done behind it."
        yield ("access", "url"), "is missing: access.oidc needs it.", hint
    known: set[str] = set()
    for name, one in chosen.tokens.items():
        token = one.token.get_secret_value()
        if token in known:
            yield ("access", "tokens", name), "has the token of another: nobody could tell who is who.", ""
        known.add(token)


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it stands in
        return False


def _essentials(settings: Settings) -> Iterator[tuple[Place, str, str]]:
    if not settings.workspaces:
        yield ("workspaces",), "there is none, so there is nothing to watch.", "Add a [workspaces.NAME] section."
    if settings.store.is_postgres and not _is_there("psycopg"):
        yield ("store", "url"), "needs psycopg, which is not here.", "pip install 'healthd[postgres]'"
    if settings.tracing.endpoint is not None and not _is_there("opentelemetry.sdk"):
        yield ("tracing", "endpoint"), "needs OpenTelemetry, which is not here.", "pip install 'healthd[otel]'"
    if split_address(settings.server.listen)[1] == split_address(settings.server.admin_listen)[1] != 0:
        yield ("server", "admin_listen"), "has the same port as server.listen.", ""
    if settings.link.mode == "direct":
        return
    if settings.public_url is None:
        hint = 'Set it, or set link.mode = "direct" to send the provider\'s links, which die after 15 minutes.'
        yield ("public_url",), "is missing: links in messages lead to healthd's own page there.", hint
    if not settings.link.secrets:
        yield ("link", "secrets"), "is missing: it signs the links.", "Make one with `openssl rand -base64 32`."


def _pausing(settings: Settings) -> Iterator[tuple[Place, str, str]]:
    if settings.sweep.mode == "bulk":
        return
    for name, workspace in settings.workspaces.items():
        if workspace.auto_pause:
            said = "needs the sweep over everything: nothing else tells whether posting to an account is paused."
            yield ("workspaces", name, "auto_pause"), said, 'Set sweep.mode = "bulk", or leave auto_pause out.'


def _names(settings: Settings) -> Iterator[tuple[Place, str, str]]:
    for section, names in (
        ("workspaces", settings.workspaces),
        ("channels", settings.channels),
        ("bounces", settings.bounces),
        ("access.tokens", settings.access.tokens),
    ):
        for name in names:
            if not NAME.fullmatch(name):
                yield (*section.split("."), name), "a name is lower-case letters, digits, - and _.", ""


def _parsed(targets: Names) -> tuple[Target, ...]:
    return tuple(map(Target.parse, targets))


def _targets(settings: Settings, broken: set[Place]) -> Iterator[tuple[Place, str, str]]:
    chosen = settings.notices
    lists: list[tuple[Place, tuple[str, ...]]] = [
        (("notices", "default"), chosen.default),
        (("notices", "operator"), chosen.operator),
    ]
    for number, route in enumerate(settings.routes):
        lists.append((("routes", number, "to"), route.to))
        lists += [(("routes", number, "then", step, "to"), one.to) for step, one in enumerate(route.then)]
    unsure = {(section, name) for section, name, *_ in (one for one in broken if len(one) > 1)} | broken
    for place, targets in lists:
        for text in targets:
            found = _contact(text) if text.startswith("@") else _target(settings, text, unsure)
            if found is not None:
                yield place, *found
    for number, route in enumerate(settings.routes):
        for name in route.workspace:
            if name not in settings.workspaces and not {("workspaces",), ("workspaces", name)} & unsure:
                hint = _closest(name, list(settings.workspaces))
                yield ("routes", number, "workspace"), f"there is no workspace {name!r}.", hint


def _contact(text: str) -> tuple[str, str] | None:
    """What is wrong with a contact that a route names; whether there is one of that key stands in the store."""
    if CONTACT_KEY.fullmatch(text[1:]):
        return None
    return f"{text!r} is no contact.", "Write @ and the contact's key, such as @ada, or @owner."


def _target(settings: Settings, text: str, unsure: set[Place]) -> tuple[str, str] | None:
    """What is wrong with a target, and what was meant."""
    target = Target.parse(text)
    channel = settings.channels.get(target.channel)
    if "//" in text:
        return "holds a URL.", "Put it into a channel of type apprise, and write that channel's name here."
    if channel is None:
        if {("channels",), ("channels", target.channel)} & unsure:
            return None
        hint = _closest(target.channel, list(settings.channels)) or "Add a [channels.NAME] section for it."
        return f"there is no channel {target.channel!r}.", hint
    if isinstance(channel, WebhookSettings):
        return f"{target.channel} is a webhook.", "It hears of every account by itself: its `events` say of what."
    try:
        channel.validate_address(target.address)
    except ValueError as error:
        return f"{target.channel}: {str(error).rstrip('.')}.", ""
    return None


def secret_values(settings: Settings) -> list[str]:
    """Every secret string there is, for the log's redaction."""
    found = dict.fromkeys(secret.get_secret_value() for secret in _secrets(settings))
    return [value for value in found if value]


def _secrets(value: object) -> Iterator[SecretStr]:
    if isinstance(value, SecretStr):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _secrets(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _secrets(inner)
