"""EvaluateJoin: judge a component: its joins' arrivals, and what can still come (wcp 1.5, 1.6; PROTOCOL 7.3).

Pure, level-triggered. Without jumps a component is one stage, and this costs as much as its join has edges. The first
try WATCHes its own entry too, so that it settles the message. If arrivals break that, the next tries act without it: a
storm cannot starve a join. What then acts owes another look; what finds nothing to do looks again, and settles.
"""

from collections.abc import Generator, Mapping

from stabilize_celery.engine import places
from stabilize_celery.engine.clearing import fire_cancelling
from stabilize_celery.engine.handler import Rules, guard, nothing, stage_fields, workflow_of
from stabilize_celery.engine.judging import (
    apply_firings,
    close_unreachable,
    judge_all,
    look_along,
    place_queries,
    read_places,
)
from stabilize_celery.engine.moves import (
    count_moves,
    owe_settle,
)
from stabilize_celery.engine.plan import StagePlan, decode_plan
from stabilize_celery.engine.region import Region
from stabilize_celery.engine.steps import Decision, Handling, Hash, Increment, Owed, Read, Snapshot
from stabilize_celery.models.messages import EvaluateJoin

__all__ = ["handle"]


def handle(message: EvaluateJoin, _rules: Rules, attempt: int) -> Handling:
    """Decide what the component's joins do, and which ways out of it are closed."""
    if attempt:
        decision = yield from _judge(message, settles=False)
        if not (decision.is_empty and decision.keeps_entry):
            return decision
    return (yield from _judge(message, settles=True))


def _judge(message: EvaluateJoin, *, settles: bool) -> Handling:
    """Look once. Without `settles` the message stays owed: others may owe it anew at any moment."""
    entry, name = places.ledger(message.name), message.ref_id
    watch = (places.WORKFLOW, places.join(name), places.shut(name), *((entry,) if settles else ()))
    counters, shut = Hash(places.component(name)), Hash(places.shut(name))
    queries = (Hash(entry), Hash(places.WORKFLOW), counters, shut, *place_queries(name))
    snapshot = yield Read(queries, watch)
    if (early := guard(message, snapshot)) is not None:
        return early
    plan = decode_plan(snapshot[stage_fields(name)][f"s:{name}"])
    region = yield from _region(plan, snapshot, snapshot[counters])
    if any(place.may_leave_out for place in region.places.values()):
        yield from _look_upstream(plan, region)
    again = Owed(message)
    cancelling = Decision(keeps_entry=True)
    cleared = yield from fire_cancelling(cancelling, message.workflow_id, workflow_of(snapshot), region)
    if cleared is not None:
        cancelling.owes = [owed for owed in cancelling.owes if owed.message.name != message.name] + [again]
        count_moves(cancelling, message.workflow_id, cleared)
        return cancelling
    firings = judge_all(region)
    decision = Decision(keeps_entry=not settles)
    moves = yield from apply_firings(decision, message.workflow_id, region, firings)
    plans = [place.plan for place in region.places.values()]
    close_unreachable(decision, message.workflow_id, region, snapshot[shut], plans)
    if not settles:
        if decision.is_empty:
            return nothing("nothing can be said yet")
        decision.owes.append(again)
    if moves:
        count_moves(decision, message.workflow_id, moves)
    else:
        owe_settle(decision, message.workflow_id, decision.change(Increment(places.COUNTERS, "act", 0)))
    return decision


def _region(plan: StagePlan, snapshot: Snapshot, counters: Mapping[str, bytes]) -> Generator[Read, Snapshot, Region]:
    """Return the component: one stage as read already, or a loop, read whole and WATCHed with its counters."""
    if not plan.members:
        return Region(read_places(snapshot, [plan.ref], counters))
    moving = Hash(places.component(plan.component or plan.ref))
    queries = [query for ref in plan.members for query in place_queries(ref)]
    watch = [places.join(ref) for ref in plan.members]
    loop = yield Read((moving, *queries), (moving.key, *watch))
    return Region(read_places(loop, plan.members, loop[moving]))


def _look_upstream(plan: StagePlan, region: Region) -> Generator[Read, Snapshot, None]:
    """Close the ways into a loop over which nothing can come any more, told of or not.

    A cycle that fires does without its dead edges, as the run that it fires may revive them (wcp 1.5, 1.6). If word of
    what has died upstream is still on its way, that run's thread would be absorbed as part of the cycle.

    What moves in a loop upstream, or enters this one, changes what is WATCHed.
    """
    ways = list(region.ways_in()) if plan.leads_in else []
    if not ways:
        return
    loops = [places.component(name) for name, members in plan.leads_in if len(members) > 1]
    found = Region((yield from look_along(plan.leads_in, loops))).reachable()
    for place, way, source in ways:
        if source not in found:
            place.closed |= {way}
