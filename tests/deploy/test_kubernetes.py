"""deploy/kubernetes: the chart, the manifests rendered from it, and that both are what Kubernetes takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.deploy.promtool import RULES, load, promtool
from tests.deploy.shipped import DEPLOY, ROOT, documents, lint, secret_files, settings_of

FOLDER = DEPLOY / "kubernetes"
CHART, MANIFESTS = FOLDER / "chart", FOLDER / "manifests"
HERE = {path.name: path for path in sorted(MANIFESTS.glob("*.yaml"))}
OWN = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator."""
SECRETS = "/run/secrets/healthd"
DRAIN = 10
"""Seconds that healthd takes at the most to end, unless its settings say otherwise."""
POSTGRESQL = "postgresql://healthd@db.example.com/healthd"

OTHER_VALUES: dict[str, dict[str, Any]] = {
    "everything": {
        "image": {"repository": "registry.example.com/healthd", "digest": f"sha256:{'0' * 64}"},
        "pullSecrets": [{"name": "registry"}],
        "env": [{"name": "HEALTHD_LOG__LEVEL", "value": "debug"}],
        "ingress": {"enabled": True, "className": "nginx", "annotations": {"example.com/a": "b"}},
        "persistence": {"size": "20Gi", "storageClass": "fast"},
        "nodeSelector": {"disk": "local"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "social"},
    },
    "as many as somebody else says, on a database that is named": {
        "store": {
            "url": f"{POSTGRESQL}?sslmode=require",
            "passwordSecret": "healthd-db-app",
            "passwordKey": "password",
        },
        "replicas": None,
        "networkPolicy": {"databasePort": 6432, "database": [{"podSelector": {"matchLabels": {"app": "postgresql"}}}]},
    },
    "a database without a password": {"store": {"url": POSTGRESQL, "passwordKey": ""}, "spreadOver": []},
    "OpenShift": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
    "as little as there is": {
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "monitoring": {"enabled": False},
    },
}


def render(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: Helm is a library in Go, which does not get along with forks."""
    command = [sys.executable, FOLDER / "render.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(folder: Path, values: dict[str, Any]) -> list[dict[str, Any]]:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values), "utf-8")
    told = render("--values", file)
    assert told.returncode == 0, told.stderr
    return documents(told.stdout)


def by_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in found if one["kind"] == kind]


def read(*names: str) -> list[dict[str, Any]]:
    return [one for name in names for one in documents(HERE[name].read_text("utf-8"))]


ALONE, REPLICAS = read("namespace.yaml", "monitoring.yaml", "healthd.yaml"), read("healthd-postgresql.yaml")
[SET], [DEPLOYMENT] = by_kind(ALONE, "StatefulSet"), by_kind(REPLICAS, "Deployment")
BOTH = {"one on SQLite": (ALONE, SET), "three on PostgreSQL": (REPLICAS, DEPLOYMENT)}
both = pytest.mark.parametrize(("shipped", "workload"), BOTH.values(), ids=BOTH)


def container(workload: dict[str, Any]) -> dict[str, Any]:
    [found] = workload["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def mounts(workload: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The volumes, by where they are mounted."""
    volumes = {one["name"]: one for one in workload["spec"]["template"]["spec"]["volumes"]}
    return {one["mountPath"]: volumes.get(one["name"], {}) for one in container(workload)["volumeMounts"]}


def closed(schema: Any) -> Any:
    """The schema, and what it does not know is a mistake: the API server would leave it out without a word."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    known = {} if "properties" not in schema or "additionalProperties" in schema else {"additionalProperties": False}
    return {name: closed(inner) for name, inner in schema.items()} | known


def mistakes(document: dict[str, Any]) -> Iterator[str]:
    """What a cluster has against a document, at the oldest and the newest release."""
    if document["kind"] in OWN:
        schema = json.loads((Path(__file__).parent / "schemas" / f"{document['kind']}.json").read_text("utf-8"))
        yield from (str(one.message) for one in Draft202012Validator(closed(schema)).iter_errors(document))
        return
    oldest = re.findall(r"\d+\.\d+", load(CHART / "Chart.yaml")["kubeVersion"])[0]
    for version in (oldest, kubernetes_validate.latest_version()):
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{version}: {error.message}"


def test_the_manifests_are_what_the_chart_makes(tmp_path: Path) -> None:
    told = render("--into", tmp_path)
    assert told.returncode == 0, told.stderr
    for made in tmp_path.iterdir():
        again = "run .venv/bin/python deploy/kubernetes/render.py"
        assert made.read_text("utf-8") == HERE[made.name].read_text("utf-8"), again
    assert HERE.keys() - {path.name for path in tmp_path.iterdir()} == {"namespace.yaml"}


@pytest.mark.parametrize("path", HERE.values(), ids=HERE)
def test_the_manifests_are_tidy(path: Path) -> None:
    assert lint(path) == []


@pytest.mark.parametrize("document", [*ALONE, *REPLICAS], ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_kubernetes_takes_it(document: dict[str, Any]) -> None:
    assert list(mistakes(document)) == []
    assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == "healthd"


@pytest.mark.parametrize("values", OTHER_VALUES.values(), ids=OTHER_VALUES)
def test_kubernetes_takes_what_other_values_make_of_the_chart(values: dict[str, Any], tmp_path: Path) -> None:
    found = rendered(tmp_path, values)
    assert [mistake for document in found for mistake in mistakes(document)] == []
    [one] = by_kind(found, "Deployment" if "store" in values else "StatefulSet")
    context = one["spec"]["template"]["spec"]["securityContext"]
    assert ("runAsUser" in context) == ("podSecurityContext" not in values)
    assert bool(by_kind(found, "Ingress")) == ("ingress" in values)
    for kind in ("NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor", "PrometheusRule"):
        assert bool(by_kind(found, kind)) == ("monitoring" not in values), kind


def test_a_mistake_would_be_noticed() -> None:
    [monitor] = by_kind(ALONE, "ServiceMonitor")
    wrong = [
        SET | {"spec": SET["spec"] | {"replica": 1}},
        monitor | {"spec": monitor["spec"] | {"selectors": {}}},
        monitor | {"spec": monitor["spec"] | {"endpoints": [{"interval": "soon"}]}},
    ]
    assert [bool(list(mistakes(one))) for one in wrong] == [True] * 3


def test_more_than_one_replica_needs_postgresql_and_the_chart_says_so(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    for number in (0, 2, 3, None):
        file.write_text(yaml.safe_dump({"replicas": number}), "utf-8")
        told = render("--values", file)
        assert told.returncode != 0
        assert "needs store.url: SQLite has one writer" in told.stderr


@pytest.mark.parametrize(
    "wrong", [{"store": {"url": "mysql://a/b"}}, {"monitoring": {"intervall": "15s"}}, {"settings": ""}], ids=str
)
def test_values_that_the_chart_does_not_know_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(wrong), "utf-8")
    assert render("--values", file).returncode != 0


@both
def test_the_pod_is_as_closed_as_the_namespace_demands(shipped: list[dict[str, Any]], workload: dict[str, Any]) -> None:
    [namespace] = by_kind(ALONE, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = workload["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(workload)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]} <= {"configMap", "secret", "emptyDir"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert "limits" in container(workload)["resources"]


def test_there_is_one_writer_and_its_disk_stays() -> None:
    assert SET["spec"]["replicas"] == 1
    [claim] = SET["spec"]["volumeClaimTemplates"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container(SET)["volumeMounts"]}
    environ = {one["name"]: one["value"] for one in container(SET)["env"]}
    assert environ["HEALTHD_STORE__URL"].startswith(f"sqlite:///{mounted[claim['metadata']['name']]}/")


@both
def test_a_node_can_be_drained_and_takes_one_pod_at_a_time(
    shipped: list[dict[str, Any]], workload: dict[str, Any]
) -> None:
    [budget] = by_kind(shipped, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    assert (
        budget["spec"]["selector"]["matchLabels"].items() <= workload["spec"]["template"]["metadata"]["labels"].items()
    )
    assert not by_kind(shipped, "HorizontalPodAutoscaler")


def test_the_replicas_keep_nothing_are_spread_and_give_way_one_after_the_other() -> None:
    spec, pod = DEPLOYMENT["spec"], DEPLOYMENT["spec"]["template"]["spec"]
    assert spec["replicas"] == 3
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert not {"PersistentVolumeClaim", "StatefulSet"} & {one["kind"] for one in REPLICAS}
    assert "/data" not in mounts(DEPLOYMENT)
    over = {one["topologyKey"]: one for one in pod["topologySpreadConstraints"]}
    assert over.keys() == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    for one in over.values():
        assert one["labelSelector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    within = pod["terminationGracePeriodSeconds"]
    assert int(container(DEPLOYMENT)["lifecycle"]["preStop"]["exec"]["command"][1]) + DRAIN < within


def test_the_database_is_reached_and_its_password_is_a_file(tmp_path: Path) -> None:
    environ = {one["name"]: one["value"] for one in container(DEPLOYMENT)["env"]}
    folder, _, name = environ["HEALTHD_STORE__PASSWORD__FILE"].rpartition("/")
    volume = mounts(DEPLOYMENT)[folder]["secret"]
    assert (volume["secretName"], volume["items"]) == ("healthd", [{"key": "healthd_database", "path": name}])
    [policy] = [one for one in by_kind(REPLICAS, "NetworkPolicy") if one["metadata"]["name"] == "healthd"]
    assert [5432] in [[port["port"] for port in rule["ports"]] for rule in policy["spec"]["egress"]]

    found = rendered(tmp_path, OTHER_VALUES["as many as somebody else says, on a database that is named"])
    [other] = by_kind(found, "Deployment")
    assert "replicas" not in other["spec"]
    assert mounts(other)[folder]["secret"]["secretName"] == "healthd-db-app"
    [policy] = [one for one in by_kind(found, "NetworkPolicy") if one["metadata"]["name"] == "healthd"]
    [rule] = [rule for rule in policy["spec"]["egress"] if [port["port"] for port in rule["ports"]] == [6432]]
    assert rule["to"] == [{"podSelector": {"matchLabels": {"app": "postgresql"}}}]


@both
def test_healthd_starts_with_its_settings(
    shipped: list[dict[str, Any]], workload: dict[str, Any], tmp_path: Path
) -> None:
    [config] = by_kind(shipped, "ConfigMap")
    text = config["data"]["healthd.toml"]
    environ = {one["name"]: one["value"] for one in container(workload)["env"]}
    named = secret_files(text, SECRETS)
    (tmp_path / "password").write_text("p" * 32, "utf-8")
    moved = {name: value.replace("/run/secrets/database", str(tmp_path)) for name, value in environ.items()}
    settings = settings_of(tmp_path, text, moved, secrets_in=SECRETS, named=named)
    assert settings.access.by_settings, "the private listener can be reached from other pods"
    assert settings.server.drain_timeout.total_seconds() == DRAIN
    assert settings.store.is_postgres == (workload is DEPLOYMENT)
    assert (settings.store.password is not None) == settings.store.is_postgres
    told = set(re.findall(r"--from-file=(\w+)", (CHART / "values.yaml").read_text("utf-8")))
    assert told == named, "what the values say to put into the Secret"
    assert mounts(workload)[SECRETS]["secret"]["secretName"] == "healthd"
    assert environ["HEALTHD_CONFIG"].removesuffix("/healthd.toml") in mounts(workload)
    ports = {one["name"]: one["containerPort"] for one in container(workload)["ports"]}
    listeners = {"public": settings.server.listen, "private": settings.server.admin_listen}
    assert {name: int(address.rpartition(":")[2]) for name, address in listeners.items()} == ports


@both
def test_no_secret_stands_in_the_manifests(shipped: list[dict[str, Any]], workload: dict[str, Any]) -> None:
    assert not by_kind(shipped, "Secret")
    assert [one for one in container(workload)["env"] if "value" not in one] == []


@both
def test_probes_ask_the_private_listener(shipped: list[dict[str, Any]], workload: dict[str, Any]) -> None:
    asked = {name: container(workload)[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {one["port"] for one in asked.values()} == {"private"}
    assert asked["livenessProbe"]["path"] == asked["startupProbe"]["path"] == "/livez"
    assert asked["readinessProbe"]["path"] == "/readyz"


@both
def test_public_and_private_listener_have_services_and_policies_of_their_own(
    shipped: list[dict[str, Any]], workload: dict[str, Any]
) -> None:
    labels = workload["spec"]["template"]["metadata"]["labels"]
    services = {one["spec"]["ports"][0]["name"]: one for one in by_kind(shipped, "Service")}
    policies = {one["metadata"]["name"].removeprefix("healthd-"): one for one in by_kind(shipped, "NetworkPolicy")}
    assert services.keys() == {"public", "private"}
    for listener, service in services.items():
        [port] = service["spec"]["ports"]
        assert port["targetPort"] == listener
        assert service["spec"]["selector"].items() <= labels.items()
        [rule] = policies[listener]["spec"]["ingress"]
        assert [one["port"] for one in rule["ports"]] == [listener]
    assert policies["public"]["spec"]["ingress"][0]["from"] != policies["private"]["spec"]["ingress"][0]["from"]
    rest = policies["healthd"]["spec"]
    assert "ingress" not in rest, "nobody comes in by the one that is for all"
    assert set(rest["policyTypes"]) == {"Ingress", "Egress"}
    for policy in policies.values():
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_an_ingress_leads_to_the_public_listener_alone(tmp_path: Path) -> None:
    [ingress] = by_kind(rendered(tmp_path, OTHER_VALUES["everything"]), "Ingress")
    paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    assert {path["backend"]["service"]["name"] for path in paths} == {"healthd-public"}
    assert {path["path"] for path in paths} == {"/webhooks/", "/r/", "/slack/actions/", "/bounces/", "/robots.txt"}


def test_prometheus_scrapes_the_private_listener_under_the_name_that_the_rules_know() -> None:
    [monitor] = by_kind(ALONE, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    chosen = [one for one in by_kind(ALONE, "Service") if wanted <= one["metadata"]["labels"].items()]
    [port] = [port["name"] for one in chosen for port in one["spec"]["ports"]]
    [endpoint] = monitor["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["path"], port) == ("private", "/metrics", "private")
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "healthd"}]


def test_the_rules_are_the_shipped_ones(tmp_path: Path) -> None:
    [rule] = by_kind(ALONE, "PrometheusRule")
    groups = rule["spec"]["groups"]
    assert groups == [group for path in RULES for group in load(path)["groups"]]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}), "utf-8")
    assert "SUCCESS" in promtool("check", "rules", tmp_path / "rules.yml")


def test_a_runbook_of_ones_own_is_linked(tmp_path: Path) -> None:
    found = rendered(tmp_path, {"monitoring": {"runbookUrl": "https://wiki.example.com/healthd"}})
    [rule] = by_kind(found, "PrometheusRule")
    links = {
        one["annotations"]["runbook_url"]
        for group in rule["spec"]["groups"]
        for one in group["rules"]
        if "alert" in one
    }
    assert all(link.startswith("https://wiki.example.com/healthd#") for link in links)


def test_the_versions_are_this_release() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    chart = load(CHART / "Chart.yaml")
    assert chart["version"] == chart["appVersion"] == version
    assert {container(workload)["image"] for _, workload in BOTH.values()} == {f"healthd:{version}"}
