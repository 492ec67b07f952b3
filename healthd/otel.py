"""Traces as OpenTelemetry knows them, sent by OTLP over HTTP. Imported only where the settings ask for traces."""

from __future__ import annotations

import gzip
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import httpx2
import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Status, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

log = structlog.get_logger("healthd.otel")

TIMEOUT = 3.0
"""Seconds for one request to the collector."""
CLOSE_WITHIN = 3.0
"""Seconds at the end for what is still to be handed over."""
EVERY = 2.0
"""Seconds between two requests, as long as little happens."""
CARRIED = 10_000
"""Accounts whose question is waited for; what was noted first is forgotten first."""
FAILED = frozenset({"retry", "dead"})
"""Outcomes that make a step one that failed."""
_WIRE = TraceContextTextMapPropagator()


class OtlpExporter(SpanExporter):
    """Hands spans over, once: what the collector does not take is lost, and the log says so once. Redirects are not
    followed, and no proxy is taken from the environment: the headers hold a key.
    """

    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        path = "" if endpoint.endswith("/v1/traces") else "/v1/traces"
        self._url = endpoint.rstrip("/") + path
        self._http = httpx2.Client(timeout=TIMEOUT, trust_env=False, headers=dict(headers))
        self._failing = False
        self._ends_at: float | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._ends_at is not None and time.monotonic() > self._ends_at:
            return SpanExportResult.FAILURE
        reason = self._post(gzip.compress(encode_spans(spans).SerializeToString(), 1))
        if reason and not self._failing:
            log.warning("tracing.not_delivered", reason=reason)
        elif self._failing and not reason:
            log.info("tracing.delivered_again")
        self._failing = bool(reason)
        return SpanExportResult.FAILURE if reason else SpanExportResult.SUCCESS

    def _post(self, body: bytes) -> str:
        """What went wrong, or nothing."""
        try:
            kind = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
            answer = self._http.post(self._url, content=body, headers=kind)
        except (httpx2.HTTPError, OSError) as error:
            return type(error).__name__
        return "" if answer.is_success else f"status {answer.status_code}"

    def close_soon(self) -> None:
        self._ends_at = time.monotonic() + CLOSE_WITHIN

    def shutdown(self) -> None:
        self._http.close()


class OtelRecorder:
    """Keeps spans and hands them over in a thread of its own. ``sample`` is the share of traces that are kept."""

    def __init__(self, endpoint: str, headers: Mapping[str, str], sample: float, version: str) -> None:
        self._exporter = OtlpExporter(endpoint, headers)
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample)),
            resource=Resource.create({"service.name": "healthd", "service.version": version}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, schedule_delay_millis=EVERY * 1000))
        self._tracer = self._provider.get_tracer("healthd", version)
        self._carried: OrderedDict[int, str] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def span(self, name: str, about: dict[str, str], parent: str | None, links: Sequence[str]) -> Iterator[str | None]:
        """An exception is told by its class alone: its message may hold an address."""
        with self._tracer.start_as_current_span(
            name,
            context=_read(parent) if parent else None,
            attributes={f"healthd.{key}": value for key, value in about.items()},
            links=[Link(get_current_span(_read(one)).get_span_context()) for one in dict.fromkeys(links)],
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield self.current()
            except BaseException as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

    def outcome(self, word: str) -> None:
        span = get_current_span()
        span.set_attribute("healthd.outcome", word)
        if word in FAILED:
            span.set_status(Status(StatusCode.ERROR, word))

    def current(self) -> str | None:
        written: dict[str, str] = {}
        _WIRE.inject(written)
        return written.get("traceparent")

    def carry(self, account_id: int) -> None:
        """From the writer's thread."""
        here = self.current()
        if here is None:
            return
        with self._lock:
            self._carried[account_id] = here
            if len(self._carried) > CARRIED:
                self._carried.popitem(last=False)

    def carried(self, account_id: int) -> str | None:
        with self._lock:
            return self._carried.pop(account_id, None)

    def close(self) -> None:
        """Hands over what there is, within some seconds. Blocks: call it off the event loop."""
        self._exporter.close_soon()
        self._provider.shutdown()


def _read(trace: str) -> Context:
    return _WIRE.extract({"traceparent": trace}, context=Context())
