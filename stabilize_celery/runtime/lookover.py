"""Many read-only inspections side by side: each of their steps is one round trip for all of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stabilize_celery.engine.steps import Handling, Query, Read, Slot, Snapshot, workflow_slot
from stabilize_celery.errors import UnreachableError
from stabilize_celery.runtime.findings import Finding
from stabilize_celery.runtime.inspection import Inspected
from stabilize_celery.store.contract import Store

__all__ = ["LookedOver", "Subject", "look_over"]


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to inspect in a workflow's slot; `name` tells it from others of the same workflow."""

    workflow_id: str
    name: str = ""


@dataclass(slots=True)
class LookedOver:
    """What the inspections say; nothing of it is sure, since nothing was WATCHed."""

    found: dict[Subject, Inspected] = field(default_factory=dict)
    failures: list[Finding] = field(default_factory=list)
    """What could not be read."""

    @property
    def suspects(self) -> Iterator[Subject]:
        """Return what should be inspected alone."""
        return (subject for subject, inspected in self.found.items() if inspected.findings)


def look_over(store: Store, inspections: Mapping[Subject, Handling]) -> LookedOver:
    """Run inspections in lock-step. One that can't be read, or fails, is a finding and does not stop the others.

    Raises:
        UnreachableError: the state server is away.

    """
    seen = LookedOver()
    answers: dict[Subject, Any] = dict.fromkeys(inspections)
    while answers:
        asked: dict[Subject, Read] = {}
        for subject, answer in answers.items():
            try:
                step = inspections[subject].send(answer)
            except StopIteration as stop:
                seen.found[subject] = stop.value.call
            except Exception as error:  # noqa: BLE001 - corrupt state may fail anywhere
                seen.failures.append(_unreadable(subject, error))
            else:
                assert isinstance(step, Read)  # noqa: S101 - an inspection only reads
                asked[subject] = step
        answers = _look(store, asked, seen.failures)
    return seen


def _look(store: Store, asked: Mapping[Subject, Read], failures: list[Finding]) -> dict[Subject, Snapshot]:
    requests: list[tuple[Slot, Sequence[Query]]] = [
        (step.slot or workflow_slot(subject.workflow_id), step.queries) for subject, step in asked.items()
    ]
    try:
        return dict(zip(asked, store.look_many(requests) if requests else (), strict=True))
    except UnreachableError:
        raise
    except Exception as error:  # noqa: BLE001 - one key of another kind refuses the whole batch
        if len(asked) == 1:
            failures.extend(_unreadable(subject, error) for subject in asked)
            return {}
    halves = list(asked.items())
    middle = len(halves) // 2
    return {
        **_look(store, dict(halves[:middle]), failures),
        **_look(store, dict(halves[middle:]), failures),
    }


def _unreadable(subject: Subject, error: Exception) -> Finding:
    what = f" ({subject.name})" if subject.name else ""
    return Finding("unreadable", subject.workflow_id, f"its state can't be read{what}: {error!r:.300}", "")
