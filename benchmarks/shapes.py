"""The workflows that are measured. Every stage has one task, which does next to nothing."""

from stabilize_celery import StageExecution, TaskExecution, Workflow
from stabilize_celery.models.patterns import instances

__all__ = ["chain", "fan_in", "fan_out", "many_instances", "one_after_another", "signalled"]


def chain(length: int, task: str) -> Workflow:
    """Return `length` stages, one after the other."""
    stages = [_stage(f"s{at}", [f"s{at - 1}"] if at else [], task) for at in range(length)]
    return Workflow.create("benchmarks", f"chain-{length}", stages)


def fan_out(width: int, task: str) -> Workflow:
    """Return a stage, `width` stages side by side, and the stage that joins them."""
    middle = [f"m{at}" for at in range(width)]
    stages = [_stage("first", [], task), *(_stage(ref_id, ["first"], task) for ref_id in middle)]
    return Workflow.create("benchmarks", f"fan-{width}", [*stages, _stage("last", middle, task)])


def fan_in(width: int, task: str) -> Workflow:
    """Return `width` stages side by side from the beginning, and the stage that joins them: what a chord is."""
    middle = [f"m{at}" for at in range(width)]
    stages = [*(_stage(ref_id, [], task) for ref_id in middle), _stage("last", middle, task)]
    return Workflow.create("benchmarks", f"fan-in-{width}", stages)


def one_after_another(task: str, ref_id: str, mutex_key: str) -> Workflow:
    """Return one stage that holds a mutex."""
    stage = _stage(ref_id, [], task)
    stage.mutex_key = mutex_key
    return Workflow.create("benchmarks", "mutex", [stage])


def signalled(waiting_task: str, task: str) -> Workflow:
    """Return a stage `ask` whose task waits for a signal, and the stage `after` it."""
    return Workflow.create("benchmarks", "signalled", [_stage("ask", [], waiting_task), _stage("after", ["ask"], task)])


def many_instances(number: int, task: str) -> Workflow:
    """Return a stage that lists `number` names, a stage with one instance for each, and one that sees their outputs."""
    stages = [_stage("first", [], "names"), _stage("each", ["first"], task), _stage("last", ["each"], task)]
    instances(stages[1], over="names")
    return Workflow.create("benchmarks", f"instances-{number}", stages, context={"size": number})


def _stage(ref_id: str, after: list[str], task: str) -> StageExecution:
    return StageExecution(
        ref_id=ref_id,
        type=task,
        name=ref_id,
        requisite_stage_ref_ids=set(after),
        tasks=[TaskExecution.create(task, task)],
    )
