"""Deferred choice: one of the members offered together is chosen, the others are withdrawn (WCP-16; PROTOCOL 9).

An offer counts once in `act`, however many members it has. The choice closes it in the EXEC that decides.
"""

from collections.abc import Generator

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack, unpack
from stabilize_celery.engine.endings import (
    end_run,
)
from stabilize_celery.engine.handler import stage_fields, zone_fields
from stabilize_celery.engine.moves import (
    Frame,
    set_run,
)
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.routes import (
    close_if_last,
)
from stabilize_celery.engine.state import RUN, WorkflowRecord
from stabilize_celery.engine.steps import Decision, DeleteFields, Event, Hash, Owed, Read, SetFields, Snapshot
from stabilize_celery.engine.telling import whose
from stabilize_celery.models.messages import StartStage

__all__ = ["choose_member", "close_offer", "leave_offer"]


def choose_member(
    decision: Decision, workflow_id: str, record: WorkflowRecord, group: str, ref: str, name: str = ""
) -> Generator[Read, Snapshot, bool]:
    """Choose `ref` in the oldest open offer of a group, or in the one named; False: it is offered nowhere."""
    thread = yield from close_offer(decision, workflow_id, record, group, ref, name)
    if thread is None:
        return False
    set_run(decision, thread, status="NOT_STARTED", offer="")
    decision.owes.append(Owed(StartStage(workflow_id=workflow_id, ref_id=ref, thread=thread)))
    decision.events.append(Event("stage.chosen", ref, {"group": group, **whose(thread)}))
    return True


def close_offer(
    decision: Decision, workflow_id: str, record: WorkflowRecord, group: str, ref: str, name: str = ""
) -> Generator[Read, Snapshot, str | None]:
    """Withdraw an offer with all its members but `ref`; return the thread of `ref`, whose fate is the caller's."""
    key = Hash(places.offers(group))
    found = _oldest((yield Read((key,), (key.key,)))[key], ref, name)
    if found is None:
        return None
    offer, members = found
    keys = {member: Hash(places.run(thread)) for member, thread in members.items()}
    fields = [query for member in members for query in (stage_fields(member), zone_fields(member))]
    snapshot = yield Read((*keys.values(), *fields), tuple(query.key for query in keys.values()))
    for member, thread in members.items():
        if member == ref:
            continue
        run = RUN.decode(snapshot[keys[member]])
        plan = decode_plan(snapshot[stage_fields(member)][f"s:{member}"])
        zone = {name_: int(count) for name_, count in snapshot[zone_fields(member)].items()}
        frame = Frame(workflow_id, snapshot.now_us, record, plan, thread, run, {}, zone)
        end_run(decision, frame, "SKIPPED", f"{ref!r} was chosen")
        close_if_last(decision, frame, ())
    decision.change(DeleteFields(key.key, (offer,)))
    decision.forgets.append(f"Choose:{members[ref]}")
    return str(members[ref])


def _oldest(offers: dict[str, bytes], ref: str, name: str) -> tuple[str, dict[str, str]] | None:
    found = [(label, unpack(data)) for label, data in offers.items() if name in ("", label)]
    with_ref = [(data["at"], label, data["members"]) for label, data in found if ref in data["members"]]
    if not with_ref:
        return None
    _, label, members = min(with_ref, key=lambda item: item[:2])
    return label, members


def leave_offer(decision: Decision, frame: Frame) -> Generator[Read, Snapshot, int]:
    """Take one member out of its offer. Returns the change of `act`: -1 if it was the last."""
    key = Hash(places.offers(str(frame.plan.choice_group)))
    data = (yield Read((key,), (key.key,)))[key].get(frame.run.offer)
    for change in decision.changes:  # other members may have left in this very decision
        if isinstance(change, SetFields) and change.key == key.key and frame.run.offer in change.fields:
            data = bytes(change.fields[frame.run.offer])  # type: ignore[arg-type]
    if data is None:
        return 0
    held = unpack(data)
    held["members"].pop(frame.plan.ref, None)
    if held["members"]:
        decision.change(SetFields(key.key, {frame.run.offer: pack(held)}))
        return 0
    decision.change(DeleteFields(key.key, (frame.run.offer,)))
    return -1
