"""The outputs of a workflow: what all its runs wrote. What a run that ended well wrote wins, then the later write."""

from collections.abc import Generator
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.moves import GOES_ON
from stabilize_celery.engine.state import RUN, Run
from stabilize_celery.engine.steps import Hash, Items, Read, Slot, Snapshot

__all__ = ["workflow_outputs"]


def workflow_outputs(slot: Slot) -> Generator[Read, Snapshot, dict[str, Any]]:
    """Read the outputs of an ended workflow."""
    definition = Hash(places.DEFINITION)
    fields = (yield Read((definition,), (), slot))[definition]
    lists = [Items(places.started(name[2:])) for name in fields if name.startswith("s:")]
    snapshot = yield Read(tuple(lists), (), slot)
    threads = [Hash(places.run(thread)) for query in lists for thread in snapshot[query]]
    runs = [RUN.decode(data) for data in map((yield Read(tuple(threads), (), slot)).__getitem__, threads)]
    merged: dict[str, Any] = {}
    for run in sorted(runs, key=_writing):
        merged |= run.outputs
    return merged


def _writing(run: Run) -> tuple[bool, int, int]:
    """Return when a run wrote, as those after it see it; one that an older version ended says so in ms."""
    return run.status in GOES_ON, run.wrote_us or run.ended_ms * 1000, run.created_us
