"""Traces: one span per request, with a span for each attempt and each resume inside it.

Spans end in a bounded queue, and the SDK's own thread sends them: a receiver that is slow or gone costs
spans, never a request. Whether a request is traced is decided before anything is recorded, so that one
that is not costs next to nothing. Only a gateway's spans carry the GenAI names: were the node's to say the
same, a receiver that adds up tokens would count them twice.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from server import traceparent
from server import tracing_names as names
from server.drain import EventLog
from server.errors import HeaderList
from server.metrics import Metrics
from server.settings import Settings
from server.tracing_export import CountedExporter, open_exporter

if TYPE_CHECKING:
    from server.observation import Observation

# Spans that wait to be sent, an eighth of them where they hold prompts. The SDK's queue is larger by what
# requests under way may still add.
MAX_QUEUE = 4096
_BATCH = 256
# The longest prompt or answer that a span carries, in characters, where that is switched on.
MAX_CONTENT = 64 * 1024

_ALL_TRACES = 1 << 64


class Tracing:
    """Begins traces. `share` of them is recorded, chosen by trace id. `rng` makes ids.

    A gateway decides by the id alone, for its clients must not decide what it records. A node follows the
    gateway that asks it.
    """

    def __init__(
        self,
        exporter: CountedExporter,
        *,
        resource: Mapping[str, str],
        share: float,
        follows: bool,
        keeps_content: bool,
        rng: Random,
        clock: Callable[[], float],
        schedule_ms: int = 1000,
    ) -> None:
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource(dict(resource)), shutdown_on_exit=False
        )
        processor = BatchSpanProcessor(
            exporter,
            max_queue_size=2 * MAX_QUEUE,
            max_export_batch_size=_BATCH,
            schedule_delay_millis=schedule_ms,
        )
        self._provider.add_span_processor(processor)
        self.spans = self._provider.get_tracer("goldenfleet")
        self._exporter = exporter
        self._ended = 0
        self._most = MAX_QUEUE // 8 if keeps_content else MAX_QUEUE
        self._below = int(share * _ALL_TRACES)
        self._follows = follows
        self.keeps_content = keeps_content
        self._rng = rng
        self._clock = clock

    @property
    def names_genai(self) -> bool:
        """Whether spans carry the GenAI names: a node's repeat what its gateway's say."""
        return not self._follows

    def begin(self, header: str | None, began: float) -> tuple[Trace | None, HeaderList]:
        """The request's trace if it is recorded, else what tells nodes that it is not."""
        parent = traceparent.read(header)
        trace_id = parent[0] if parent else self._rng.getrandbits(128) or 1
        if self._sampled(parent, trace_id):
            if self._ended - self._exporter.done < self._most:
                return Trace(self, parent, began), []
            # Whole traces are left out: the queue itself would drop single spans of many.
            self._exporter.skipped.inc()
        return None, traceparent.write(trace_id, self._rng.getrandbits(64) or 1, 0)

    def unix_ns(self, at: float) -> int:
        """A time of the clock as spans want it."""
        return time.time_ns() - int((self._clock() - at) * 1e9)

    def end(self, span: Span, at: float) -> None:
        self._ended += 1
        span.end(self.unix_ns(at))

    async def aclose(self, timeout_s: float) -> None:
        """Sends what is left, for `timeout_s` seconds at most: a receiver that hangs holds nobody up."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, timeout_s)
        # What is still being tried is given up, so that no thread goes on trying.
        self._exporter.shutdown()

    def flush(self) -> None:
        """Sends what is queued. Blocks as long as the exporter may take."""
        self._provider.force_flush()

    def _sampled(self, parent: traceparent.Parent | None, trace_id: int) -> bool:
        if parent is not None and self._follows:
            return bool(parent[2] & TraceFlags.SAMPLED)
        return trace_id & (_ALL_TRACES - 1) < self._below


class Trace:
    """The spans of one request. Times are those of the clock that Tracing was given."""

    __slots__ = ("_answer", "_attempt", "_inside", "_prompt", "_resume", "_span", "_tracing")

    def __init__(self, tracing: Tracing, parent: traceparent.Parent | None, began: float) -> None:
        context = Context()
        if parent is not None:
            trace_id, span_id, flags = parent
            remote = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
            context = set_span_in_context(NonRecordingSpan(remote), context)
        self._tracing = tracing
        self._span = tracing.spans.start_span(
            "request", context, SpanKind.SERVER, start_time=tracing.unix_ns(began)
        )
        self._inside = set_span_in_context(self._span, Context())
        self._attempt: Span | None = None
        self._resume: Span | None = None
        self._prompt: object = None
        self._answer: str | None = None

    @property
    def keeps_content(self) -> bool:
        return self._tracing.keeps_content

    @property
    def headers(self) -> HeaderList:
        """What tells a node that its span is inside the current attempt's."""
        current = (self._attempt or self._span).get_span_context()
        return traceparent.write(current.trace_id, current.span_id, current.trace_flags)

    def event(self, name: str, at: float) -> None:
        self._span.add_event(name, timestamp=self._tracing.unix_ns(at))

    def attempt(self, node: str, at: float) -> None:
        self._attempt = self._start("attempt", SpanKind.CLIENT, {names.NODE: node}, at)

    def attempt_ended(self, failure: str | None, at: float) -> None:
        if self._attempt is None:
            return
        if failure is not None:
            _fail(self._attempt, failure)
        self._tracing.end(self._attempt, at)
        self._attempt = None

    def resumed(self, mode: str, reason: str, tokens: int, at: float) -> None:
        """From the decision until the next node's first token: what the client waits."""
        self.spoke(at)
        attributes: dict[str, str | int] = {
            names.RESUME_MODE: mode,
            names.RESUME_REASON: reason,
            names.RESUME_TOKENS: tokens,
        }
        self._resume = self._start("resume", SpanKind.INTERNAL, attributes, at)

    def spoke(self, at: float) -> None:
        if self._resume is not None:
            self._tracing.end(self._resume, at)
            self._resume = None

    def content(self, prompt: object, answer: str) -> None:
        self._prompt, self._answer = prompt, answer

    def ended(self, seen: Observation, at: float) -> None:
        self.spoke(at)
        span = self._span
        span.update_name(self._name(seen))
        span.set_attributes(_attributes(seen))
        if self._tracing.names_genai and seen.route in names.OPERATIONS:
            span.set_attributes(_genai(seen))
        if self._answer is not None:
            span.set_attributes(_content(self._prompt, self._answer))
        if seen.outcome != "ok":
            _fail(span, seen.outcome)
        self._tracing.end(span, at)

    def _name(self, seen: Observation) -> str:
        if not self._tracing.names_genai:
            return f"node {seen.route}"
        operation = names.OPERATIONS.get(seen.route, seen.route)
        return f"{operation} {seen.model}" if seen.model else operation

    def _start(self, name: str, kind: SpanKind, attributes: Mapping[str, str | int], at: float) -> Span:
        when = self._tracing.unix_ns(at)
        return self._tracing.spans.start_span(name, self._inside, kind, attributes, start_time=when)


def open_tracing(
    settings: Settings,
    instance_id: str,
    metrics: Metrics,
    log: EventLog,
    *,
    rng: Random,
    clock: Callable[[], float],
) -> Tracing:
    """For a process whose setting traces_url is set. Raises SettingsError."""
    resource = {
        names.SERVICE_NAME: f"goldenfleet-{settings.role}",
        names.SERVICE_INSTANCE: instance_id,
        names.ENVIRONMENT: settings.stack,
        names.ROLE: settings.role,
    }
    return Tracing(
        open_exporter(settings, metrics.spans, log),
        resource=resource,
        share=settings.traces_share,
        follows=settings.role == "model",
        keeps_content=settings.trace_content,
        rng=rng,
        clock=clock,
    )


def _attributes(seen: Observation) -> dict[str, str | int]:
    found: dict[str, str | int] = {
        names.REQUEST_ID: seen.request_id,
        names.ROUTE: seen.route,
        names.OUTCOME: seen.outcome,
        names.ATTEMPTS: len(seen.attempts),
        names.RESUMES: seen.resumes,
    }
    if seen.status is not None:
        found[names.STATUS_CODE] = seen.status
    if seen.tenant is not None:
        found[names.TENANT] = seen.tenant
    return found


def _genai(seen: Observation) -> dict[str, str | int | float | list[str]]:
    found: dict[str, str | int | float | list[str]] = {
        names.OPERATION: names.OPERATIONS[seen.route],
        names.PROVIDER: names.PROVIDER_VALUE,
        names.REQUEST_STREAM: seen.stream,
    }
    if seen.model is not None:
        found[names.REQUEST_MODEL] = seen.model
    if seen.prompt_tokens:
        found[names.INPUT_TOKENS] = seen.prompt_tokens
    if seen.completion_tokens:
        found[names.OUTPUT_TOKENS] = seen.completion_tokens
    if seen.finish_reason is not None:
        found[names.FINISH_REASONS] = [seen.finish_reason]
    if seen.stream and seen.first_token_s is not None:
        found[names.TIME_TO_FIRST_CHUNK] = seen.first_token_s
    return found


def _content(prompt: object, answer: str) -> dict[str, str]:
    """The messages in the conventions' JSON, each side cut to MAX_CONTENT characters."""
    asked = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    inputs = [_message(item) for item in asked if isinstance(item, dict)]
    outputs = [_message({"role": "assistant", "content": answer})]
    return {names.INPUT_MESSAGES: _cut(inputs), names.OUTPUT_MESSAGES: _cut(outputs)}


def _message(item: Mapping[str, object]) -> dict[str, object]:
    content = item.get("content")
    text = content if isinstance(content, str) else json.dumps(content)
    part = {"type": "text", "content": text[:MAX_CONTENT]}
    return {"role": str(item.get("role", "user")), "parts": [part]}


def _cut(messages: list[dict[str, object]]) -> str:
    """The last messages that fit."""
    while len(found := json.dumps(messages)) > 2 * MAX_CONTENT and len(messages) > 1:
        messages = messages[1:]
    return found


def _fail(span: Span, error: str) -> None:
    span.set_attribute(names.ERROR_TYPE, error)
    span.set_status(Status(StatusCode.ERROR))
