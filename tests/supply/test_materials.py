"""The bill of materials, and the question whether any of it is known to be vulnerable."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
Answer = dict[str, Any]
AUDIT: dict[str, Any] = runpy.run_path(str(ROOT / ".ci" / "audit"))
judge: Callable[[Answer], tuple[int | None, list[str]]] = AUDIT["judge"]
audit: Callable[[list[str], list[str]], int] = AUDIT["audit"]


def known(name: str, *vulnerabilities: Answer) -> Answer:
    return {"name": name, "version": "1.0", "vulns": list(vulnerabilities)}


def unknown(name: str) -> Answer:
    return {"name": name, "skip_reason": "not found"}


def hole(*mended_in: str) -> Answer:
    return {"id": "PYSEC-2026-1", "fix_versions": list(mended_in), "aliases": [], "description": "…"}


VERDICTS: dict[str, tuple[list[Answer], int | None, str]] = {
    "nothing known against anything": ([known("a"), known("b")], 0, "2 packages, no known vulnerability"),
    "a vulnerability": ([known("a"), known("b", hole("1.1"))], 1, "VULNERABLE: b 1.0: PYSEC-2026-1, mended in 1.1"),
    "one that nobody has mended": (
        [known("a", hole())],
        1,
        "VULNERABLE: a 1.0: PYSEC-2026-1, mended in no release yet",
    ),
    "a pin that the database does not know": ([known("a"), unknown("b")], 1, "not audited: b: not found"),
    "a database that knows nothing": ([unknown("a"), unknown("b")], None, "it knows none of the packages"),
}


@pytest.mark.parametrize(("entries", "code", "said"), VERDICTS.values(), ids=VERDICTS)
def test_an_audit_passes_only_what_a_database_has_cleared(entries: list[Answer], code: int | None, said: str) -> None:
    assert judge({"dependencies": entries, "fixes": []}) == (code, [said])


def test_an_audit_that_asked_nobody_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    asking_fails = [sys.executable, "-c", "raise SystemExit('no route to host')"]
    assert audit(asking_fails, []) == 0
    said = capfd.readouterr().out
    assert "NOTHING WAS AUDITED" in said
    assert said.count("no route to host") == len(AUDIT["SERVICES"])


def label(name: str) -> str:
    found = re.search(rf'\b{re.escape(name)}="([^"]+)"', (ROOT / "Dockerfile").read_text("utf-8"))
    assert found, name
    return found[1]


def test_the_image_says_where_its_bill_of_materials_lies() -> None:
    recipe = (ROOT / "Dockerfile").read_text("utf-8")
    build, final = recipe.split("\nFROM ")[1:]
    assert f"RUN .ci/sbom /opt/healthd {label('healthd.sbom')}" in build
    assert build.index("pip uninstall") < build.index("RUN .ci/sbom"), "it must not list what is taken out again"
    assert label("healthd.sbom").startswith("/opt/healthd/")
    assert "COPY --from=build /opt/healthd /opt/healthd" in final


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_bill_of_materials_is_healthds_own_lists_every_locked_package_and_what_needs_what(tmp_path: Path) -> None:
    """Of the environment that the tests run in. That it meets CycloneDX's schema is checked where the image is built:
    of so many packages that takes the tool longer than all of this.
    """
    file = tmp_path / "sbom.cdx.json"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        [ROOT / ".ci" / "sbom", sys.prefix, file, "--no-validate"], check=True, env=os.environ | {"PATH": path}
    )
    bill: Answer = json.loads(file.read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    root = bill["metadata"]["component"]
    assert (bill["bomFormat"], root["type"]) == ("CycloneDX", "application")
    assert (root["name"], root["version"]) == (project["name"], project["version"])
    [licence] = root["licenses"]
    assert licence["license"]["id"] == project["license"]

    lock = (ROOT / "requirements" / "run.lock").read_text("utf-8")
    everywhere = dict(re.findall(r"(?m)^([A-Za-z0-9._-]+)==(\S+) \\$", lock))
    listed = {normal(part["name"]): part for part in bill["components"]}
    assert {name: listed[name]["version"] for name in everywhere if name in listed} == everywhere
    assert [name for name in everywhere if not listed[name]["purl"].startswith(f"pkg:pypi/{name}@")] == []

    needs = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    direct = {normal(ref.partition("==")[0]) for ref in needs[root["bom-ref"]]}
    declared = {normal(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in project["dependencies"]}
    assert declared <= direct
