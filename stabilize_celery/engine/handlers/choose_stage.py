"""ChooseStage: an offered stage chooses itself when its time has come, if nobody has chosen before (WCP-16). Pure."""

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules, frame_of, guard, opening, stage_fields
from stabilize_celery.engine.offers import choose_member
from stabilize_celery.engine.steps import Decision, Handling, Hash
from stabilize_celery.models.messages import ChooseStage

__all__ = ["handle"]


def handle(message: ChooseStage, _rules: Rules, _attempt: int) -> Handling:
    """Decide whether the offer is still open."""
    run_key = places.run(message.thread)
    snapshot = yield opening(message, Hash(run_key), stage_fields(message.ref_id), watch=[run_key])
    if (early := guard(message, snapshot)) is not None:
        return early
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if not frame.run.offer or frame.plan.choice_group is None:
        return Decision(note="the choice was made before")
    decision = Decision()
    group, name = frame.plan.choice_group, frame.run.offer
    yield from choose_member(decision, message.workflow_id, frame.workflow, group, message.ref_id, name)
    return decision
