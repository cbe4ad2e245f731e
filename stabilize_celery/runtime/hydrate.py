"""What a task's code sees: the stage with its visible context, attached to its workflow, loaded as it is looked at."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.handler import reduce
from stabilize_celery.engine.moves import (
    Frame,
    task_list,
)
from stabilize_celery.engine.past import Past, resolve, threads_of
from stabilize_celery.engine.steps import Fields, Query, Snapshot
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow

__all__ = ["EAGER_RUNS", "VisibleContext", "context_queries", "stage_of", "visible_context"]

EAGER_RUNS = 64
"""Up to this many earlier runs are read with the claim; outputs of more are read when they are asked for."""

_CONTEXT = Fields(places.DEFINITION, ("context",))

Load = Callable[[list[Query]], Snapshot]


def context_queries(frame: Frame) -> list[Query]:
    """Return what to read with the claim so that the context is there when the body starts."""
    threads = threads_of(_needed(frame).values())
    return [_CONTEXT, *(map(_outputs, sorted(threads)) if len(threads) <= EAGER_RUNS else ())]


def _needed(frame: Frame) -> Past:
    return {name: source for name, source in frame.run.past.items() if name not in frame.context}


def _outputs(thread: str) -> Fields:
    return Fields(places.run(thread), ("outputs",))


def visible_context(frame: Frame, snapshot: Snapshot, load: Load) -> dict[str, Any]:
    """Return the workflow's context, the outputs of the causal past, and the stage's own context, the later winning."""
    base = unpack(snapshot[_CONTEXT].get("context", b"\x80"))
    past = _needed(frame)
    threads = sorted(threads_of(past.values()))
    if len(threads) > EAGER_RUNS:
        return VisibleContext({**base, **frame.context}, past, load, frame.context)
    outputs = {thread: unpack(snapshot[_outputs(thread)].get("outputs", b"\x80")) for thread in threads}
    seen = {name: resolve(name, source, outputs, reduce) for name, source in past.items()}
    return VisibleContext({**base, **seen, **frame.context}, {}, load, frame.context)


class VisibleContext(dict[str, Any]):
    """A context whose values from earlier runs are loaded when they are looked at, by name or all at once.

    `own`: the stage's own part of it.
    """

    def __init__(self, known: Mapping[str, Any], past: Past, load: Load, own: Mapping[str, Any]) -> None:
        super().__init__(known)
        self.own = dict(own)
        for name in past:
            super().pop(name, None)
        self._past = dict(past)
        self._load = load

    def __missing__(self, name: str) -> Any:
        if name not in self._past:
            raise KeyError(name)
        self._fetch([name])
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._past

    def __iter__(self) -> Iterator[str]:
        self._fetch(list(self._past))
        return super().__iter__()

    def __len__(self) -> int:
        return super().__len__() + len(self._past)

    def __eq__(self, other: object) -> bool:
        return dict(self.items()) == other

    __hash__ = None

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of `name`, or `default`."""
        return self[name] if name in self else default  # noqa: SIM401 - this is get

    def keys(self) -> Any:
        """Return all names."""
        self._fetch(list(self._past))
        return super().keys()

    def items(self) -> Any:
        """Return all names and values."""
        self._fetch(list(self._past))
        return super().items()

    def values(self) -> Any:
        """Return all values."""
        self._fetch(list(self._past))
        return super().values()

    def copy(self) -> dict[str, Any]:
        """Return a plain dict of everything."""
        return dict(self.items())

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (self.copy(),)

    def _fetch(self, names: list[str]) -> None:
        if not names:
            return
        past = {name: self._past[name] for name in names}
        threads = sorted(threads_of(past.values()))
        snapshot = self._load([_outputs(thread) for thread in threads])
        outputs = {thread: unpack(snapshot[_outputs(thread)].get("outputs", b"\x80")) for thread in threads}
        for name, source in past.items():
            super().__setitem__(name, resolve(name, source, outputs, reduce))
            del self._past[name]


def stage_of(frame: Frame, context: dict[str, Any], workflow: Workflow) -> StageExecution:
    """Return the stage as its task's code sees it: its own copy, which the engine never reads back."""
    plan, run = frame.plan, frame.run
    states = run.tasks
    stage = StageExecution(
        id=plan.stage_id,
        ref_id=plan.ref,
        type=plan.type,
        name=plan.name,
        status=WorkflowStatus.RUNNING,
        context=context,
        outputs=dict(run.outputs),
        start_time=run.started_ms,
        requisite_stage_ref_ids=set(plan.requisites),
        mutex_key=plan.mutex_key,
        output_reducers=dict(plan.reducers),
        finalizer_names=list(plan.finalizers),
        jump_targets=list(plan.jump_targets),
    )
    stage.tasks = [
        TaskExecution(
            id=task_id,
            name=name,
            implementing_class=kind,
            status=WorkflowStatus[states[index].status] if index < len(states) else WorkflowStatus.NOT_STARTED,
        )
        for index, (task_id, name, kind) in enumerate(task_list(plan, run.planned))
    ]
    stage.set_execution_strong(workflow)
    return stage
