"""Renders the chart to plain manifests: ``.venv/bin/python deploy/kubernetes/render.py``. Helm itself does the work,
as a library. ``--values FILE`` prints what other values would make of it; ``--into FOLDER`` writes elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CHART = HERE / "chart"
OF_THE_OPERATOR = ("templates/monitoring.yaml",)
"""Their kinds exist only where the Prometheus operator does; elsewhere `kubectl apply` would refuse the file."""
FIRST = "# Made from deploy/kubernetes/chart by deploy/kubernetes/render.py: change it there.\n"


def rendered(values: dict[str, Any]) -> dict[str, str]:
    """What each template makes of the values. Raises ``helm_python.HelmError`` where they do not fit."""
    import helm_python  # noqa: PLC0415 - there is none for every machine

    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        made = chart.render(values, name="healthd", namespace="healthd")
    files = {name.removeprefix("healthd/"): text.strip() for name, text in made.items()}
    return {name: text for name, text in sorted(files.items()) if name.endswith(".yaml") and text}


def joined(files: dict[str, str]) -> str:
    """One file of all, each document under its ``---``."""
    texts = (text if text.startswith("---") else f"---\n{text}" for text in files.values())
    lines = "\n".join(texts).splitlines()
    return FIRST + "\n".join(line.rstrip() for line in lines) + "\n"


def manifests() -> dict[str, str]:
    """The files in manifests/, as they should be."""
    alone = rendered({})
    replicas = rendered(yaml.safe_load((HERE / "values.postgresql.yaml").read_text("utf-8")))
    return {
        "healthd.yaml": joined(_without(alone, OF_THE_OPERATOR)),
        "healthd-postgresql.yaml": joined(_without(replicas, OF_THE_OPERATOR)),
        "monitoring.yaml": joined({name: alone[name] for name in OF_THE_OPERATOR}),
    }


def _without(files: dict[str, str], names: Collection[str]) -> dict[str, str]:
    return {name: text for name, text in files.items() if name not in names}


def main() -> None:
    options = argparse.ArgumentParser(description="Renders the chart to plain manifests.")
    options.add_argument("--values", type=Path, help="print what these values make of it")
    options.add_argument("--into", type=Path, default=HERE / "manifests", help="where the manifests go")
    chosen = options.parse_args()
    if chosen.values:
        print(joined(rendered(yaml.safe_load(chosen.values.read_text("utf-8")))), end="")
        return
    for name, text in manifests().items():
        (chosen.into / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
