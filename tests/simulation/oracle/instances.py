"""Multiple instances (1.11): how many there are, when their thread goes on, when their run ends."""

from typing import Any

from stabilize_celery.models.expressions import ConditionError, evaluate_condition
from tests.simulation.oracle.ends import fail, pass_on
from tests.simulation.oracle.parts import end_work
from tests.simulation.oracle.state import WELL, Case, Run, Work

__all__ = ["add_instances", "complete_early", "count_instance", "judge_instances", "number_of", "takes_more"]


def number_of(case: Case, run: Run) -> int | None:
    """Return how many instances a run begins with; None: that can't be told."""
    config = case.stages[run.ref].mi_config
    assert config is not None
    names = case.names(run)
    count: Any = config.count
    if config.count_from_context:
        count = names.get(config.count_from_context)
    elif config.collection_from_context:
        items = names.get(config.collection_from_context)
        count = len(items) if isinstance(items, list) else None
    return None if isinstance(count, bool) or not isinstance(count, int) or count < 0 else count


def takes_more(case: Case, run: Run) -> bool:
    """Whether instances may be added to a run now."""
    config = case.stages[run.ref].mi_config
    is_open = run.is_live and run.started and not run.passed_on and any(w.status == "RUNNING" for w in run.works)
    return bool(config and config.allow_dynamic and is_open)


def add_instances(case: Case, run: Run, count: int, names: dict[str, Any]) -> None:
    """Add instances; `names`: what they see besides."""
    case.instances[run.ref][0] += count
    run.works += [Work(len(run.works) + number, names=dict(names)) for number in range(count)]


def count_instance(case: Case, run: Run, work: Work) -> None:
    """Those that are done together are judged together, and one by one, in the order of their ends."""
    case.instances[run.ref][1] += 1
    run.unjudged.append(work)
    done = [one for one in run.works if one.status in WELL]
    run.outputs = {name: [one.outputs.get(name) for one in done] for one in done for name in one.outputs}


def judge_instances(case: Case, run: Run) -> None:
    """Look at how many are done: the thread goes on, the run ends."""
    run.unjudged.clear()
    config = case.stages[run.ref].mi_config
    assert config is not None
    done, total = sum(work.status in WELL for work in run.works), len(run.works)
    try:
        enough = bool(config.join_threshold and done >= config.join_threshold) or _condition_holds(case, run, done)
    except ConditionError:
        fail(case, run, "TERMINAL")
        return
    if enough and not run.passed_on and done < total:
        if config.cancel_remaining:
            end_work(case, run, _status(run))
            return
        pass_on(case, run)
    if done == total and run.is_live:
        end_work(case, run, _status(run))


def _condition_holds(case: Case, run: Run, done: int) -> bool:
    stage, total = case.stages[run.ref], len(run.works)
    condition = stage.mi_config.completion_condition if stage.mi_config is not None else None
    if condition is None or run.passed_on:
        return False
    holds = False
    for seen in range(run.judged + 1, done + 1):
        counts = {"completed": seen, "total": total, "active": total - seen}
        holds |= evaluate_condition(condition, {**case.names(run), **counts})
    run.judged = done
    return holds


def _status(run: Run) -> str:
    return "FAILED_CONTINUE" if any(w.is_soft or w.status == "FAILED_CONTINUE" for w in run.works) else "SUCCEEDED"


def complete_early(case: Case, run: Run) -> None:
    """End a run from outside: its open instances are withdrawn (WCP-27)."""
    end_work(case, run, "SUCCEEDED")
