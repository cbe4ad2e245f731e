"""When the outside does something: triggers, judged on the world as it is now."""

from stabilize_celery.testing.conformance.scenario import Scenario, Trigger
from stabilize_celery.testing.conformance.world import World

__all__ = ["holds", "is_only_time"]


def holds(trigger: Trigger, scenario: Scenario, world: World) -> bool:
    """Return whether a trigger holds at this moment."""
    if trigger.tick is not None:
        return world.ticks >= trigger.tick
    if trigger.event is not None:
        return trigger.event in world.delivered
    if trigger.ended is not None:
        ids = world.ids(trigger.ended)
        return bool(ids) and not any(map(world.is_live, ids))
    return _holds_of_stage(trigger, *scenario.resolve(trigger.stage or ""), world)


def _holds_of_stage(trigger: Trigger, workflow: str, ref_id: str, world: World) -> bool:
    match trigger.kind:
        case "started":
            return len(world.history.runs(world.ids(workflow), ref_id)) >= trigger.count
        case "completed":
            return world.history.completed(world.ids(workflow), ref_id) >= trigger.count
        case "instances_completed":
            instances = world.history.instances(world.ids(workflow), ref_id)
            return sum(span.ended_well for _, span in instances) >= trigger.count
        case "suspended":
            return sum(world.waiting(workflow, ref_id).values()) >= trigger.count
        case "offered":
            return bool(world.held(workflow, ref_id, is_offered=True))
        case "held":
            return bool(world.held(workflow, ref_id))
        case status:
            return world.has_status(workflow, ref_id, status.upper())


def is_only_time(triggers: list[Trigger], scenario: Scenario, world: World) -> bool:
    """Return whether nothing but the passing of time keeps these triggers from holding."""
    return all(trigger.tick is not None or holds(trigger, scenario, world) for trigger in triggers)
