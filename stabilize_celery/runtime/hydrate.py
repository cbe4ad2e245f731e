"""What a task's code sees: the stage with its visible context, attached to its workflow, loaded as it is looked at."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.handler import reduce
from stabilize_celery.engine.moves import (
    Frame,
    task_list,
)
from stabilize_celery.engine.past import Page, decode_page, newest_of, resolve, threads_of
from stabilize_celery.engine.steps import Fields, Query, Snapshot
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow

__all__ = ["VisibleContext", "context_queries", "stage_of", "visible_context"]

_CONTEXT = Fields(places.DEFINITION, ("context",))

Load = Callable[[list[Query]], Snapshot]


def context_queries(frame: Frame) -> list[Query]:
    """Return what to read with the claim so that the context is there when the body starts."""
    return [_CONTEXT, *map(_outputs, sorted(threads_of(_needed(frame).values())))]


def _needed(frame: Frame) -> Page:
    return {name: source for name, source in frame.run.past.near.items() if name not in frame.context}


def _outputs(thread: str) -> Fields:
    return Fields(places.run(thread), ("outputs",))


def visible_context(frame: Frame, snapshot: Snapshot, load: Load) -> dict[str, Any]:
    """Return the workflow's context, the outputs of the causal past, and the stage's own context, the later winning."""
    base = unpack(snapshot[_CONTEXT].get("context", b"\x80"))
    known = {**_values(_needed(frame), snapshot), **frame.context}
    return VisibleContext(base, known, frame.run.past.pages, load, frame.context)


def _values(sources: Page, snapshot: Snapshot) -> dict[str, Any]:
    queries = {thread: _outputs(thread) for thread in threads_of(sources.values())}
    outputs = {thread: unpack(snapshot[query].get("outputs", b"\x80")) for thread, query in queries.items()}
    return {name: resolve(name, source, outputs, reduce) for name, source in sources.items()}


class VisibleContext(dict[str, Any]):
    """A context whose older values are loaded when they are looked at, by name or all at once.

    Args:
        base: The workflow's context: what is seen where nothing else is.
        known: What has been read already and hides all else.
        pages: Where the rest of the causal past is written; read at the first look beyond `known`.
        load: Reads what is asked for.
        own: The stage's own part of it.

    """

    def __init__(
        self,
        base: Mapping[str, Any],
        known: Mapping[str, Any],
        pages: Sequence[str],
        load: Load,
        own: Mapping[str, Any],
    ) -> None:
        super().__init__({**base, **known} if not pages else known)
        self.own = dict(own)
        self._base = dict(base)
        self._pages = tuple(pages)
        self._past: Page = {}
        self._load = load

    def __missing__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        if name in self._past:
            self._fetch([name])
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name):
            return True
        self._turn_pages()
        return super().__contains__(name) or name in self._past

    def __iter__(self) -> Iterator[str]:
        self._fetch_all()
        return super().__iter__()

    def __len__(self) -> int:
        self._turn_pages()
        return super().__len__() + len(self._past)

    def __eq__(self, other: object) -> bool:
        return dict(self.items()) == other

    __hash__ = None

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of `name`, or `default`."""
        return self[name] if name in self else default  # noqa: SIM401 - this is get

    def keys(self) -> Any:
        """Return all names."""
        self._fetch_all()
        return super().keys()

    def items(self) -> Any:
        """Return all names and values."""
        self._fetch_all()
        return super().items()

    def values(self) -> Any:
        """Return all values."""
        self._fetch_all()
        return super().values()

    def copy(self) -> dict[str, Any]:
        """Return a plain dict of everything."""
        return dict(self.items())

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (self.copy(),)

    def _turn_pages(self) -> None:
        """Learn what there is on the pages, once, and let the workflow's context show where there is nothing."""
        if not self._pages:
            return
        query = Fields(places.PAGES, self._pages)
        stored = self._load([query])[query]
        old = newest_of(decode_page(stored[page]) for page in self._pages)
        self._past = {
            name: source for name, source in old.items() if not super(VisibleContext, self).__contains__(name)
        }
        for name in self._base.keys() - self._past.keys():
            self.setdefault(name, self._base[name])
        self._pages = ()

    def _fetch_all(self) -> None:
        self._turn_pages()
        self._fetch(list(self._past))

    def _fetch(self, names: list[str]) -> None:
        if not names:
            return
        sources = {name: self._past[name] for name in names}
        threads = sorted(threads_of(sources.values()))
        found = _values(sources, self._load(list(map(_outputs, threads))) if threads else Snapshot({}, 0))
        for name, value in found.items():
            super().__setitem__(name, value)
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
