"""A daemon's exposition as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


def samples(text: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text):
        yield from family.samples


def series(text: str, prefix: str = "healthd_") -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Every series there is, by name and labels."""
    return {(one.name, tuple(sorted(one.labels.items()))) for one in samples(text) if one.name.startswith(prefix)}
