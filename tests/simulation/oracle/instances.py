"""Multiple instances (1.11): how many there are, when their thread goes on, when their run ends."""

from typing import Any

from stabilize_celery.models.expressions import ConditionError, evaluate_condition
from tests.simulation.oracle.ends import fail, pass_on
from tests.simulation.oracle.parts import end_work
from tests.simulation.oracle.state import Case, Run, Work

__all__ = [
    "add_instances", "complete_early", "count_instance", "fail_instance", "judge_instances", "number_of", "takes_more",
]  # fmt: skip


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
    return bool(config and config.allow_dynamic and is_open) and not _has_enough(case, run)


def _has_enough(case: Case, run: Run) -> bool:
    """Whether its thread is as good as gone, with those that are done or with an error."""
    try:
        return _enough(case, run) > 0
    except ConditionError:
        return True


def add_instances(case: Case, run: Run, count: int, names: dict[str, Any]) -> None:
    """Add instances; `names`: what they see besides. Of what was done before there were as many as there were then."""
    case.instances[run.ref][0] += count
    run.judged = len(run.done)
    run.works += [Work(len(run.works) + number, names=dict(names)) for number in range(count)]


def count_instance(case: Case, run: Run, work: Work) -> None:
    """Those that are done together are judged together, and one by one, in the order of their ends."""
    case.instances[run.ref][1] += 1
    run.done.append(work)
    run.is_unjudged = True
    if not run.passed_on or _is_loose(case, run):
        run.outputs = _collected(run.done)


def _is_loose(case: Case, run: Run) -> bool:
    config = case.stages[run.ref].mi_config
    return config is not None and not config.sync_on_complete


def _collected(works: list[Work]) -> dict[str, Any]:
    done = sorted(works, key=lambda work: work.index or 0)
    return {name: [one.outputs.get(name) for one in done] for one in done for name in one.outputs}


def fail_instance(case: Case, run: Run, status: str) -> None:
    """What was done before comes first: the thread may have gone on by then, or the run have ended."""
    if run.is_unjudged:
        judge_instances(case, run)
    if run.is_live and run.phase == "work":
        fail(case, run, status)


def judge_instances(case: Case, run: Run) -> None:
    """Look at how many are done: the thread goes on, the run ends."""
    run.is_unjudged = False
    try:
        enough = _enough(case, run)
    except ConditionError:
        fail(case, run, "TERMINAL")
        return
    run.judged = len(run.done)
    if 0 < enough < len(run.works):
        first = run.done[:enough]
        run.outputs = _collected(first)
        config = case.stages[run.ref].mi_config
        if config is not None and config.cancel_remaining:
            end_work(case, run, _status(first))
            return
        pass_on(case, run)
    if len(run.done) == len(run.works) and run.is_live:
        end_work(case, run, _status(run.done))


def _enough(case: Case, run: Run) -> int:
    """Return with how many that are done the thread goes on; 0: it has, or there are not enough."""
    config, total = case.stages[run.ref].mi_config, len(run.works)
    if config is None or run.passed_on:
        return 0
    for seen in range(run.judged + 1, len(run.done) + 1):
        counts = {"completed": seen, "total": total, "active": total - seen}
        if config.join_threshold and seen >= config.join_threshold:
            return seen
        condition = config.completion_condition
        if condition is not None and evaluate_condition(condition, {**case.names(run), **counts}):
            return seen
    return 0


def _status(done: list[Work]) -> str:
    return "FAILED_CONTINUE" if any(work.status == "FAILED_CONTINUE" for work in done) else "SUCCEEDED"


def complete_early(case: Case, run: Run) -> None:
    """End a run from outside: its open instances are withdrawn (WCP-27)."""
    end_work(case, run, "SUCCEEDED")
