"""The text that Prometheus reads.

prometheus_client's own writer checks and escapes each name of each label of each line, by way of regular expressions:
with hundreds of workspaces that is seconds, in which the event loop stands still. Names are checked where a metric is
made; here they are written, and in pieces between which others get their turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

PIECE = 500
"""Lines: about a millisecond."""
_ESCAPED = re.compile(r'[\\"\n]')
_ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n"}
_NO_NUMBERS = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


def pieces(families: Iterable[Metric]) -> Iterator[str]:
    """The families of gauges, counters and histograms in the text format 0.0.4, a few hundred lines at a time."""
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        text = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
        yield f"# HELP {name} {text}\n# TYPE {name} {family.type}\n"
        samples: Sequence[Sample] = family.samples
        for start in range(0, len(samples), PIECE):
            yield "".join(map(_line, samples[start : start + PIECE]))


def _line(sample: Sample) -> str:
    number = repr(float(sample.value))
    number = _NO_NUMBERS.get(number, number)
    if not sample.labels:
        return f"{sample.name} {number}\n"
    return f"{sample.name}{{{','.join([_label(*label) for label in sample.labels.items()])}}} {number}\n"


@lru_cache(10_000)
def _label(name: str, value: str) -> str:
    return f'{name}="{_ESCAPED.sub(lambda found: _ESCAPES[found[0]], value)}"'
