"""deploy/compose: a newcomer's containers, with an API key or with the sandbox in the API's place."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from compose_spec import PyCompose

from healthd.sandbox.command import sandbox as serve
from tests.deploy.promtool import PROMETHEUS, load
from tests.deploy.shipped import DEPLOY, ROOT, image_environment, lint, secret_files, settings_of

FOLDER = DEPLOY / "compose"
TEXT = (FOLDER / "compose.yaml").read_text("utf-8")
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
CHOICES = {"their own API key": "env.example", "the sandbox": "demo.env"}


def environment(name: str) -> dict[str, str]:
    lines = (FOLDER / name).read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled(variables: dict[str, str]) -> str:
    return VARIABLE.sub(lambda found: variables.get(found[1]) or found[2], TEXT)


def composed(name: str) -> dict[str, Any]:
    found = yaml.safe_load(filled(environment(name)))
    assert isinstance(found, dict)
    return found


SERVICES: dict[str, dict[str, Any]] = composed("env.example")["services"]


@pytest.mark.parametrize("name", CHOICES.values(), ids=CHOICES)
def test_the_file_is_what_the_compose_specification_says(name: str) -> None:
    assert "${" not in filled(environment(name))
    assert set(PyCompose.from_json(json.dumps(composed(name))).service_names()) == set(SERVICES)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.y*ml")), ids=lambda path: path.name)
def test_the_files_are_tidy(path: Path) -> None:
    assert lint(path) == []


@pytest.mark.parametrize("name", ["env.example", "demo.env"])
def test_a_variable_that_is_asked_for_is_one_that_is_used(name: str) -> None:
    used = set(VARIABLE.findall(TEXT)) | {("COMPOSE_PROFILES", "")}
    assert environment(name).keys() <= {variable for variable, _ in used}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_closed_watched_and_of_a_known_version(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert service["healthcheck"]["test"][0] == "CMD"
    tag = service["image"].rpartition(":")[2]
    assert re.search(r"\d+\.\d+\.\d+", tag), "a version that moves is no version"


def test_only_the_proxy_can_be_reached_from_other_machines() -> None:
    for name, service in SERVICES.items():
        ports = service.get("ports", [])
        assert name == "proxy" or all(port.startswith("127.0.0.1:") for port in ports), name


def test_the_proxy_and_the_watchers_do_not_meet() -> None:
    networks = {name: set(service.get("networks", [])) for name, service in SERVICES.items() if name != "sandbox"}
    assert networks.pop("healthd") == {"public", "private"}
    assert networks.pop("proxy") == {"public"}
    assert set(map(frozenset, networks.values())) == {frozenset({"private"})}


def test_the_proxy_passes_on_what_the_public_listener_has_and_nothing_else() -> None:
    [paths] = re.findall(r"@public path (.*)", (FOLDER / "Caddyfile").read_text("utf-8"))
    assert set(paths.split()) == {"/webhooks/*", "/r/*", "/slack/actions/*", "/bounces/*", "/robots.txt"}


@pytest.mark.parametrize("name", CHOICES.values(), ids=CHOICES)
def test_whatever_is_mounted_is_there(name: str) -> None:
    project = composed(name)
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
    wanted = composed("env.example")["secrets"]
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


@pytest.mark.parametrize("name", CHOICES.values(), ids=CHOICES)
def test_healthd_starts_with_its_settings(name: str, tmp_path: Path) -> None:
    service = composed(name)["services"]["healthd"]
    [mounted] = [volume.split(":")[0] for volume in service["volumes"] if volume.endswith("/healthd.toml:ro")]
    text = (FOLDER / mounted).read_text("utf-8")
    environ = image_environment() | service["environment"]
    settings = settings_of(tmp_path, text, environ, secrets_in="/run/secrets", named=service["secrets"])
    assert settings.access.by_settings, "the private listener can be reached from other containers"
    assert settings.public_url == environment(name)["PUBLIC_URL"]
    assert [target.channel for target in settings.operators()] == ["mail"]
    assert secret_files(text, "/run/secrets") <= set(service["secrets"])
    ports = {settings.server.listen.rpartition(":")[2], settings.server.admin_listen.rpartition(":")[2]}
    assert ports <= {port.rpartition(":")[2] for port in service["ports"]}


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


def test_prometheus_has_the_shipped_settings_and_rules_under_the_names_of_the_services() -> None:
    shipped, ours = load(PROMETHEUS / "prometheus.yml"), load(FOLDER / "prometheus.yml")
    assert ours["scrape_configs"][0]["static_configs"] == [{"targets": ["healthd:9090"]}]
    assert ours["alerting"]["alertmanagers"][0]["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    for one in (shipped, ours):
        del one["scrape_configs"][0]["static_configs"], one["alerting"]
    assert ours == shipped
    assert "../prometheus/rules:/etc/prometheus/rules:ro" in SERVICES["prometheus"]["volumes"]


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
    assert dict(VARIABLE.findall(TEXT))["IMAGE_VERSION"] == version
