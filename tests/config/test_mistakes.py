"""Every mistake is told with its file, its key, what is wrong, and what was probably meant; all of them at once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from healthd.config import ConfigError, load
from tests.config.written import loaded, mistakes, written

WORKSPACE = 'api_key = "sqk_live_key"\n'
WHSEC = f"whsec_{'QUJD' * 8}"
TOKEN = "0123456789abcdef0123456789abcdef"
WEBHOOK = f'type = "webhook"\nurl = "https://app.example.com/healthd"\nsecrets = "{WHSEC}"'
OIDC = (
    'issuer = "https://login.example.com"\nclient_id = "healthd"\nclient_secret = "secret"\n'
    'users = { "ada@example.com" = "admin" }\n'
)
PROXY = 'header = "X-Forwarded-Email"\nusers = { ada = "admin" }\n'
MAIL = 'type = "email"\nhost = "smtp.example.com"\nsender = "healthd@example.com"\n'


@dataclass(frozen=True)
class Mistake:
    """``key``, and words that its message and its hint must hold."""

    key: str
    says: str
    hint: str = ""
    sections: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)


def _in(section: str, body: str, key: str, says: str, hint: str = "") -> Mistake:
    return Mistake(key, says, hint, {section: body})


MISTAKES = {
    # What healthd does not know.
    "a mistyped section": _in("servr", "", "servr", "not a key that healthd knows", "Did you mean 'server'?"),
    "a mistyped key": _in("server", 'listn = "0.0.0.0:80"', "server.listn", "not a key", "Did you mean 'listen'?"),
    "a mistyped key of a workspace": _in(
        "workspaces.acme", WORKSPACE + "rate_shar = 1", "workspaces.acme.rate_shar", "not a key", "'rate_share'"
    ),
    "a mistyped key of a channel": _in("channels.mail", MAIL + "prot = 1", "channels.mail.prot", "not a key", "'port'"),
    "a key of another type of channel": _in(
        "channels.mail", MAIL + 'token = "x"', "channels.mail.token", "not a key", "here: ca_file, host, min_severity"
    ),
    "a mistyped key of a route": _in(
        "[[routes]]", 'to = "mail:a@b.example"\nplatfrom = "x"', "routes.0.platfrom", "not a key", "'platform'"
    ),
    "a key that belongs to the top": _in(
        "server", 'public_url = "https://x.example"', "server.public_url", "not a key", "at the top of the file"
    ),
    "a key in another section": _in(
        "server", 'bulk_interval = "60s"', "server.bulk_interval", "not a key", "belongs under [sweep]"
    ),
    "a section called file": _in("log", 'file = "/var/log"', "log.file", "not a key", "Known here: format, level"),
    # Types.
    "text for a number": _in("server", 'max_connections = "many"', "server.max_connections", "whole number"),
    "a fraction for a whole number": _in("sweep", "expiring_days = 1.5", "sweep.expiring_days", "whole number"),
    "a value for a section": _in("", 'public_url = "https://x.example"\nserver = "x"', "server", "keys of its own"),
    "a number for an address": _in("server", "listen = 8080", "server.listen", "such as 0.0.0.0:8080"),
    "a URL for an address": _in("server", 'listen = "http://0.0.0.0:80"', "server.listen", "such as 0.0.0.0:8080"),
    "a port that is none": _in("server", 'listen = "0.0.0.0:70000"', "server.listen", "such as 0.0.0.0:8080"),
    "a word that is near": _in("log", 'level = "warnign"', "log.level", "'debug', 'info'", "Did you mean 'warning'?"),
    "a channel of no type": _in("channels.mail", 'host = "x"', "channels.mail.type", "needs a type"),
    "a channel of a mistyped type": _in(
        "channels.mail", 'type = "emial"', "channels.mail.type", "no type that there is", "Did you mean 'email'?"
    ),
    "a share above one": _in("workspaces.acme", WORKSPACE + "rate_share = 2", "workspaces.acme.rate_share", "to 1"),
    # Spans of time.
    "a span without a unit": _in("sweep", "bulk_interval = 60", "sweep.bulk_interval", "a number and a unit"),
    "a span in words": _in("sweep", 'bulk_interval = "soon"', "sweep.bulk_interval", "such as 90s, 5m"),
    "a span of nothing": _in("sweep", 'bulk_interval = "0s"', "sweep.bulk_interval", "longer than nothing"),
    "a span of a lifetime": _in("sweep", 'account_interval = "9999d"', "sweep.account_interval", "ten years"),
    "a span of ages": _in("sweep", 'confirm_timeout = "99999999999999d"', "sweep.confirm_timeout", "longer span"),
    "reminders that fall": _in("notices", 'remind_after = ["3d", "1d"]', "notices.remind_after", "must rise"),
    # Secrets.
    "no key": _in("workspaces.acme", "", "workspaces.acme.api_key", "is missing"),
    "an empty key": _in("workspaces.acme", 'api_key = ""', "workspaces.acme.api_key", "is empty"),
    "a key of two lines": _in("workspaces.acme", 'api_key = "sqk\\nlive"', "workspaces.acme.api_key", "line breaks"),
    "a missing secret file": _in(
        "workspaces.acme",
        'api_key = { file = "/nowhere/key" }',
        "workspaces.acme.api_key",
        "cannot be read: No such file or directory",
    ),
    "a missing secret file nearby": _in(
        "workspaces.acme", 'api_key = { file = "key" }', "workspaces.acme.api_key", "cannot be read", "looked for in /"
    ),
    "a folder for a secret file": _in(
        "workspaces.acme", 'api_key = { file = "/" }', "workspaces.acme.api_key", "Is a directory"
    ),
    "an empty secret file": _in(
        "workspaces.acme", 'api_key = { file = "/dev/null" }', "workspaces.acme.api_key", "is empty"
    ),
    "an unread file of a whole section's check": _in(
        "channels.hook", 'type = "slack"\nwebhook_url = { file = "/nowhere" }', "channels.hook.webhook_url", "read"
    ),
    "an empty webhook secret (W44)": _in(
        "workspaces.acme", WORKSPACE + 'webhook_secrets = ["", "x"]', "workspaces.acme.webhook_secrets.0", "is empty"
    ),
    "a short link secret": _in("link", 'secrets = ["short"]', "link.secrets.0", "32 characters"),
    "no link secret": _in("link", "", "link.secrets", "is missing", "openssl rand"),
    # Addresses.
    "no public address": _in("", "", "public_url", "is missing", 'link.mode = "direct"'),
    "a public address without TLS (L30)": _in("", 'public_url = "http://healthd.example.com"', "public_url", "https"),
    "a public address with a path (L30)": _in("", 'public_url = "https://example.com/healthd"', "public_url", "bare"),
    "a public address with a user": _in("", 'public_url = "https://a:b@example.com"', "public_url", "bare"),
    "a public address with a backslash": _in("", "public_url = 'https://evil.com\\@x.example'", "public_url", "bare"),
    "a public address that is none": _in("", 'public_url = "https://[::1"', "public_url", "bare"),
    "an API without TLS": _in(
        "workspaces.acme", WORKSPACE + 'base_url = "http://x.example/v1"', "workspaces.acme.base_url", "must be https"
    ),
    # The private listener.
    "a short access token": _in(
        "access.tokens.ada", 'role = "viewer"\ntoken = "short"', "access.tokens.ada.token", "32 characters"
    ),
    "an access token that no header carries": _in(
        "access.tokens.ada", f'role = "viewer"\ntoken = "{"ä" * 40}"', "access.tokens.ada.token", "cannot carry"
    ),
    "an unknown role": _in(
        "access.tokens.ada", f'role = "root"\ntoken = "{"t" * 40}"', "access.tokens.ada.role", "'viewer', 'operator'"
    ),
    "a token's name": _in(
        "access.tokens.Ada", f'role = "viewer"\ntoken = "{"t" * 40}"', "access.tokens.Ada", "lower-case"
    ),
    "a token that two share": _in(
        "access.tokens",
        "".join(f'{name} = {{ role = "viewer", token = "{"t" * 40}" }}\n' for name in ("ada", "eve")),
        "access.tokens.eve",
        "nobody could tell",
    ),
    "OIDC without an address to come back to": _in("access.oidc", OIDC, "access.url", "access.oidc needs it"),
    "OIDC that lets nobody in": _in(
        "access.oidc", OIDC.replace("users", "#"), "access.oidc", "would let nobody in"
    ),
    "OIDC without TLS": _in(
        "access.oidc", OIDC.replace("https", "http"), "access.oidc.issuer", "plain http only on this machine"
    ),
    "a proxy of nowhere": _in("access.proxy", PROXY + "addresses = []", "access.proxy.addresses", "is empty"),
    "a proxy of everywhere": _in("access.proxy", PROXY + 'addresses = "::/0"', "access.proxy.addresses", "everybody"),
    "a proxy by name": _in("access.proxy", PROXY + 'addresses = "nginx"', "access.proxy.addresses", "10.0.0.0/8"),
    "a proxy's groups without a header": _in(
        "access.proxy",
        PROXY + 'addresses = "10.0.0.7"\ngroups = { ops = "admin" }',
        "access.proxy",
        "no use without groups_header",
    ),
    "an operators' address with a path": _in("access", 'url = "https://example.com/ops"', "access.url", "bare"),
    "two listeners on one port": _in("server", 'listen = "0.0.0.0:9090"', "server.admin_listen", "the same port"),
    "a proxy by its name": _in("server", 'trusted_proxies = ["proxy"]', "server.trusted_proxies", "10.0.0.0/8"),
    "an allowed address": _in(
        "link",
        'secrets = ["0123456789abcdef0123456789abcdef"]\nallowed_hosts = ["https://x.example/"]',
        "link.allowed_hosts",
        "without https://",
    ),
    "another database": _in("store", 'url = "mysql://u@h/db"', "store.url", "PostgreSQL", ""),
    "a password in the address": _in("store", 'url = "postgresql://u:p@h/db"', "store.url", "must not hold", ""),
    "no database": _in("store", 'url = "postgresql://u@h"', "store.url", "names no database", ""),
    "a database with too few slashes": _in("store", 'url = "sqlite://healthd.db"', "store.url", "four slashes"),
    # What one key cannot know.
    "an unknown channel": _in(
        "notices", 'default = ["mial:ada@example.com"]', "notices.default", "no channel 'mial'", "Did you mean 'mail'?"
    ),
    "an address that the channel cannot take": _in("notices", 'default = "mail:ada"', "notices.default", "ada@acme"),
    "a URL for a channel": _in("notices", 'default = "ntfy://x/y"', "notices.default", "holds a URL", "type apprise"),
    "an unknown channel in a route": _in("[[routes]]", 'to = "nobody"', "routes.0.to", "no channel", "[channels.NAME]"),
    "an unknown workspace in a route": _in(
        "[[routes]]",
        'to = "mail:a@b.example"\nworkspace = "acmee"',
        "routes.0.workspace",
        "no workspace 'acmee'",
        "Did you mean 'acme'?",
    ),
    "a workspace's name": _in("workspaces.Acme", WORKSPACE, "workspaces.Acme", "lower-case letters"),
    "a contact in two words": _in("notices", 'default = "@x y"', "notices.default", "no contact", "such as @ada"),
    "an unknown channel in a route's step": _in(
        "[[routes]]",
        'to = "@owner"\nthen = [{ after = "1d", to = "mial:a@b.example" }]',
        "routes.0.then.0.to",
        "no channel 'mial'",
        "Did you mean 'mail'?",
    ),
    "an operator's channel that is none": _in("notices", 'operator = "x"', "notices.operator", "no channel 'x'"),
    "a webhook in a route": Mistake(
        "routes.0.to",
        "app is a webhook",
        "hears of every account by itself",
        {"channels.app": WEBHOOK, "[[routes]]": 'to = ["mail:a@b.example", "app"]'},
    ),
    "pausing without the sweep over everything": Mistake(
        "workspaces.acme.auto_pause",
        "nothing else tells whether posting to an account is paused",
        'sweep.mode = "bulk"',
        {"workspaces.acme": WORKSPACE + "auto_pause = true", "sweep": 'mode = "each"'},
    ),
    # Who is told, and when.
    "a language that is none": _in("notices", 'language = "xx"', "notices.language", "come in de, en, es, fr, ja, pt"),
    "templates that are not there": _in("notices", 'templates = "/nowhere"', "notices.templates", "is no folder"),
    "a long wait for others": _in("notices", 'group_wait = "2h"', "notices.group_wait", "comes too late"),
    "a digest of nothing": _in("notices", "digest_above = 0", "notices.digest_above", "greater than or equal to 1"),
    "a mistyped key of a step": _in(
        "[[routes]]",
        'to = "@owner"\nthen = [{ aftr = "1d", after = "1d", to = "@ada" }]',
        "routes.0.then.0.aftr",
        "not a key",
        "Did you mean 'after'?",
    ),
    "a step at no time": _in(
        "[[routes]]", 'to = "@owner"\nthen = [{ to = "@ada" }]', "routes.0.then.0.after", "is missing"
    ),
    "a storm of no share": _in("storm", "share = 0", "storm.share", "greater than 0"),
    "a storm of more than all": _in("storm", "share = 1.5", "storm.share", "less than or equal to 1"),
    "a storm for ever": _in("storm", 'longest = "0s"', "storm.longest", "longer than nothing"),
    "a severity that is none": _in(
        "channels.mail", MAIL + 'min_severity = "eror"', "channels.mail.min_severity", "'info'", "Did you mean 'error'?"
    ),
    # The customer's own endpoints.
    "a resolver without a secret": _in(
        "contacts", 'resolver_url = "https://app.example.com/owners"', "contacts", "set both, or neither"
    ),
    "a secret without a resolver": _in("contacts", f'resolver_secret = "{WHSEC}"', "contacts", "set both, or neither"),
    "a resolver without TLS": _in(
        "contacts",
        f'resolver_url = "http://app.example.com/owners"\nresolver_secret = "{WHSEC}"',
        "contacts.resolver_url",
        "must be https",
    ),
    "a resolver's secret of another kind": _in(
        "contacts",
        'resolver_url = "https://app.example.com/owners"\nresolver_secret = "hunter2"',
        "contacts.resolver_secret",
        "openssl rand -base64 32",
    ),
    "a webhook without a secret": _in(
        "channels.app", 'type = "webhook"\nurl = "https://app.example.com/"', "channels.app.secrets", "is missing"
    ),
    "a webhook's secret of another kind": _in(
        "channels.app",
        'type = "webhook"\nurl = "https://app.example.com/"\nsecrets = "hunter2"',
        "channels.app.secrets.0",
        "openssl rand -base64 32",
    ),
    "a webhook without TLS": _in(
        "channels.app", f'type = "webhook"\nurl = "http://app.example.com/"\nsecrets = "{WHSEC}"',
        "channels.app.url", "must be https",
    ),
    "an event that is none": _in(
        "channels.app",
        WEBHOOK + '\nevents = "incident.open"',
        "channels.app.events.0",
        "'incident.opened'",
    ),
    # Mail that comes back.
    "bounces from a stranger": _in(
        "bounces.back", f'provider = "sess"\ntoken = "{TOKEN}"', "bounces.back.provider", "'ses'", "Did you mean 'ses'?"
    ),
    "bounces behind a short token": _in(
        "bounces.back", 'provider = "ses"\ntoken = "short"', "bounces.back.token", "openssl rand -hex 32"
    ),
    "a signing key for who signs nothing": _in(
        "bounces.back", f'provider = "ses"\ntoken = "{TOKEN}"\nsecrets = "{TOKEN}"', "bounces.back", "signs nothing"
    ),
    "a topic of another provider": _in(
        "bounces.back", f'provider = "dsn"\ntoken = "{TOKEN}"\ntopic = "x"', "bounces.back", "topic is for ses"
    ),
    "a name of bounces": _in(
        "bounces.Back", f'provider = "dsn"\ntoken = "{TOKEN}"', "bounces.Back", "lower-case letters"
    ),
    # The environment.
    "a mistyped variable": Mistake(
        "servr.listen", "not a key", "HEALTHD_SERVER__LISTEN", environ={"HEALTHD_SERVR__LISTEN": "x"}
    ),
    "a mistyped nested variable": Mistake(
        "server.listn", "not a key", "HEALTHD_SERVER__LISTEN", environ={"HEALTHD_SERVER__LISTN": "x"}
    ),
    "a variable for nothing": Mistake("x", "not a key", "HEALTHD_SERVER__LISTEN", environ={"HEALTHD_X": "1"}),
    "a wrong value in a variable": Mistake(
        "log.level", "'debug'", "'info'", environ={"HEALTHD_LOG__LEVEL": "infi"}
    ),
    "a variable for a whole section": Mistake("server", "a section with keys", environ={"HEALTHD_SERVER": "x"}),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_each_mistake_is_told_once_with_its_place_and_what_was_meant(tmp_path: Path, mistake: Mistake) -> None:
    [found] = mistakes(tmp_path, mistake.sections, mistake.environ)
    [variable] = mistake.environ or [None]
    assert found.where == (f"environment {variable}" if variable else str(tmp_path / "healthd.toml"))
    assert found.key == mistake.key
    assert mistake.says in found.message
    assert mistake.hint in found.hint
    assert found.message.endswith((".", "!"))


def test_all_mistakes_are_told_at_once_those_of_values_and_those_between_them(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        {
            "": 'public_url = "http://x.example"',
            "log": 'level = "loud"',
            "link": "",
            "workspaces.second": 'api_kye = "x"',
            "channels.mail": MAIL + "hots = 1",
            "channels.broken": 'type = "email"',
            "notices": 'default = ["mail:ada", "broken:x@y.example", "gone"]',
            "[[routes]]": 'platform = "x"\n[[routes]]\nto = "nobody"\nworkspace = ["second", "third"]',
        },
        {"HEALTHD_SERVER__LISTN": "x", "HEALTHD_SWEEP__MODE": "all"},
    )
    assert sorted(problem.key for problem in found) == [
        "channels.broken.host",
        "channels.broken.sender",
        "channels.mail.hots",
        "link.secrets",
        "log.level",
        "notices.default",
        "notices.default",
        "public_url",
        "routes.0.to",
        "routes.1.to",
        "routes.1.workspace",
        "server.listn",
        "sweep.mode",
        "workspaces.second.api_key",
        "workspaces.second.api_kye",
    ]


def test_broken_toml_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "healthd.toml"
    path.write_text('[server]\nlisten = "0.0.0.0:80"\nlisten 3\n', "utf-8")
    with pytest.raises(ConfigError, match=r"healthd\.toml: is not TOML: .*line 3, column 8"):
        load(path, {})


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no such file.* config.example.toml"), (b"\xff\xfe", "not UTF-8"), ("folder", "Is a directory")],
    ids=["missing", "not text", "a folder"],
)
def test_a_file_that_cannot_be_read_is_said_to_be_so(tmp_path: Path, content: bytes | str | None, says: str) -> None:
    path = tmp_path / "healthd.toml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    with pytest.raises(ConfigError, match=says):
        load(path, {})


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        {"server": 'listen = "127.0.0.1:1"\nmax_connections = 50'},
        {
            "HEALTHD_SERVER__LISTEN": "127.0.0.1:2",
            "HEALTHD_ACCESS__PAGES": "false",
            "HEALTHD_ACCESS__TOKENS__CI__ROLE": "operator",
            "HEALTHD_ACCESS__TOKENS__CI__TOKEN": "t" * 32,
            "HEALTHD_SWEEP__BULK_INTERVAL": "2m",
            "HEALTHD_NOTICES__REMIND_AFTER": '["1d", "2d"]',
            "HEALTHD_NOTICES__DEFAULT": "mail:eve@example.com",
            "HEALTHD_WORKSPACES__OTHER__API_KEY": json.dumps({"file": str(_secret(tmp_path, "sqk_live_other"))}),
        },
    )
    assert settings.server.listen == "127.0.0.1:2"
    assert settings.server.max_connections == 50
    assert settings.access.pages is False
    assert settings.access.tokens["ci"].token.get_secret_value() == "t" * 32
    assert settings.sweep.bulk_interval.total_seconds() == 120
    assert [span.days for span in settings.notices.remind_after] == [1, 2]
    assert settings.notices.default == ("mail:eve@example.com",)
    assert settings.workspaces["other"].api_key.get_secret_value() == "sqk_live_other"


def test_a_key_that_only_looks_like_json_is_taken_as_it_is(tmp_path: Path) -> None:
    settings = loaded(tmp_path, environ={"HEALTHD_WORKSPACES__ACME__API_KEY": "[sqk_live"})
    assert settings.workspaces["acme"].api_key.get_secret_value() == "[sqk_live"


def test_the_environment_alone_is_enough() -> None:
    settings = load(
        None,
        {
            "HEALTHD_PUBLIC_URL": "https://healthd.example.com/",
            "HEALTHD_LINK__SECRETS": "0123456789abcdef0123456789abcdef",
            "HEALTHD_WORKSPACES__ACME__API_KEY": "sqk_live_key",
        },
    )
    assert settings.public_url == "https://healthd.example.com"
    assert list(settings.workspaces) == ["acme"]


def test_what_kubernetes_says_of_a_service_called_healthd_is_no_mistake(tmp_path: Path) -> None:
    loaded(
        tmp_path,
        environ={
            "HEALTHD_SERVICE_HOST": "10.0.0.1",
            "HEALTHD_SERVICE_PORT": "8080",
            "HEALTHD_SERVICE_PORT_HTTP": "8080",
            "HEALTHD_PORT": "tcp://10.0.0.1:8080",
            "HEALTHD_PORT_8080_TCP": "tcp://10.0.0.1:8080",
            "HEALTHD_PORT_8080_TCP_ADDR": "10.0.0.1",
            "HEALTHD_METRICS_SERVICE_HOST": "10.0.0.1",
            "HEALTHD_CONFIG": "/etc/healthd.toml",
        },
    )


def test_a_secret_may_stand_in_a_file_with_a_line_end(tmp_path: Path) -> None:
    place = _secret(tmp_path, "sqk_live_from_a_file\n")
    settings = loaded(tmp_path, {"workspaces.acme": f'api_key = {{ file = "{place}" }}'})
    assert settings.workspaces["acme"].api_key.get_secret_value() == "sqk_live_from_a_file"


def test_direct_links_need_neither_an_address_nor_a_secret(tmp_path: Path) -> None:
    assert loaded(tmp_path, {"": "", "link": 'mode = "direct"'}).public_url is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://[::1]:8080", "https://x.example:8443/"])
def test_public_addresses_that_are_fine(tmp_path: Path, url: str) -> None:
    assert loaded(tmp_path, {"": f'public_url = "{url}"'}).public_url == url.rstrip("/")


def test_a_file_that_begins_with_a_mark_is_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text("\ufeff" + path.read_text("utf-8"), "utf-8")
    load(path, {})


def _secret(folder: Path, text: str) -> Path:
    path = folder / "secret"
    path.write_text(text, "utf-8")
    return path
