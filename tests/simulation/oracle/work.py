"""What the tasks of a run do, action by action, and jumps (1.9)."""

from collections.abc import Callable
from functools import partial
from typing import Any

from stabilize_celery.models.expressions import ConditionError, evaluate, evaluate_condition
from stabilize_celery.testing.conformance.steps import Step
from tests.simulation.oracle.enabling import enable, end_run
from tests.simulation.oracle.ends import complete, fail, failure_status, leave
from tests.simulation.oracle.instances import add_instances, count_instance, fail_instance, takes_more
from tests.simulation.oracle.parts import end_work
from tests.simulation.oracle.state import Case, Run, Work

__all__ = ["do_work"]


def do_work(case: Case, run: Run, work: Work) -> None:
    """Do actions up to the first that ends the task or waits; or let a task that has ended have its effect."""
    if work.effect is not None:
        effect, work.effect = work.effect, None
        effect()
        return
    task = case.stages[run.ref].tasks[work.task]
    key = (run.ref, work.task)
    if work.step == 0:
        case.counts["attempt", *key] += 1
        work.attempt = case.counts["attempt", *key]
    while work.step < len(task.steps):
        step = task.steps[work.step]
        work.step += 1
        try:
            is_over = _act(case, run, work, step, key)
        except ConditionError:
            is_over = True
            _end_task(case, run, work, "TERMINAL")
        if is_over:
            return
    _end_task(case, run, work, "SUCCEEDED")


def _act(case: Case, run: Run, work: Work, step: Step, key: Any) -> bool:  # noqa: PLR0912 - a case per action
    """Return whether the task has ended, or does nothing more for now."""
    match step.verb:
        case "succeed" | "skip":
            _end_task(case, run, work, "SUCCEEDED")
        case "fail":
            _end_task(case, run, work, "TERMINAL")
        case "fail_continue":
            _end_task(case, run, work, "FAILED_CONTINUE")
        case "retry":
            if work.attempt > step.argument:
                return False
            work.step = 0
        case "sleep":
            return bool(step.argument)
        case "wait_for":
            kept = next((one for one in case.kept[run.ref] if one[0] == step.argument), None)
            if kept is not None:
                case.kept[run.ref].remove(kept)
                work.names["signal"] = kept[1]
                return False
            work.waits = step.argument
        case "outputs":
            values = {name: _value(case, given, run, work) for name, given in step.argument.items()}
            work.outputs |= values
            if work.index is None:
                run.outputs |= values
            return False
        case "record":
            case.records[run.ref].append(repr(_value(case, step.argument, run, work)))
            return False
        case "jump_to":
            return _jumps(case, run, work, step, key)
        case "add_instance":
            if takes_more(case, run):
                names = {name: _value(case, given, run, work) for name, given in step.argument.items()}
                add_instances(case, run, 1, names)
            return False
        case "if":
            if not evaluate_condition(step.argument, _names(case, run, work)):
                work.step = step.otherwise
            return False
        case _:
            return False
    return True


def _names(case: Case, run: Run, work: Work) -> dict[str, Any]:
    seen: dict[str, Any] = {"attempt": work.attempt}
    config = case.stages[run.ref].mi_config
    if work.index is not None:
        seen["instance_index"] = work.index
    if config is not None and config.collection_from_context:
        items = case.names(run)[config.collection_from_context]
        seen["instance_item"] = items[work.index] if work.index is not None and work.index < len(items) else None
    written = work.outputs if work.index is not None else run.outputs
    return {**case.names(run, written), **seen, **work.names}


def _value(case: Case, given: Any, run: Run, work: Work) -> Any:
    is_expression = isinstance(given, dict) and set(given) == {"expr"}
    return evaluate(given["expr"], _names(case, run, work)) if is_expression else given


def _now_or_later(case: Case, work: Work, effect: Callable[[], None]) -> None:
    """What code has come to is not seen at once: until then other things happen."""
    if case.home.random.random() < case.home.promptness:
        effect()
    else:
        work.effect = effect


def _end_task(case: Case, run: Run, work: Work, status: str) -> None:
    _now_or_later(case, work, partial(_have_ended, case, run, work, status))


def _have_ended(case: Case, run: Run, work: Work, status: str) -> None:
    if status == "TERMINAL":
        _fail_work(case, run, work)
        return
    work.is_soft |= status == "FAILED_CONTINUE"
    work.task, work.step = work.task + 1, 0
    if work.task < len(case.stages[run.ref].tasks):
        return
    work.status = "FAILED_CONTINUE" if work.is_soft else "SUCCEEDED"
    if work.index is None:
        end_work(case, run, work.status)
    else:
        count_instance(case, run, work)


def _fail_work(case: Case, run: Run, work: Work) -> None:
    work.status = status = failure_status(case.stages[run.ref])
    if work.index is not None and status == "FAILED_CONTINUE":
        count_instance(case, run, work)
    elif status == "FAILED_CONTINUE":
        complete(case, run, status)
    elif work.index is not None:
        fail_instance(case, run, status)
    else:
        fail(case, run, status)


def _jumps(case: Case, run: Run, work: Work, step: Step, key: Any) -> bool:
    if "if" in step.argument and not evaluate_condition(step.argument["if"], _names(case, run, work)):
        return False
    case.counts["jump", *key, work.step] += 1
    if case.counts["jump", *key, work.step] > step.argument.get("times", 1 << 30):
        return False
    _now_or_later(case, work, partial(_jump, case, run, step.argument["target"]))
    return True


def _jump(case: Case, run: Run, target: str) -> None:
    stage = case.stages[run.ref]
    if stage.mi_config is not None:
        fail_instance(case, run, failure_status(stage))
        return
    if target not in stage.jump_targets:
        fail(case, run, "TERMINAL")
        return
    if case.counts["jumps"] >= case.workflow.max_jumps:
        fail(case, run, "TERMINAL")
        return
    case.counts["jumps"] += 1
    leave(case, run)
    end_run(run, "FAILED_CONTINUE" if run.bears or any(work.is_soft for work in run.works) else "SUCCEEDED")
    enable(case, target, run.past_out)
