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


SHIPPED = [one for path in HERE.values() for one in documents(path.read_text("utf-8"))]
[SET] = by_kind(SHIPPED, "StatefulSet")
POD: dict[str, Any] = SET["spec"]["template"]["spec"]
LABELS: dict[str, str] = SET["spec"]["template"]["metadata"]["labels"]
[CONTAINER] = POD["containers"]


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


@pytest.mark.parametrize("document", SHIPPED, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_kubernetes_takes_it(document: dict[str, Any]) -> None:
    assert list(mistakes(document)) == []
    assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == "healthd"


@pytest.mark.parametrize("values", OTHER_VALUES.values(), ids=OTHER_VALUES)
def test_kubernetes_takes_what_other_values_make_of_the_chart(values: dict[str, Any], tmp_path: Path) -> None:
    found = rendered(tmp_path, values)
    assert [mistake for document in found for mistake in mistakes(document)] == []
    [one] = by_kind(found, "StatefulSet")
    context = one["spec"]["template"]["spec"]["securityContext"]
    assert ("runAsUser" in context) == ("podSecurityContext" not in values)
    assert bool(by_kind(found, "Ingress")) == ("ingress" in values)
    for kind in ("NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor", "PrometheusRule"):
        assert bool(by_kind(found, kind)) == ("monitoring" not in values), kind


def test_a_mistake_would_be_noticed() -> None:
    [monitor] = by_kind(SHIPPED, "ServiceMonitor")
    wrong = [
        SET | {"spec": SET["spec"] | {"replica": 1}},
        monitor | {"spec": monitor["spec"] | {"selectors": {}}},
        monitor | {"spec": monitor["spec"] | {"endpoints": [{"interval": "soon"}]}},
    ]
    assert [bool(list(mistakes(one))) for one in wrong] == [True] * 3


@pytest.mark.parametrize("wrong", [{"replicas": 3}, {"monitoring": {"intervall": "15s"}}, {"settings": ""}], ids=str)
def test_values_that_the_chart_does_not_know_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(wrong), "utf-8")
    assert render("--values", file).returncode != 0


def test_the_pod_is_as_closed_as_the_namespace_demands() -> None:
    [namespace] = by_kind(SHIPPED, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {next(iter(volume.keys() - {"name"})) for volume in POD["volumes"]} <= {"configMap", "secret", "emptyDir"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & POD.keys()
    assert POD["automountServiceAccountToken"] is False
    assert POD["enableServiceLinks"] is False
    assert "limits" in CONTAINER["resources"]


def test_there_is_one_writer_and_its_disk_stays() -> None:
    assert SET["spec"]["replicas"] == 1
    [claim] = SET["spec"]["volumeClaimTemplates"]
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    environ = {one["name"]: one["value"] for one in CONTAINER["env"]}
    assert environ["HEALTHD_STORE__URL"].startswith(f"sqlite:///{mounts[claim['metadata']['name']]}/")
    [budget] = by_kind(SHIPPED, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1, "otherwise no node with it could ever be drained"
    assert not by_kind(SHIPPED, "HorizontalPodAutoscaler")


def test_healthd_starts_with_its_settings(tmp_path: Path) -> None:
    [config] = by_kind(SHIPPED, "ConfigMap")
    text = config["data"]["healthd.toml"]
    environ = {one["name"]: one["value"] for one in CONTAINER["env"]}
    named = secret_files(text, SECRETS)
    settings = settings_of(tmp_path, text, environ, secrets_in=SECRETS, named=named)
    assert settings.access.by_settings, "the private listener can be reached from other pods"
    told = set(re.findall(r"--from-file=(\w+)", (CHART / "values.yaml").read_text("utf-8")))
    assert told == named, "what the values say to put into the Secret"
    mounts = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert volumes[mounts[SECRETS]]["secret"]["secretName"] == "healthd"
    assert environ["HEALTHD_CONFIG"].removesuffix("/healthd.toml") in mounts
    ports = {one["name"]: one["containerPort"] for one in CONTAINER["ports"]}
    listeners = {"public": settings.server.listen, "private": settings.server.admin_listen}
    assert {name: int(address.rpartition(":")[2]) for name, address in listeners.items()} == ports


def test_no_secret_stands_in_the_manifests() -> None:
    assert not by_kind(SHIPPED, "Secret")
    assert [one for one in CONTAINER["env"] if "value" not in one] == []


def test_probes_ask_the_private_listener() -> None:
    asked = {name: CONTAINER[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {one["port"] for one in asked.values()} == {"private"}
    assert asked["livenessProbe"]["path"] == asked["startupProbe"]["path"] == "/livez"
    assert asked["readinessProbe"]["path"] == "/readyz"


def test_public_and_private_listener_have_services_and_policies_of_their_own() -> None:
    services = {one["spec"]["ports"][0]["name"]: one for one in by_kind(SHIPPED, "Service")}
    policies = {one["metadata"]["name"].removeprefix("healthd-"): one for one in by_kind(SHIPPED, "NetworkPolicy")}
    assert services.keys() == {"public", "private"}
    for listener, service in services.items():
        [port] = service["spec"]["ports"]
        assert port["targetPort"] == listener
        assert service["spec"]["selector"].items() <= LABELS.items()
        [rule] = policies[listener]["spec"]["ingress"]
        assert [one["port"] for one in rule["ports"]] == [listener]
    assert policies["public"]["spec"]["ingress"][0]["from"] != policies["private"]["spec"]["ingress"][0]["from"]
    rest = policies["healthd"]["spec"]
    assert "ingress" not in rest, "nobody comes in by the one that is for all"
    assert set(rest["policyTypes"]) == {"Ingress", "Egress"}
    for policy in policies.values():
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= LABELS.items()


def test_an_ingress_leads_to_the_public_listener_alone(tmp_path: Path) -> None:
    [ingress] = by_kind(rendered(tmp_path, OTHER_VALUES["everything"]), "Ingress")
    paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    assert {path["backend"]["service"]["name"] for path in paths} == {"healthd-public"}
    assert {path["path"] for path in paths} == {"/webhooks/", "/r/", "/slack/actions/", "/bounces/", "/robots.txt"}


def test_prometheus_scrapes_the_private_listener_under_the_name_that_the_rules_know() -> None:
    [monitor] = by_kind(SHIPPED, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    chosen = [one for one in by_kind(SHIPPED, "Service") if wanted <= one["metadata"]["labels"].items()]
    [port] = [port["name"] for one in chosen for port in one["spec"]["ports"]]
    [endpoint] = monitor["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["path"], port) == ("private", "/metrics", "private")
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "healthd"}]


def test_the_rules_are_the_shipped_ones(tmp_path: Path) -> None:
    [rule] = by_kind(SHIPPED, "PrometheusRule")
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
    assert CONTAINER["image"] == f"healthd:{version}"
