"""SettleWorkflow: judge a workflow in which no thread moves: fire what can fire, else end it.

Source: wcp 1.6, 1.10; PROTOCOL 7.4. Pure, level-triggered, and the second line behind the joins' own messages.
Looks at every join, once per standstill.
"""

from collections.abc import Generator

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.handler import Rules, guard, opening, stage_fields, workflow_of
from stabilize_celery.engine.joins import JoinState, fire, join_state, past_queries, ready
from stabilize_celery.engine.moves import count_moves, finish_workflow
from stabilize_celery.engine.plan import StagePlan, decode_plan
from stabilize_celery.engine.steps import Decision, Fields, Handling, Hash, Items, Read, Snapshot
from stabilize_celery.models.messages import SettleWorkflow

__all__ = ["handle"]

_JOINS = Fields(places.DEFINITION, ("joins",))
_COUNTERS = Hash(places.COUNTERS)
_FAILURES = Hash(places.FAILURES)


def handle(message: SettleWorkflow, _rules: Rules, _attempt: int) -> Handling:
    """Decide what a standstill means."""
    snapshot = yield opening(message, _COUNTERS, _JOINS, _FAILURES, watch=[places.COUNTERS, places.FAILURES])
    if (early := guard(message, snapshot)) is not None:
        return early
    if int(snapshot[_COUNTERS].get("act", b"0")) > 0:
        return Decision(note="threads still move")
    able = yield from _first_that_can_fire(unpack(snapshot[_JOINS].get("joins", b"\x90")))
    decision = Decision()
    if able is not None:
        plan, state = able
        uses = ready(plan, state) or []
        pasts = yield Read(tuple(past_queries(uses)))
        count_moves(decision, message.workflow_id, fire(decision, message.workflow_id, plan, state, uses, pasts))
        decision.forgets.clear()
        decision.keeps_entry = True
        decision.nudges.append(message)
        return decision
    _end(decision, message, snapshot)
    return decision


def _first_that_can_fire(joins: list[str]) -> Generator[Read, Snapshot, tuple[StagePlan, JoinState] | None]:
    queries = [(Items(places.arrivals(ref)), Hash(places.join(ref)), stage_fields(ref)) for ref in joins]
    watch = [key for ref in joins for key in (places.arrivals(ref), places.join(ref))]
    snapshot = yield Read(tuple(query for group in queries for query in group), tuple(watch))
    for ref, (arrivals, consumed, fields) in zip(joins, queries, strict=True):
        plan = decode_plan(snapshot[fields][f"s:{ref}"])
        state = join_state(snapshot[arrivals], snapshot[consumed])
        if ready(plan, state) is not None:
            return plan, state
    return None


def _end(decision: Decision, message: SettleWorkflow, snapshot: Snapshot) -> None:
    failures: dict[str, bytes] = snapshot[_FAILURES]
    reason = next((text.decode() for text in failures.values()), "")
    finish_workflow(
        decision,
        message.workflow_id,
        workflow_of(snapshot),
        "TERMINAL" if failures else "SUCCEEDED",
        snapshot.now_ms,
        reason=reason,
        is_empty=True,
    )
