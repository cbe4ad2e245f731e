"""How a thread goes on: arrivals, offers, and ways out that close (wcp 1.4, 1.5; PROTOCOL 7.2).

Every function adds to a `Decision`; none reads.
"""

from collections.abc import Collection, Sequence
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.ids import thread_id
from stabilize_celery.engine.moves import Frame, Zone, bring_to_life, enable, set_run, tell_status
from stabilize_celery.engine.past import Past, extended, paged
from stabilize_celery.engine.plan import Edge, StagePlan
from stabilize_celery.engine.rooms import arrive_in
from stabilize_celery.engine.steps import (
    Append,
    Decision,
    Event,
    Increment,
    Owed,
    SetFields,
)
from stabilize_celery.models.messages import (
    CheckMilestone,
    ChooseStage,
    EvaluateJoin,
)

__all__ = ["arrive", "close_if_last", "close_ways_out", "keep_page", "offer_members", "past_of"]

ENOUGH_LOOKS = 8
"""So many looks at a join are published before one of them shows; a burst of arrivals asks for no more."""


def past_of(frame: Frame, outputs: dict[str, Any]) -> Past:
    """Return what those after this run see."""
    return extended(frame.run.past, outputs, frame.thread, frame.now_us, frame.plan.carries)


def keep_page(decision: Decision, past: Past, page: str) -> Past:
    """Return `past` with what is old in it moved to `page`, a name used once; as it is while there is little."""
    past, old = paged(past, page)
    if old:
        decision.change(SetFields(places.PAGES, {page: pack(old)}))
    return past


def arrive(decision: Decision, frame: Frame, edges: Sequence[Edge], past: Past) -> int:
    """Put the thread on the taken edges: enable direct targets, arrive at joins. Returns the change of `act`.

    Of threads that come at the same moment each is a microsecond newer than the one before.
    """
    moves = _offer_groups(decision, frame, edges, past)
    meets_join = False
    for edge in edges:
        if edge.group:
            continue
        for number in range(frame.plan.thread_split):
            if edge.is_direct:
                token = thread_id(frame.thread, edge.target, number)
                zone = Zone(edge.component, edge.target, edge.section)
                enable(decision, frame.workflow_id, edge.target, token, frame.now_us + number, past, zone=zone)
                moves += 1
            else:
                meets_join = True
                _arrive_at_join(decision, frame, edge)
    if meets_join:
        set_run(decision, frame.thread, past_out=past)
    return moves


def _offer_groups(decision: Decision, frame: Frame, edges: Sequence[Edge], past: Past) -> int:
    """Offer the members of each deferred choice group together, once per thread. Returns the change of `act`."""
    groups: dict[str, list[Edge]] = {}
    for edge in edges:
        if edge.group:
            groups.setdefault(edge.group, []).append(edge)
    moves = 0
    for group, members in groups.items():
        for number in range(frame.plan.thread_split):
            cause = thread_id(frame.thread, group, number)
            moves += offer_members(decision, frame.workflow_id, group, cause, members, frame.now_us + number, past)
    return moves


def offer_members(
    decision: Decision, workflow_id: str, group: str, cause: str, members: Sequence[Edge], now_us: int, past: Past
) -> int:
    """Offer the members of a deferred choice together (WCP-16). Returns the change of `act`: +1."""
    name = thread_id(cause, "offer", group)
    threads = {member.target: thread_id(name, member.target) for member in members}
    for member in members:
        thread = threads[member.target]
        values: dict[str, Any] = {"ref": member.target, "status": "BUFFERED", "created_us": now_us, "offer": name}
        zone = Zone(member.component, member.target, member.section)
        bring_to_life(decision, thread, zone.rooms, **values, **({"past": past} if past != Past() else {}))
        zone.count(decision, 1)
        decision.events.append(Event("stage.offered", member.target, {"thread": thread, "group": group}))
        if member.is_milestone:
            decision.owes.append(Owed(CheckMilestone(workflow_id=workflow_id, ref_id=member.target)))
        if member.choose_after_ms:
            timer = ChooseStage(workflow_id=workflow_id, ref_id=member.target, thread=thread)
            decision.owes.append(Owed(timer, now_us // 1000 + member.choose_after_ms))
    decision.change(SetFields(places.offers(group), {name: pack({"at": now_us, "members": threads})}))
    return 1


def _arrive_at_join(decision: Decision, frame: Frame, edge: Edge) -> None:
    decision.change(Append(places.arrivals(edge.target), f"{edge.position}:{frame.thread}"))
    arrive_in(decision, frame.workflow_id, edge.section, edge.target, 1)
    if edge.component:
        decision.change(Increment(places.component(edge.component), "live", 1))
    _owe_look(decision, frame.workflow_id, edge, arrived=1)


def _owe_look(decision: Decision, workflow_id: str, edge: Edge, *, arrived: int = 0, closed: int = 0) -> None:
    """Owe the evaluation of a join; publish it if this arrival, or this closed edge, may make a difference.

    In a loop what matters are threads elsewhere, too: it is always published.
    """
    hint = places.waiting(edge.target)
    counts = [Increment(hint, "n", arrived), Increment(hint, "x", closed)]
    if closed or edge.need < edge.width:
        # One that needs them all has not fired while it waits for one.
        counts.append(Increment(hint, "f", 0))
    at = [decision.change(count) for count in counts]

    def may_matter(results: Sequence[int | None]) -> bool:
        came, gone, *fired = (results[position] or 0 for position in at)
        surplus = came - edge.need if arrived else gone - edge.bears - 1
        begins = not any(fired) and 0 <= surplus < ENOUGH_LOOKS
        return begins or came + gone >= edge.width or not edge.is_alone

    message = EvaluateJoin(workflow_id=workflow_id, ref_id=edge.component or edge.target)
    decision.owes.append(Owed(message, publish=may_matter))


def close_ways_out(decision: Decision, workflow_id: str, plan: StagePlan, got_threads: Collection[str] = ()) -> None:
    """Tell once that nothing more comes out of a stage (PROTOCOL 7.2 close); `got_threads`: targets served just now."""
    decision.change(SetFields(places.shut(plan.component), {plan.ref: 1}))
    tell_status(decision, workflow_id, plan)
    for edge in (*plan.edges, *plan.jumps):
        if not edge.component or edge.component == plan.component:
            continue
        name = str(edge.position) if edge.position >= 0 else f"j:{plan.ref}"
        decision.change(SetFields(places.closed(edge.target), {name: 1}))
        decision.change(Increment(places.component(edge.component), "in", -1))
        if edge.target in got_threads and edge.is_direct and edge.is_alone:
            continue  # its own end finds all closed
        if edge.target in got_threads and edge.is_alone:
            continue  # its arrival owes the look already
        if edge.is_direct or edge.position < 0:
            decision.owes.append(Owed(EvaluateJoin(workflow_id=workflow_id, ref_id=edge.component)))
        else:
            _owe_look(decision, workflow_id, edge, closed=1)


def close_if_last(decision: Decision, frame: Frame, got_threads: Collection[str]) -> None:
    """Say that nothing more comes out of this stage, if this was its last thread ever; else owe a look."""
    plan = frame.plan
    if not plan.component:
        return
    is_last = not plan.members and frame.zone.get("in", 0) == 0 and frame.zone.get("live", 0) == 1
    if is_last:
        close_ways_out(decision, frame.workflow_id, plan, got_threads)
    else:
        look = EvaluateJoin(workflow_id=frame.workflow_id, ref_id=plan.component)
        is_urgent = bool(plan.members) or not got_threads
        decision.owes.append(Owed(look, publish=lambda _: is_urgent))
