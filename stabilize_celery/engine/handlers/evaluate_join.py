"""EvaluateJoin: judge the arrivals at a join (wcp 1.6; PROTOCOL 7.3).

Pure, level-triggered. The first try WATCHes its own entry too, so that firing settles the message; if arrivals keep
breaking that, the next try fires without the WATCH and leaves the entry for a later look: a storm cannot starve it.
"""

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules, guard, nothing, stage_fields
from stabilize_celery.engine.joins import fire, join_state, past_queries, ready
from stabilize_celery.engine.moves import count_moves
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.steps import Decision, Handling, Hash, Items, Read
from stabilize_celery.models.messages import EvaluateJoin

__all__ = ["handle"]


def handle(message: EvaluateJoin, rules: Rules, attempt: int) -> Handling:
    """Decide whether the join fires."""
    entry, ref_id = places.ledger(message.name), message.ref_id
    arrivals, consumed = Items(places.arrivals(ref_id)), Hash(places.join(ref_id))
    settles = attempt == 0
    snapshot = yield Read(
        (Hash(entry), Hash(places.WORKFLOW), arrivals, consumed, stage_fields(ref_id)),
        (places.WORKFLOW, consumed.key, *((entry,) if settles else ())),
    )
    if (early := guard(message, snapshot)) is not None:
        return early
    plan = decode_plan(snapshot[stage_fields(ref_id)][f"s:{ref_id}"])
    state = join_state(snapshot[arrivals], snapshot[consumed])
    uses = ready(plan, state)
    if uses is None:
        return Decision(note="not every branch has arrived") if settles else nothing("not every branch has arrived")
    pasts = yield Read(tuple(past_queries(uses)))
    decision = Decision(keeps_entry=not settles)
    moves = fire(decision, message.workflow_id, plan, state, uses, pasts)
    count_moves(decision, message.workflow_id, moves)
    if state.left - len(uses) >= plan.need:
        decision.keeps_entry = True
        decision.nudges.append(message)
    elif not settles:
        decision.defers[message.name] = snapshot.now_ms + rules.republish_ms
    return decision
