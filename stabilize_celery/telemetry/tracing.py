"""OpenTelemetry: a span per workflow, per run of a stage, per execution of a task. Needs the extra `[otel]`.

A workflow outlives every process that works on it, so nobody can hold its span open. The ids of the spans of workflows
and stages follow from their names: whoever executes a task knows its parent, and whoever commits the end of a stage or
a workflow writes its span, with the times that stand in the state.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.handlers.run_task import ClaimedTask
from stabilize_celery.engine.results import TaskReturned
from stabilize_celery.engine.state import RUN, WORKFLOW_RECORD, WorkflowRecord
from stabilize_celery.engine.steps import Hash, SetFields, Slot, Snapshot
from stabilize_celery.errors import ConfigurationError
from stabilize_celery.models.messages import Message
from stabilize_celery.runtime.observing import Observer
from stabilize_celery.store.contract import Transaction
from stabilize_celery.telemetry.carrying import is_traceparent

__all__ = ["TracingObserver", "make_tracing_observer"]

_NS_PER_MS = 1_000_000
_BAD = frozenset({"TERMINAL", "RETRY"})
_STAGE_ENDS = frozenset({"completed", "failed_continue", "skipped", "stopped", "failed", "canceled"})
_WORKFLOW_ENDS = frozenset({"succeeded", "terminal", "canceled", "stopped", "failed_continue", "skipped"})
_FAILED = frozenset({"failed", "terminal"})


class _ChosenIds(RandomIdGenerator):
    """Random ids, unless the code of this thread has chosen one."""

    def __init__(self) -> None:
        self._local = threading.local()

    @contextmanager
    def choosing(self, span_id: int, trace_id: int) -> Iterator[None]:
        self._local.ids = (span_id, trace_id)
        try:
            yield
        finally:
            self._local.ids = None

    def generate_span_id(self) -> int:
        ids = getattr(self._local, "ids", None)
        return ids[0] if ids else super().generate_span_id()

    def generate_trace_id(self) -> int:
        ids = getattr(self._local, "ids", None)
        return ids[1] if ids else super().generate_trace_id()


@dataclass(slots=True)
class _Seen:
    """What was read in this delivery, by key: the newest reading counts."""

    hashes: dict[str, Mapping[str, bytes]] = field(default_factory=dict)


class TracingObserver(Observer):
    """Writes spans to a provider of OpenTelemetry's SDK."""

    def __init__(self, provider: TracerProvider) -> None:
        tracer = provider.get_tracer("stabilize_celery", metadata.version("stabilize-celery"))
        self._provider = provider
        self._ids = _ChosenIds()
        if isinstance(tracer, Tracer):
            # This tracer is nobody else's.
            tracer.id_generator = self._ids
        self._tracer = tracer
        self._local = threading.local()

    def send(self, within_s: float) -> bool:
        """Send the spans that have ended and are not sent yet; return whether that took no longer than this (s).

        Without it they are lost with the process: a child of a pool runs no `atexit`.
        """
        # An exporter whose collector is away tries again for minutes, whatever time it is given.
        sending = threading.Thread(target=self._provider.force_flush, name="stabilize-spans", daemon=True)
        sending.start()
        sending.join(within_s)
        return not sending.is_alive()

    def around_delivery(self, message: Message, handle: Callable[[], str]) -> str:  # noqa: ARG002
        """Keep what is read meanwhile: the ends of stages and workflows are told from it."""
        outer = getattr(self._local, "seen", None)
        self._local.seen = _Seen()
        try:
            return handle()
        finally:
            self._local.seen = outer

    def around_body(self, claimed: ClaimedTask, execute: Callable[[], TaskReturned]) -> TaskReturned:
        """Execute inside a span of the task: spans that its code makes are inside, too."""
        message, record = claimed.message, claimed.frame.workflow
        whose = _Names(message.workflow_id, record)
        parent = _inside(whose.context(whose.stage(message.thread)))
        known = {**whose.attributes(message.ref_id), "stabilize.task_type": message.task_type}
        known |= {"stabilize.task": claimed.task_name, "stabilize.attempt": claimed.attempt}
        with self._tracer.start_as_current_span(
            f"task {claimed.task_name}", parent, SpanKind.CONSUMER, known, record_exception=False
        ) as span:
            returned = execute()
            span.set_attribute("stabilize.result", returned.status)
            if returned.status in _BAD:
                span.set_status(Status(StatusCode.ERROR, str((returned.error or {}).get("message", ""))[:500]))
        return returned

    def saw(self, slot: Slot, snapshot: Snapshot) -> None:
        """Keep records of workflows and runs."""
        seen: _Seen | None = getattr(self._local, "seen", None)
        if seen is None or slot.kind != "workflow":
            return
        for query, answer in snapshot.answers():
            if isinstance(query, Hash) and answer and (query.key == places.WORKFLOW or _is_run(query.key)):
                seen.hashes[query.key] = answer

    def committed(self, slot: Slot, transaction: Transaction) -> None:
        """Write the spans of what has ended."""
        seen: _Seen | None = getattr(self._local, "seen", None)
        if seen is None or slot.kind != "workflow" or not transaction.events:
            return
        written: dict[str, dict[str, Any]] = {}
        for change in transaction.changes:
            if isinstance(change, SetFields):
                written.setdefault(change.key, {}).update(change.fields)
        record = WORKFLOW_RECORD.decode(seen.hashes.get(places.WORKFLOW, {}))
        whose = _Names(slot.name, record)
        for event in transaction.events:
            whole, _, what = str(event["kind"]).partition(".")
            if whole in ("stage", "instance") and what in _STAGE_ENDS:
                self._stage_ended(whose, what, event, seen, written)
            elif whole == "workflow" and what in _WORKFLOW_ENDS and record.started_ms:
                known = {**whose.attributes(""), "stabilize.status": what.upper()}
                parent = whose.parent_context()
                times = (record.started_ms, int(event["at"]))
                self._write(f"workflow {record.name}", whose.workflow, parent, whose, times, known, what)

    def _stage_ended(
        self, whose: "_Names", what: str, event: Mapping[str, Any], seen: _Seen, written: Mapping[str, dict[str, Any]]
    ) -> None:
        data = unpack(event["data"]) if event.get("data") else {}
        thread = str(data.get("thread", ""))
        own = thread if data.get("instance") is None else f"{thread}.{data['instance']}"
        key = places.run(own)
        run = RUN.decode(seen.hashes.get(key, {}))
        started_ms = int(written.get(key, {}).get("started_ms", run.started_ms))
        if not started_ms:
            return
        above = thread if own != thread else run.parent
        parent = whose.context(whose.stage(above) if above else whose.workflow)
        known = {**whose.attributes(str(event["ref"])), "stabilize.outcome": what}
        if own != thread:
            known["stabilize.instance"] = int(data["instance"])
        times = (started_ms, int(event["at"]))
        self._write(f"stage {event['ref']}", whose.stage(own), parent, whose, times, known, what)

    def _write(
        self,
        name: str,
        span_id: int,
        parent: SpanContext | None,
        whose: "_Names",
        times_ms: tuple[int, int],
        known: Mapping[str, Any],
        what: str,
    ) -> None:
        inside = _inside(parent) if parent is not None else otel_context.Context()
        with self._ids.choosing(span_id, whose.trace_id):
            span = self._tracer.start_span(
                name, inside, SpanKind.INTERNAL, known, start_time=times_ms[0] * _NS_PER_MS, record_exception=False
            )
        if what in _FAILED:
            span.set_status(Status(StatusCode.ERROR))
        span.end(max(times_ms) * _NS_PER_MS)


class _Names:
    """The ids of a workflow's spans."""

    def __init__(self, workflow_id: str, record: WorkflowRecord) -> None:
        self._id = workflow_id
        self._record = record
        given = record.trace if is_traceparent(record.trace) else ""
        self.trace_id = int(given[3:35], 16) if given else _number(f"trace:{record.trace or workflow_id}", 16)
        self._flags = TraceFlags(int(given[53:55], 16)) if given else TraceFlags(TraceFlags.SAMPLED)
        self._producer = int(given[36:52], 16) if given else 0
        # Each restart ends once more, and writes a span of its own.
        again = f"#{record.restarts}" if record.restarts else ""
        self.workflow = _number(f"workflow:{workflow_id}{again}", 8)

    def stage(self, thread: str) -> int:
        """Return the id of the span of a run."""
        return _number(f"stage:{self._id}/{thread}", 8)

    def context(self, span_id: int) -> SpanContext:
        """Return the context of a span of this workflow, which another process writes."""
        return SpanContext(self.trace_id, span_id, is_remote=True, trace_flags=self._flags)

    def parent_context(self) -> SpanContext | None:
        """Return what the workflow's own span is inside: the stage that called it, or the producer's span."""
        record = self._record
        if record.trace and record.parent_id:
            return self.context(_number(f"stage:{record.parent_id}/{record.parent_thread}", 8))
        return self.context(self._producer) if self._producer else None

    def attributes(self, ref_id: str) -> dict[str, Any]:
        """Return what every span says."""
        record = self._record
        known: dict[str, Any] = {"stabilize.workflow_id": self._id, "stabilize.workflow": record.name}
        known["stabilize.application"] = record.application
        if record.restarts:
            known["stabilize.restarts"] = record.restarts
        return known | {"stabilize.stage": ref_id} if ref_id else known


def make_tracing_observer() -> TracingObserver:
    """Return an observer for this process: of its own provider, or of one made as OpenTelemetry's variables say.

    Raises:
        ConfigurationError: nobody has set up a provider, and the exporter that is asked for is not installed.

    """
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(_exporter(os.environ.get("OTEL_TRACES_EXPORTER", "otlp"))))
        trace.set_tracer_provider(provider)
    return TracingObserver(provider)


def _exporter(name: str) -> Any:
    if name == "console":
        return ConsoleSpanExporter()
    for entry in metadata.entry_points(group="opentelemetry_traces_exporter", name=name):
        return entry.load()()
    raise ConfigurationError(
        f"STABILIZE_TRACES is on, but there is no exporter {name!r} (OTEL_TRACES_EXPORTER): "
        "pip install opentelemetry-exporter-otlp, or set up a TracerProvider in your app"
    )


def _inside(parent: SpanContext) -> otel_context.Context:
    return trace.set_span_in_context(NonRecordingSpan(parent), otel_context.Context())


def _is_run(key: str) -> bool:
    return key.startswith(places.run(""))


def _number(name: str, length: int) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:length], "big") or 1
