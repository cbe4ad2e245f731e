"""What a simulated workflow waits for, in words, for the error that says that it does not end."""

from collections.abc import Iterator

from stabilize_celery.engine import places
from stabilize_celery.engine.moves import task_list
from stabilize_celery.engine.state import ENTRY, Run, TaskState
from stabilize_celery.engine.steps import Hash, workflow_slot
from stabilize_celery.errors import TaskNotFoundError
from stabilize_celery.runtime.reading import StageView, read_view
from stabilize_celery.store.contract import Store
from stabilize_celery.tasks.registry import TaskRegistry

__all__ = ["waits_of"]

_MOST = 20
"""How many lines a workflow gets: hundreds of instances wait for the same."""
_MANY = 20
"""So many runs of one stage are worth a word: a loop may not end."""


def waits_of(store: Store, registry: TaskRegistry, workflow_id: str) -> list[str]:
    """Return a line for each stage that has begun and not ended, those of inner workflows included."""
    lines = list(_of_workflow(store, registry, workflow_id))
    return lines if len(lines) <= _MOST else [*lines[:_MOST], f"and {len(lines) - _MOST} more"]


def _of_workflow(store: Store, registry: TaskRegistry, workflow_id: str) -> Iterator[str]:
    view = read_view(store, workflow_id)
    if view.record.status == "PAUSED":
        yield "it is paused: resume it"
    if view.record.status == "BUFFERED":
        yield "it waits until another workflow of its pipeline_config_id has ended"
    for ref, stage in view.stages.items():
        live = [run for _, run in stage.runs if not run.is_ended]
        for run in [run for run in live if run.instance is not None] or live:
            instance = "" if run.instance is None else f", instance {run.instance},"
            runs = sum(run.instance is None for _, run in stage.runs)
            again = f" for the {runs}th time," if runs > _MANY else ""
            yield f"stage {ref!r}{instance}{again} {_of_run(registry, stage, run)}"
            if run.child and run.sub is None:
                yield from (f"  {line}" for line in _of_workflow(store, registry, run.child))
    yield from _dead_letters(store, workflow_id)


def _of_run(registry: TaskRegistry, stage: StageView, run: Run) -> str:
    if run.child and run.sub is None:
        return f"waits for its inner workflow {run.child}:"
    if run.status == "SUSPENDED":
        return f"waits for signal {run.waits!r}" if run.waits else "waits for a signal of any name"
    if run.offer:
        return f"is offered in the choice {stage.plan.choice_group!r}: nobody has chosen"
    if run.held_for:
        return f"waits until stage {stage.plan.milestone!r} is {stage.plan.milestone_status}"
    if run.status == "BUFFERED":
        return f"waits for the mutex {stage.plan.mutex_key!r}"
    return _at_work(registry, stage, run)


def _at_work(registry: TaskRegistry, stage: StageView, run: Run) -> str:
    tasks = task_list(stage.plan, run.planned)
    if run.phase != "tasks" or run.task_index >= len(tasks):
        return f"is {run.status}"
    task = tasks[run.task_index]
    if not registry.has(task.type):
        return f"is at task {task.name!r}: {_unknown(registry, task.type)}; give it in tasks={{{task.type!r}: ...}}"
    state = run.tasks[run.task_index] if run.task_index < len(run.tasks) else TaskState()
    answered = f", which has answered RUNNING {state.polls} times" if state.polls else ""
    return f"is at task {task.name!r}{answered}"


def _unknown(registry: TaskRegistry, kind: str) -> str:
    try:
        registry.get(kind)
    except TaskNotFoundError as error:
        return str(error)
    return ""


def _dead_letters(store: Store, workflow_id: str) -> Iterator[str]:
    names = [entry.name for entry in store.dead_letters() if entry.workflow_id == workflow_id]
    keys = {name: Hash(places.ledger(name)) for name in names}
    entries = store.look(workflow_slot(workflow_id), list(keys.values()))
    for name, key in keys.items():
        last = ENTRY.decode(entries[key]).error.strip().rpartition("\n")[2]
        yield f"its message {name} was given up: {last}"
