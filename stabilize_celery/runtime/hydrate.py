"""What a task's code sees: the stage with its visible context, attached to its workflow, loaded as it is looked at."""

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from types import MappingProxyType
from typing import Any, Self

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.moves import (
    Frame,
    task_list,
)
from stabilize_celery.engine.past import Page, Source, decode_page, newest_of, resolve, threads_of
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
    at_once, _ = _needed(frame)
    return [_CONTEXT, *map(_outputs, sorted(threads_of(at_once.values())))]


def _needed(frame: Frame) -> tuple[Page, Page]:
    """Return what is read with the claim, and what only when it is looked at.

    The latter is what stands beside the list that the instances are made of: each would read the items of all others.
    """
    near = {name: source for name, source in frame.run.past.near.items() if name not in frame.context}
    config = frame.plan.instances
    if frame.run.instance is None or config is None or config.collection_from not in near:
        return near, {}
    listing = threads_of([near[config.collection_from]])
    later = {name: source for name, source in near.items() if not listing.isdisjoint(threads_of([source]))}
    return {name: source for name, source in near.items() if name not in later}, later


def _outputs(thread: str) -> Fields:
    return Fields(places.run(thread), ("outputs",))


def visible_context(frame: Frame, snapshot: Snapshot, load: Load) -> dict[str, Any]:
    """Return the workflow's context, the outputs of the causal past, and the stage's own context, the later winning."""
    base = unpack(snapshot[_CONTEXT].get("context", b"\x80"))
    at_once, later = _needed(frame)
    known = {**_values(at_once, snapshot), **frame.context, **_signal(frame)}
    return VisibleContext(base, known, frame.run.past.pages, load, frame.context, later)


def _signal(frame: Frame) -> dict[str, Any]:
    """Return what woke the task, under the names that programs written for `stabilize` read."""
    run = frame.run
    return {} if run.signal is None else {"_signal_name": run.signal, "_signal_data": run.payload or {}}


def _values(sources: Page, snapshot: Snapshot) -> dict[str, Any]:
    queries = {thread: _outputs(thread) for thread in threads_of(sources.values())}
    outputs = {thread: unpack(snapshot[query].get("outputs", b"\x80")) for thread, query in queries.items()}
    return {name: resolve(name, source, outputs) for name, source in sources.items()}


class VisibleContext(dict[str, Any]):
    """A context whose older values are loaded when they are looked at, by name or all at once.

    It is a dict to whoever checks, and behaves as one that holds everything.

    Args:
        base: The workflow's context: what is seen where nothing else is.
        known: What has been read already and hides all else.
        pages: Where the rest of the causal past is written; read at the first look beyond `known`.
        load: Reads what is asked for.
        own: The stage's own part of it.
        later: What has been written where, is newer than the pages, and has not been read yet.

    """

    def __init__(
        self,
        base: Mapping[str, Any],
        known: Mapping[str, Any],
        pages: Sequence[str],
        load: Load,
        own: Mapping[str, Any],
        later: Mapping[str, Source] = MappingProxyType({}),
    ) -> None:
        self._past: Page = dict(later)
        self._base = {name: value for name, value in base.items() if name not in self._past}
        super().__init__({**self._base, **known} if not pages else known)
        self.own = dict(own)
        self._pages = tuple(pages)
        self._load = load

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        if name in self._past:
            self._fetch([name])
        return super().__getitem__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._turn_pages()
        self._past.pop(name, None)
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        self._turn_pages()
        if self._past.pop(name, None) is None:
            super().__delitem__(name)

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name) or name in self._past:
            return True
        self._turn_pages()
        return super().__contains__(name) or name in self._past

    def __iter__(self) -> Iterator[str]:
        self._turn_pages()
        self._fetch(list(self._past))
        return super().__iter__()

    def __len__(self) -> int:
        self._turn_pages()
        return super().__len__() + len(self._past)

    def __eq__(self, other: object) -> bool:
        return self.copy() == other

    __hash__ = None

    def __repr__(self) -> str:
        return repr(self.copy())

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __ior__(self, other: Any) -> Self:  # type: ignore[override]
        self.update(other)
        return self

    # A dict's own methods see only what has been read.
    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of `name`, or `default`."""
        return self[name] if name in self else default  # noqa: SIM401 - this is get

    def keys(self) -> Any:
        """Return all names."""
        return KeysView(self)

    def items(self) -> Any:
        """Return all names and values."""
        return ItemsView(self)

    def values(self) -> Any:
        """Return all values."""
        return ValuesView(self)

    def copy(self) -> dict[str, Any]:
        """Return a plain dict of everything."""
        return {name: self[name] for name in self}

    def pop(self, name: str, *default: Any) -> Any:
        """Remove `name` from this copy and return its value, or `default`.

        Raises:
            KeyError: it is not there, and no default is given.

        """
        self.get(name)
        return super().pop(name, *default)

    def popitem(self) -> tuple[str, Any]:
        """Remove the last name from this copy and return it with its value.

        Raises:
            KeyError: nothing is left.

        """
        len(list(self))
        return super().popitem()

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return the value of `name`, after setting it to `default` where there is none."""
        if name not in self:
            self[name] = default
        return self[name]

    def update(self, *others: Any, **more: Any) -> None:
        """Set many names in this copy."""
        for name, value in dict(*others, **more).items():
            self[name] = value

    def clear(self) -> None:
        """Remove all names from this copy."""
        self._past, self._pages, self._base = {}, (), {}
        super().clear()

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (self.copy(),)

    def _turn_pages(self) -> None:
        """Learn what there is on the pages, once, and let the workflow's context show where there is nothing."""
        if not self._pages:
            return
        query = Fields(places.PAGES, self._pages)
        stored = self._load([query])[query]
        old = newest_of(decode_page(stored[page]) for page in self._pages)
        here = super().keys()
        self._past = {n: source for n, source in old.items() if n not in here} | self._past
        for name in self._base.keys() - self._past.keys() - here:
            super().__setitem__(name, self._base[name])
        self._pages = ()

    def _fetch(self, names: list[str]) -> None:
        if not names:
            return
        sources = {name: self._past.pop(name) for name in names}
        threads = sorted(threads_of(sources.values()))
        found = _values(sources, self._load(list(map(_outputs, threads))) if threads else Snapshot({}, 0))
        for name, value in found.items():
            super().__setitem__(name, value)


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
            id=task.id,
            name=task.name,
            implementing_class=task.type,
            status=WorkflowStatus[states[index].status] if index < len(states) else WorkflowStatus.NOT_STARTED,
        )
        for index, task in enumerate(task_list(plan, run.planned))
    ]
    stage.set_execution_strong(workflow)
    return stage
