"""Every metric has a name by the rules, a meaning, and its line in the documentation."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from healthd.metrics import Described, Metrics, Of, Snapshot

ROOT = Path(__file__).parents[2]
DESCRIBED = {one.name: one for one in Metrics("").described}


@pytest.mark.parametrize("one", DESCRIBED.values(), ids=DESCRIBED)
def test_a_metric_is_named_by_the_rules_and_says_what_it_means(one: Described) -> None:
    assert one.name.startswith("healthd_")
    assert one.name.endswith("_total") == (one.kind == "counter")
    assert one.kind != "histogram" or one.name.endswith("_seconds")
    assert one.text.endswith(".")
    assert {"account", "account_id", "name", "profile", "address"}.isdisjoint(one.labels)


def test_all_that_is_exposed_is_described_and_the_other_way_round() -> None:
    text = "".join(Metrics("1.2.3").exposition(Snapshot(datetime.now(UTC))))
    families = [family for family in text_string_to_metric_families(text) if not family.name.startswith("process_")]
    exposed = {f"{family.name}_total" if family.type == "counter" else family.name: family for family in families}
    assert set(exposed) == set(DESCRIBED)
    assert {name: family.type for name, family in exposed.items()} == {one.name: one.kind for one in DESCRIBED.values()}
    assert {name: family.documentation for name, family in exposed.items()} == {
        one.name: one.text for one in DESCRIBED.values()
    }


def test_the_documentation_lists_every_metric_and_says_whose_it_is() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    listed = dict(re.findall(r"(?m)^\| `(healthd_\w+)` \| [^|]*\| (\w+) \|", page))
    assert listed == {one.name: str(one.of) for one in DESCRIBED.values()}


def test_what_a_snapshot_of_the_store_brings_is_the_store_s_and_all_else_the_process_s() -> None:
    def shown(snapshot: Snapshot | None) -> set[str]:
        text = "".join(Metrics("").exposition(snapshot))
        return {family.name for family in text_string_to_metric_families(text)}

    of_the_store = {one.name for one in DESCRIBED.values() if one.of is Of.STORE}
    read_by_the_process = {name for name in of_the_store if name.startswith("healthd_api_allowance_")}
    assert shown(Snapshot(datetime.now(UTC))) - shown(None) == of_the_store - read_by_the_process
