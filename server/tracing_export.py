"""Where traces go: OTLP over HTTP, to any receiver of it. Langfuse is one, see docs/telemetry.md."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import Counter

from server.auth.secrets import secret_reader
from server.drain import EventLog
from server.errors import SecretUnreadable, SettingsError
from server.settings import Settings

# One request to the receiver, its retries included.
_TIMEOUT_S = 5.0


class CountedExporter(SpanExporter):
    """Counts what it hands to `inner`, and logs when that begins to fail and when it works again.

    Called on the SDK's thread. `done` spans were taken from the queue; anyone may read it.
    """

    def __init__(self, inner: SpanExporter, spans: Counter, log: EventLog) -> None:
        self._inner = inner
        self._sent = spans.labels(result="sent")
        self._lost = spans.labels(result="failed")
        self._log = log
        self._failing = self._closed = False
        self.done = 0
        self.skipped = spans.labels(result="skipped")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        self.done += len(spans)
        sent = result is SpanExportResult.SUCCESS
        (self._sent if sent else self._lost).inc(len(spans))
        if sent is self._failing:
            self._failing = not sent
            # Neither the address nor the receiver's answer: both may hold what is nobody's business.
            self._log.info("traces.sent" if sent else "traces.failing", spans=len(spans))
        return result

    def shutdown(self) -> None:
        """Again is harmless."""
        if not self._closed:
            self._closed = True
            self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def open_exporter(settings: Settings, spans: Counter, log: EventLog) -> CountedExporter:
    """For the setting traces_url, with the headers that traces_headers refers to, else those of the standard
    OTEL_EXPORTER_OTLP_HEADERS. Raises SettingsError.
    """
    assert settings.traces_url is not None
    # Its failures are ours to tell, once and as JSON.
    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
    inner = OTLPSpanExporter(
        endpoint=f"{settings.traces_url.rstrip('/')}/v1/traces",
        headers=_headers(settings),
        timeout=_TIMEOUT_S,
    )
    return CountedExporter(inner, spans, log)


def parse_headers(text: str) -> dict[str, str]:
    """`name=value,name=value`, as in OTEL_EXPORTER_OTLP_HEADERS. Raises SettingsError, and quotes nothing."""
    found: dict[str, str] = {}
    for item in text.strip().split(","):
        name, separator, value = item.partition("=")
        if not separator or not name.strip() or not value.strip() or not value.isprintable():
            raise SettingsError("setting traces_headers: what it refers to is not name=value,name=value")
        found[name.strip().lower()] = value.strip()
    return found


def _headers(settings: Settings) -> dict[str, str] | None:
    if settings.traces_headers is None:
        return None
    try:
        return parse_headers(secret_reader(settings.traces_headers, settings.region)())
    except SecretUnreadable as exc:
        raise SettingsError(f"setting traces_headers: {exc}") from exc
