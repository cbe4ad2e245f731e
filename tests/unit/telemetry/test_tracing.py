"""Spans: workflow, stages, tasks, under the producer's."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from stabilize_celery.engine.restart import restart
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.settings import Settings
from stabilize_celery.telemetry.carrying import current_traceparent, is_traceparent
from stabilize_celery.telemetry.tracing import TracingObserver
from stabilize_celery.testing import Simulation
from tests.simulation.stories import stage, workflow


class Traced:
    """A simulation whose spans are kept."""

    def __init__(self, tasks: dict[str, Any], **settings: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.simulation = Simulation(1, tasks, settings=Settings(**settings))
        self.simulation.runtime.unit.observer = TracingObserver(self.provider)

    def run(self, flow: Workflow, **more: Any) -> dict[str, ReadableSpan]:
        self.simulation.finish(self.simulation.start(flow, **more))
        return {span.name: span for span in self.exporter.get_finished_spans()}


def parent(span: ReadableSpan) -> int:
    return span.parent.span_id if span.parent else 0


@pytest.mark.parametrize("mode", ["per_message", "fused", "continuation"])
def test_tasks_are_inside_stages_and_stages_inside_their_workflow(mode: str) -> None:
    """In one trace, in every mode, each span once."""
    traced = Traced({"work": lambda _: {}}, mode=mode)
    spans = traced.run(workflow(stage("a"), stage("b", "a")))
    whole = next(span for name, span in spans.items() if name.startswith("workflow "))

    assert len(traced.exporter.get_finished_spans()) == 5
    assert parent(spans["stage a"]) == parent(spans["stage b"]) == whole.context.span_id
    tasks = [span for span in traced.exporter.get_finished_spans() if span.name.startswith("task ")]
    assert {parent(span) for span in tasks} == {spans["stage a"].context.span_id, spans["stage b"].context.span_id}
    assert len({span.context.trace_id for span in spans.values()}) == 1
    assert whole.start_time <= spans["stage a"].start_time <= spans["stage b"].end_time <= whole.end_time


def test_the_producers_span_is_the_parent_of_the_workflow() -> None:
    """Its context comes with the workflow's record, over all processes."""
    traced = Traced({"work": lambda _: {}})
    with traced.provider.get_tracer("shop").start_as_current_span("order placed") as placed:
        carried = current_traceparent()
    spans = traced.run(workflow(stage("a")), workflow_id="W1", trace=carried)
    whole = next(span for name, span in spans.items() if name.startswith("workflow "))

    assert is_traceparent(carried)
    assert parent(whole) == placed.get_span_context().span_id
    assert {span.context.trace_id for span in spans.values()} == {placed.get_span_context().trace_id}


def test_spans_of_a_tasks_own_code_are_inside_the_task() -> None:
    """It is the current span while the body runs."""

    def work(_: Any) -> dict[str, Any]:
        with traced.provider.get_tracer("shop").start_as_current_span("query"):
            return {}

    traced = Traced({"work": work})
    spans = traced.run(workflow(stage("a")))
    task = next(span for name, span in spans.items() if name.startswith("task "))

    assert parent(spans["query"]) == task.context.span_id


def test_what_failed_is_an_error_with_its_words() -> None:
    """The task says why; the stage and the workflow are errors, too."""
    traced = Traced({"work": lambda _: 1 / 0})
    spans = traced.run(workflow(stage("a")))

    assert {span.status.status_code for span in spans.values()} == {StatusCode.ERROR}
    assert any("ZeroDivisionError" in str(span.status.description) for span in spans.values())


@pytest.mark.parametrize("text", ["", "00-0-0-00", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", None, 7, "x" * 55])
def test_what_is_no_traceparent_is_not_taken(text: object) -> None:
    """It may have come over the wire."""
    assert not is_traceparent(text)


def test_who_is_in_no_span_carries_nothing() -> None:
    """Producers without tracing."""
    assert current_traceparent() == ""


def test_a_collector_that_is_away_does_not_keep_a_process_from_its_end() -> None:
    """An exporter tries again for minutes; what is not sent by then is lost."""
    is_there = threading.Event()

    class Hanging(SpanProcessor):
        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return is_there.wait(60)

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Hanging())
    observer = TracingObserver(provider)

    assert not observer.send(0.01)
    is_there.set()
    assert observer.send(10)


def test_each_restart_has_a_workflow_span_of_its_own() -> None:
    """Which the stages that run again are inside of; one id for two spans would be none."""
    traced = Traced({"work": lambda _: 1 / 0})
    workflow_id = traced.simulation.start(workflow(stage("a")))
    traced.simulation.finish(workflow_id)
    assert traced.simulation.ask(workflow_id, lambda: restart(workflow_id, "once more", "a")).took_effect
    traced.simulation.finish(workflow_id)

    spans = traced.exporter.get_finished_spans()
    first, second = (span for span in spans if span.name.startswith("workflow "))
    assert len({span.context.span_id for span in spans}) == len(spans)
    assert len({span.context.trace_id for span in spans}) == 1
    assert [parent(span) for span in spans if span.name == "stage a"] == [first.context.span_id, second.context.span_id]
    assert (first.attributes or {}).get("stabilize.restarts") is None
    assert (second.attributes or {})["stabilize.restarts"] == 1


@pytest.mark.parametrize("is_traced", [True, False])
def test_an_inner_workflow_is_inside_the_stage_that_called_it(is_traced: bool) -> None:
    """At any depth, in the trace of the outermost one, whether or not that has a producer's span."""
    traced = Traced({"work": lambda _: {}})

    def calling(inner: dict[str, Any]) -> dict[str, Any]:
        task = {"name": "call", "implementing_class": "sub_workflow"}
        return {"ref_id": f"call {inner['name']}", "type": "t", "context": {"workflow": inner}, "tasks": [task]}

    work = {"ref_id": "last", "type": "t", "tasks": [{"name": "work", "implementing_class": "work"}]}
    middle = {"name": "middle", "stages": [calling({"name": "inner", "stages": [work]})]}
    outer = {"application": "shop", "name": "outer", "stages": [calling(middle)]}
    trace = f"00-{'a' * 32}-{'b' * 16}-01" if is_traced else ""
    traced.simulation.finish(traced.simulation.start(outer, trace=trace))

    spans = {span.name: span for span in traced.exporter.get_finished_spans()}
    assert parent(spans["workflow middle"]) == spans["stage call middle"].context.span_id
    assert parent(spans["workflow inner"]) == spans["stage call inner"].context.span_id
    assert parent(spans["workflow outer"]) == (int("b" * 16, 16) if is_traced else 0)
    assert len({span.context.trace_id for span in spans.values()}) == 1
