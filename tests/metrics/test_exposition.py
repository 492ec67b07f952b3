"""The text that Prometheus reads says what prometheus_client would say, and takes its time in small portions."""

from __future__ import annotations

from collections import Counter as Tally
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from healthd import exposition
from healthd.core.model import PLATFORMS, State
from healthd.metrics import Metrics, Snapshot

HOSTILE = ('"} 1\nevil 1', "back\\slash", '{a="b"}', "\u202eright", "", "é\U0001f525")


def samples(text: str) -> Tally[tuple[str, str, str, tuple[tuple[str, str], ...], float]]:
    """Every line, with its family's type and text."""

    def row(kind: str, text: str, one: Sample) -> tuple[str, str, str, tuple[tuple[str, str], ...], float]:
        return kind, text, one.name, tuple(sorted(one.labels.items())), one.value

    families = text_string_to_metric_families(text)
    return Tally(row(family.type, family.documentation, one) for family in families for one in family.samples)


def test_gauges_counters_and_histograms_stand_there_as_the_library_writes_them() -> None:
    registry = CollectorRegistry()
    for number, value in enumerate(HOSTILE):
        Gauge(f"held_{number}", "Text with a \\ and\nlines.", ["a", "b"], registry=registry).labels(value, "x").set(
            -1.5
        )
    Counter("said", "Said.", ["who"], registry=registry).labels("me").inc(12_345_678_901)
    Histogram("took_seconds", "Took.", ["who"], buckets=(0.1, 1), registry=registry).labels("me").observe(0.3)
    Gauge("bare", "Without labels.", registry=registry).set(float("nan"))
    Gauge("far", "Without end.", registry=registry).set(float("inf"))
    ours, theirs = "".join(exposition.pieces(registry.collect())), generate_latest(registry).decode()
    # What is no number is not equal to itself.
    assert samples(ours.replace("NaN", "0")) == samples(theirs.replace("NaN", "0"))


def test_what_a_daemon_with_many_workspaces_shows_comes_in_small_pieces() -> None:
    metrics = Metrics("1.2.3")
    seen = [(f"w{number}", platform, State.HEALTHY, False, 3) for number in range(50) for platform in PLATFORMS]
    pieces = list(metrics.exposition(Snapshot(datetime.now(UTC), accounts=seen)))
    assert len(pieces) > 20
    assert max(piece.count("\n") for piece in pieces) <= exposition.PIECE
    assert 'healthd_accounts{workspace="w7",platform="facebook",state="healthy"} 3.0\n' in "".join(pieces)
