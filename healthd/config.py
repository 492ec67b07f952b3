"""Settings: one TOML file, overridden by ``HEALTHD_…`` variables, secrets from files. Every mistake is told at once,
with its file, its dotted key, what is wrong and what was probably meant; never with the value of a secret.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from healthd.channels import ChannelSettings
from healthd.core.cadence import Cadence
from healthd.core.duration import parse_duration
from healthd.core.model import DEFAULT_LIFETIMES, Lifetime, Policy, Target
from healthd.core.probing import ProbePolicy
from healthd.core.routing import Route, Routing

ENV_PREFIX = "HEALTHD_"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | int) else value


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0))]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, coerce_numbers_to_str=True)


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("write an address and a port, such as 0.0.0.0:8080 or [::]:8080")
    return value


Address = Annotated[str, BeforeValidator(_address)]


def split_address(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class Server(Section):
    """The two listeners."""

    listen: Address = "0.0.0.0:8080"
    admin_listen: Address = "127.0.0.1:9090"
    allow_remote_admin: bool = False
    trusted_proxies: Names = ()
    header_timeout: Duration = timedelta(seconds=10)
    body_timeout: Duration = timedelta(seconds=10)
    drain_timeout: Duration = timedelta(seconds=10)
    max_connections: int = Field(2000, ge=10)

    @model_validator(mode="after")
    def _admin_stays_home(self) -> Server:
        host, _ = split_address(self.admin_listen)
        if host not in _LOOPBACK and not self.allow_remote_admin:
            raise ValueError(
                "admin_listen leaves loopback, and its pages know everything: keep it on 127.0.0.1, or set "
                "allow_remote_admin = true once a firewall or NetworkPolicy lets only Prometheus and operators in"
            )
        return self


class StoreSettings(Section):
    url: str = "sqlite:///healthd.db"

    @field_validator("url")
    @classmethod
    def _sqlite(cls, value: str) -> str:
        if not value.startswith("sqlite:///") or value == "sqlite:///" or ":memory:" in value:
            raise ValueError(
                'give a file on a local disk, such as "sqlite:////data/healthd.db" (four slashes: absolute)'
            )
        return value


class LinkSettings(Section):
    mode: Literal["page", "direct"] = "page"
    secrets: tuple[SecretStr, ...] = ()
    lifetime: Duration = timedelta(days=7)
    allowed_hosts: Names = ()

    @field_validator("secrets")
    @classmethod
    def _long(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(secret.get_secret_value()) < 32 for secret in value):
            raise ValueError("each secret needs 32 characters or more: make one with `openssl rand -base64 32`")
        return value


class WorkspaceSettings(Section):
    """One workspace at one provider."""

    provider: Literal["smartlyq"] = "smartlyq"
    api_key: SecretStr = Field(min_length=1)
    base_url: str = "https://api.smartlyq.com/v1"
    webhook_secrets: tuple[SecretStr, ...] = ()
    profiles: Literal["all", "none"] = "all"
    rate_share: float = Field(0.5, gt=0, le=1)

    @field_validator("base_url")
    @classmethod
    def _https(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            return value.rstrip("/")
        raise ValueError("must be https (plain http only to a sandbox on this machine)")

    @field_validator("webhook_secrets")
    @classmethod
    def _not_empty(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(not secret.get_secret_value().strip() for secret in value):
            raise ValueError("a secret is empty: anybody could sign with it")
        return value


class SweepSettings(Section):
    mode: Literal["bulk", "each"] = "bulk"
    bulk_interval: Duration = timedelta(seconds=60)
    account_interval: Duration = timedelta(hours=6)
    inventory_interval: Duration = timedelta(minutes=15)
    confirm_timeout: Duration = timedelta(minutes=5)
    error_patience: Duration = timedelta(hours=1)
    expiring_days: int = Field(7, ge=0, le=60)
    request_timeout: Duration = timedelta(seconds=15)


class LifetimeSettings(Section):
    deadline: bool = False


class NoticeSettings(Section):
    default: Names = ()
    remind_after: tuple[Duration, ...] = Cadence().remind_after
    give_up_after: Duration = timedelta(hours=24)

    @field_validator("remind_after")
    @classmethod
    def _rising(cls, value: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(
                'the times count from the opening of the incident and must rise, such as ["1d", "3d", "7d"]'
            )
        return value


class RouteSettings(Section):
    to: Names = Field(min_length=1)
    workspace: Names = ()
    platform: Names = ()
    account: Names = ()
    profile: Names = ()
    stop: bool = True

    def route(self) -> Route:
        return Route(
            tuple(Target.parse(target) for target in self.to),
            frozenset(self.workspace),
            frozenset(self.platform),
            frozenset(self.account),
            frozenset(self.profile),
            self.stop,
        )


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "pretty"] = "auto"


class Settings(BaseSettings):
    """Everything an operator may set. ``config.example.toml`` explains each key."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    public_url: str | None = None
    server: Server = Server()
    store: StoreSettings = StoreSettings()
    link: LinkSettings = LinkSettings()
    sweep: SweepSettings = SweepSettings()
    notices: NoticeSettings = NoticeSettings()
    log: LogSettings = LogSettings()
    workspaces: dict[str, WorkspaceSettings] = Field(default_factory=dict)
    channels: dict[str, ChannelSettings] = Field(default_factory=dict)
    routes: tuple[RouteSettings, ...] = ()
    lifetimes: dict[str, LifetimeSettings] = Field(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, whose content comes in as the initial settings."""
        return env_settings, init_settings

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
        if not secure or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
            raise ValueError('must be the bare address of the public listener, such as "https://healthd.example.com"')
        return value.rstrip("/")

    def policy(self) -> Policy:
        lifetimes = DEFAULT_LIFETIMES | {name: Lifetime(life.deadline) for name, life in self.lifetimes.items()}
        return Policy(self.sweep.confirm_timeout, self.sweep.error_patience, self.sweep.expiring_days, lifetimes)

    def probe_policy(self) -> ProbePolicy:
        return ProbePolicy(self.sweep.account_interval)

    def cadence(self) -> Cadence:
        return Cadence(self.notices.remind_after, self.notices.give_up_after)

    def routing(self) -> Routing:
        default = tuple(Target.parse(target) for target in self.notices.default)
        return Routing(tuple(route.route() for route in self.routes), default)


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
    environ = os.environ if environ is None else environ
    where = str(path) if path else "environment"
    problems = list(_stray_variables(environ))
    content = _with_files(_read(path), where, "", problems) if path else {}
    try:
        settings = Settings(**content)
    except ValidationError as error:
        problems += [
            _explain(where, dict(found), environ) for found in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigError(problems) from None
    problems += [Problem(where, key, message, hint) for key, message, hint in _cross_checks(settings)]
    if problems:
        raise ConfigError(problems)
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        hint = "Copy config.example.toml to start, or name another file with --config."
        raise ConfigError([Problem(str(path), "", "there is no such file.", hint)]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error}.")]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Problem(str(path), "", f"is not TOML: {error}.")]) from None


def _with_files(value: Any, where: str, key: str, problems: list[Problem]) -> Any:
    """The settings with the content of a file wherever ``{ file = "…" }`` stands, as it may for any secret."""
    if isinstance(value, dict):
        if value.keys() == {"file"}:
            return _file_content(Path(str(value["file"])), where, key, problems)
        return {name: _with_files(inner, where, f"{key}.{name}".lstrip("."), problems) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_files(inner, where, f"{key}.{number}", problems) for number, inner in enumerate(value)]
    return value


def _file_content(path: Path, where: str, key: str, problems: list[Problem]) -> str:
    try:
        content = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        problems.append(Problem(where, key, f"the file {path} cannot be read: {reason}."))
        return "unreadable " * 4
    if not content:
        problems.append(Problem(where, key, f"the file {path} is empty."))
    return content or "unreadable " * 4


_SAID = {
    "missing": "is missing.",
    "extra_forbidden": "is not a key that healthd knows.",
    "union_tag_not_found": 'needs a type: "email", "slack" or "apprise".',
}


def _explain(where: str, error: dict[str, Any], environ: Mapping[str, str]) -> Problem:
    location = tuple(part for part in error["loc"] if part not in _TAGS)
    key = ".".join(str(part) for part in location)
    variable = ENV_PREFIX + "__".join(str(part) for part in location).upper()
    message = _SAID.get(error["type"]) or error["msg"].removeprefix("Value error, ").rstrip(".") + "."
    hint = _meant(location) if error["type"] == "extra_forbidden" else ""
    return Problem(f"environment {variable}" if variable in environ else where, key, message, hint)


_TAGS = ("email", "slack", "apprise")


def _meant(location: tuple[Any, ...]) -> str:
    *parents, wrong = [str(part) for part in location]
    known = sorted(_keys_at(Settings, parents))
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"Known here: {', '.join(known)}." if known else ""


def _keys_at(model: Any, path: list[str]) -> Iterator[str]:
    """The keys that are known at a dotted path, in every shape that may stand there."""
    for shape in _models(model):
        if not path:
            yield from shape.model_fields
        elif path[0] in shape.model_fields:
            inner = shape.model_fields[path[0]].annotation
            skip = 2 if get_origin(inner) in {dict, tuple} else 1
            yield from _keys_at(inner, path[skip:])


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _stray_variables(environ: Mapping[str, str]) -> Iterator[Problem]:
    """A mistyped variable would be ignored in silence: everything with our prefix must lead somewhere."""
    for name in environ:
        if not name.startswith(ENV_PREFIX) or name in OTHER_VARIABLES:
            continue
        top, *_ = name.removeprefix(ENV_PREFIX).lower().split("__")
        if top not in Settings.model_fields:
            close = difflib.get_close_matches(top, list(Settings.model_fields), n=1)
            hint = (
                f"Did you mean {ENV_PREFIX}{close[0].upper()}?" if close else "Names look like HEALTHD_SERVER__LISTEN."
            )
            yield Problem("environment", name, "leads to no setting.", hint)


OTHER_VARIABLES = frozenset({"HEALTHD_CONFIG", "HEALTHD_CHROMIUM"})


def _cross_checks(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """What no single key can know: ``(key, message, hint)``."""
    if not settings.workspaces:
        yield "workspaces", "there is none, so there is nothing to watch.", "Add a [workspaces.NAME] section."
    yield from _names(settings)
    yield from _targets(settings)
    if settings.link.mode == "page":
        if settings.public_url is None:
            yield (
                "public_url",
                "is missing: links in messages lead to healthd's own page there.",
                ('Set it, or set link.mode = "direct" to send the provider\'s links, which die after 15 minutes.'),
            )
        if not settings.link.secrets:
            yield "link.secrets", "is missing: it signs the links.", "Make one with `openssl rand -base64 32`."


def _names(settings: Settings) -> Iterator[tuple[str, str, str]]:
    for section, names in (("workspaces", settings.workspaces), ("channels", settings.channels)):
        for name in names:
            if not NAME.fullmatch(name):
                yield f"{section}.{name}", "a name is lower-case letters, digits, - and _.", ""


def _targets(settings: Settings) -> Iterator[tuple[str, str, str]]:
    lists = [("notices.default", settings.notices.default)]
    lists += [(f"routes.{number}.to", route.to) for number, route in enumerate(settings.routes)]
    for key, targets in lists:
        for text in targets:
            target = Target.parse(text)
            channel = settings.channels.get(target.channel)
            if channel is None:
                close = difflib.get_close_matches(target.channel, list(settings.channels), n=1)
                hint = f"Did you mean {close[0]!r}?" if close else "Add a [channels.NAME] section for it."
                yield key, f"there is no channel {target.channel!r}.", hint
                continue
            try:
                channel.validate_address(target.address)
            except ValueError as error:
                yield key, f"{target.channel}: {str(error).rstrip('.')}.", ""
    for number, route in enumerate(settings.routes):
        for name in route.workspace:
            if name not in settings.workspaces:
                close = difflib.get_close_matches(name, list(settings.workspaces), n=1)
                hint = f"Did you mean {close[0]!r}?" if close else ""
                yield f"routes.{number}.workspace", f"there is no workspace {name!r}.", hint


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
