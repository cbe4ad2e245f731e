"""How a run ends and its thread goes on: splits, failures, the end of the workflow (wcp 1.3, 1.4, 1.10)."""

from collections.abc import Generator, Mapping
from functools import partial
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.clearing import clear_stages
from stabilize_celery.engine.endings import (
    end_run,
    finish_workflow,
)
from stabilize_celery.engine.handler import evaluated
from stabilize_celery.engine.ids import thread_id
from stabilize_celery.engine.moves import (
    GOES_ON,
    Frame,
    Zone,
    after_stages,
    after_tasks,
    count_moves,
    enable,
    owe_continuation,
    set_run,
)
from stabilize_celery.engine.parts import withdraw_parts
from stabilize_celery.engine.past import Past
from stabilize_celery.engine.plan import Edge, StagePlan, decode_workflow_plan
from stabilize_celery.engine.routes import (
    arrive,
    close_if_last,
    keep_page,
    past_of,
)
from stabilize_celery.engine.state import RUN, Entry
from stabilize_celery.engine.steps import Decision, Event, Fields, Hash, Increment, Read, SetFields, Snapshot
from stabilize_celery.engine.telling import whose
from stabilize_celery.models.evaluation import EvaluationError
from stabilize_celery.models.expressions import evaluate_condition, names_in
from stabilize_celery.models.stage import rules

__all__ = ["complete_run", "end_work", "failure_status", "pass_on"]

Reading = Generator[Read, Snapshot, Decision]


def failure_status(context: Mapping[str, Any]) -> str:
    """Return the status of a stage whose work failed: what the model's table says of its context."""
    continues, fails = context.get("continuePipelineOnFailure"), context.get("failPipeline", True)
    return rules.failure_status(bool(continues), bool(fails)).name


def complete_run(frame: Frame, status: str, reason: str = "", entry: Entry | None = None) -> Reading:
    """Decide the end of a run with `status`, and everything that follows from it."""
    edges: list[Edge] = []
    goes_on = status in GOES_ON and not frame.run.passed_on
    if goes_on and frame.plan.owner is None and not frame.run.jump:
        try:
            edges = yield from _taken(frame)
        except EvaluationError as error:
            status, reason, goes_on = "TERMINAL", str(error), False
    decision = Decision()
    moves = end_run(decision, frame, status, reason, entry)
    moves += yield from withdraw_parts(decision, frame)
    if goes_on:
        moves += yield from _go_on(decision, frame, status, edges)
    elif status not in GOES_ON:
        _fail(decision, frame, status, reason)
    elif frame.plan.owner is not None:  # its thread has gone on before, and its parent waits for its end
        owe_continuation(decision, frame.workflow_id, str(frame.plan.parent), frame.run.parent)
    count_moves(decision, frame.workflow_id, moves)
    return decision


def end_work(frame: Frame, status: str, reason: str, entry: Entry | None = None) -> Reading:
    """Decide what follows the work of a run that ended well: its after stages if it has any, else its end."""
    if not after_stages(frame.plan, frame.run.planned):
        return (yield from complete_run(frame, status, reason, entry))
    decision = Decision()
    set_run(decision, frame.thread, outcome=status, reason=reason)
    after_tasks(decision, frame, frame.run.planned)
    return decision


def _taken(frame: Frame) -> Generator[Read, Snapshot, list[Edge]]:
    plan = frame.plan
    if plan.split == "AND" or not plan.edges:
        return plan.edges
    conditions = dict(plan.conditions)
    names = set().union(*(names_in(expression) for expression in conditions.values()))
    holds = partial(_exclusive if plan.split == "XOR" else _inclusive, plan, conditions)
    targets = yield from evaluated(frame, names, frame.run.outputs, holds)
    if not targets and plan.default_target is None:
        raise EvaluationError(f"no branch of {plan.ref!r} is taken: no condition holds and there is no split_default")
    targets = targets or {str(plan.default_target)}
    return [edge for edge in plan.edges if edge.target in targets]


def _exclusive(_plan: StagePlan, conditions: Mapping[str, str], values: Mapping[str, Any]) -> set[str]:
    for target, expression in conditions.items():
        if evaluate_condition(expression, values):
            return {target}
    return set()


def _inclusive(plan: StagePlan, conditions: Mapping[str, str], values: Mapping[str, Any]) -> set[str]:
    default = plan.default_target
    always = {edge.target for edge in plan.edges if edge.target not in conditions and edge.target != default}
    return always | {target for target, expression in conditions.items() if evaluate_condition(expression, values)}


def pass_on(decision: Decision, frame: Frame) -> Generator[Read, Snapshot, int]:
    """Let a thread go on though its run is still at work. Returns the change of `act`.

    Raises:
        EvaluationError: no branch can be chosen.

    """
    edges = yield from _taken(frame)
    return (yield from _go_on(decision, frame, "SUCCEEDED", edges))


def _go_on(decision: Decision, frame: Frame, status: str, edges: list[Edge]) -> Generator[Read, Snapshot, int]:
    plan, run = frame.plan, frame.run
    past = keep_page(decision, past_of(frame, run.outputs), f"end:{frame.thread}")
    if run.jump:
        _jump(decision, frame, past)
        return 1
    if plan.terminates_workflow and status != "SKIPPED":
        put_off = Hash(places.FAILURES)
        failures = (yield Read((put_off,), (places.FAILURES,)))[put_off]
        end = "TERMINAL" if failures else "SUCCEEDED"
        reason = next((text.decode() for text in failures.values()), f"ended by stage {plan.ref!r}")
        finish_workflow(decision, frame.workflow_id, frame.workflow, end, frame.now_ms, reason=reason)
        return 0
    moves = yield from _clear_regions(decision, frame, status)
    if plan.owner is not None:
        set_run(decision, frame.thread, past_out=past)
        owe_continuation(decision, frame.workflow_id, str(plan.parent), run.parent)
        return moves
    moves += arrive(decision, frame, edges, past)
    close_if_last(decision, frame, {edge.target for edge in edges})
    return moves


def _clear_regions(decision: Decision, frame: Frame, status: str) -> Generator[Read, Snapshot, int]:
    """Clear the regions that a stage clears when it completes well (WCP-25), before its own thread goes on.

    That of a before or after stage is its parent's.
    """
    if not frame.plan.cancels_regions or status == "SKIPPED":
        return 0
    meta = Fields(places.DEFINITION, ("meta",))
    regions = decode_workflow_plan((yield Read((meta,)))[meta]["meta"]).regions
    refs = [ref for name in frame.plan.cancels_regions for ref in regions.get(name, [])]
    told = f"stage {frame.plan.ref!r} cleared its region"
    own = yield from _own_runs(frame)
    cleared = yield from clear_stages(decision, frame.workflow_id, frame.workflow, refs, told, spare=own)
    return cleared.moves


def _own_runs(frame: Frame) -> Generator[Read, Snapshot, list[str]]:
    """Return the run and those that it is a part of."""
    own, parent = [frame.thread], frame.run.parent
    while parent:
        own.append(parent)
        query = Fields(places.run(parent), ("parent",))
        parent = RUN.decode((yield Read((query,)))[query]).parent
    return own


def _jump(decision: Decision, frame: Frame, past: Past) -> None:
    target = frame.run.jump
    decision.change(Increment(places.JUMPS, "n", 1))
    token = thread_id(frame.thread, "jump", target)
    edge = next((jump for jump in frame.plan.jumps if jump.target == target), None)
    zone = Zone(edge.component if edge else "", target, edge.section if edge else "")
    enable(decision, frame.workflow_id, target, token, frame.now_us, past, zone=zone, context=frame.run.jump_context)
    close_if_last(decision, frame, ())  # past its join: the target has no arrival that would make it look
    decision.events.append(Event("stage.jumped", frame.plan.ref, {"target": target, **whose(frame.thread)}))


def _fail(decision: Decision, frame: Frame, status: str, reason: str) -> None:
    plan, context = frame.plan, frame.context
    told = f"stage {plan.ref!r}: {reason}" if reason else f"stage {plan.ref!r} failed"
    if plan.owner is not None:
        owe_continuation(decision, frame.workflow_id, str(plan.parent), frame.run.parent)
    elif status == "TERMINAL" and not context.get("allowSiblingStagesToContinueOnFailure"):
        finish_workflow(decision, frame.workflow_id, frame.workflow, "TERMINAL", frame.now_ms, reason=told)
    elif status == "TERMINAL" or (status == "STOPPED" and context.get("completeOtherBranchesThenFail")):
        decision.change(SetFields(places.FAILURES, {plan.ref: told}))
    if plan.owner is None and not frame.run.passed_on:
        close_if_last(decision, frame, ())
