"""The events of a scenario as outside events of the engine."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from stabilize_celery.engine import outside
from stabilize_celery.engine.steps import Handling
from stabilize_celery.testing.conformance.scenario import Effect

__all__ = ["NotInThisVersionError", "add_instance", "outside_event"]


_RENAMED = {"cancel_workflow": "cancel", "complete_mi": "complete_instances"}


class NotInThisVersionError(Exception):
    """The engine has no such outside event yet."""


def outside_event(effect: Effect, workflow_id: str, event_id: str, ref_id: str) -> Callable[[], Handling]:
    """Return what to ask the engine, afresh for each try.

    Raises:
        NotInThisVersionError: it cannot be asked.

    """
    name, more, arguments = _RENAMED.get(effect.verb, effect.verb), dict[str, Any](), tuple[Any, ...]((ref_id,))
    match effect.verb:
        case "signal":
            more["transient"] = not effect.persistent
            if effect.instance is not None:
                more["instance"] = effect.instance
            arguments = (ref_id, effect.signal, effect.data)
        case "cancel_workflow":
            arguments = ("the scenario cancels it", "conformance")
        case "cancel_region":
            arguments = (effect.cancel_region,)
        case "add_instances":
            arguments = (ref_id, effect.add_instances, effect.context)
    return _asking(name, workflow_id, event_id, arguments, more)


def add_instance(
    workflow_id: str, event_id: str, ref_id: str, run: int, context: Mapping[str, Any]
) -> Callable[[], Handling]:
    """Return the question for one more instance of a run. Raises NotInThisVersionError."""
    return _asking("add_instances", workflow_id, event_id, (ref_id, 1, dict(context)), {"run": run})


def _asking(
    name: str, workflow_id: str, event_id: str, arguments: tuple[Any, ...], more: Mapping[str, Any]
) -> Callable[[], Handling]:
    event = getattr(outside, name, None)
    if event is None:
        raise NotInThisVersionError(f"the engine has no outside event {name!r} in this version")
    unknown = set(more) - set(inspect.signature(event).parameters)
    if unknown:
        raise NotInThisVersionError(f"the engine's {name!r} takes no {', '.join(sorted(unknown))} in this version")
    handling: Callable[..., Handling] = event
    return lambda: handling(workflow_id, event_id, *arguments, **more)
