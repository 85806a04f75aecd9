"""Spans to OpenTelemetry: the extra `otel`, and the only module that imports it.

The spans are ours (stems.trace), ids included, so that lines of the log name the same trace with and without it; of
OpenTelemetry the exporter is used, with its own settings (OTEL_EXPORTER_OTLP_HEADERS, OTEL_RESOURCE_ATTRIBUTES, …).
"""

import atexit
import logging

from stems import __version__, trace
from stems.config import Settings

_log = logging.getLogger(__name__)

_TIMEOUT_S = 5  # a collector that hangs must not hold up the end of a process for long


def configure(settings: Settings, component: str) -> None:
    """Export the spans of this process as those of `stems-<component>`, where OTEL_EXPORTER_OTLP_ENDPOINT is set."""
    if not settings.otlp_endpoint:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
    except ModuleNotFoundError as error:
        _log.warning("no traces are sent: %s is not installed (the extra `otel`)", error.name)
        return
    exporter = OTLPSpanExporter(f"{settings.otlp_endpoint}/v1/traces", timeout=_TIMEOUT_S)
    processor = BatchSpanProcessor(exporter)
    resource = Resource.create({"service.name": f"stems-{component}", "service.version": __version__})
    kinds = {"client": SpanKind.CLIENT, "server": SpanKind.SERVER}

    def context(trace_id: str, span_id: str) -> SpanContext:
        return SpanContext(int(trace_id, 16), int(span_id, 16), False, TraceFlags(TraceFlags.SAMPLED))

    def keep(span: trace.Span) -> None:
        place = span.place
        parent = context(place.trace_id, span.parent_id) if span.parent_id else None
        status = Status(StatusCode.ERROR, span.error) if span.error else Status()
        attributes = {"cloudevents.event_id": place.event_id, **span.attributes}
        processor.on_end(
            ReadableSpan(
                span.name,
                context(place.trace_id, place.span_id),
                parent,
                resource,
                attributes,
                kind=kinds.get(span.kind, SpanKind.INTERNAL),
                status=status,
                start_time=span.start_ns,
                end_time=span.end_ns,
            )
        )

    trace.keep_spans(keep)
    atexit.register(processor.shutdown)
