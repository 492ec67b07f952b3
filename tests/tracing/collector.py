"""An OTLP/HTTP receiver on loopback: takes what a collector takes, and reads it with OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.loopback import Asked, answer, serving


@dataclass(frozen=True)
class Seen:
    """A span as it arrived. Ids are hexadecimal; ``links`` are the ids of traces."""

    name: str
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    about: dict[str, str]
    failed: str


@dataclass
class Collector:
    """``status`` is what it answers with from now on."""

    address: str = ""
    status: int = 200
    asked: list[Asked] = field(default_factory=list)

    def respond(self, asked: Asked) -> bytes:
        self.asked.append(asked)
        return answer(self.status)

    @property
    def requests(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(gzip.decompress(one.body)) for one in self.asked]

    @property
    def spans(self) -> list[Seen]:
        return [
            Seen(
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                tuple(link.trace_id.hex() for link in span.links),
                {one.key.removeprefix("healthd."): one.value.string_value for one in span.attributes},
                span.status.message,
            )
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def named(self, name: str, **about: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name and about.items() <= span.about.items()]


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    async with serving(collector.respond) as collector.address:
        yield collector
