"""How far a run is: its own status, and that of what is part of it: instances, stages before and after (wcp 1.2)."""

from collections.abc import Iterable, KeysView, Mapping

from stabilize_celery.engine.state import Run

__all__ = ["waiting", "with_parts"]


def waiting(runs: Mapping[str, Run]) -> set[str]:
    """Return the unfinished ones of which every unfinished line of work waits for a signal: they are SUSPENDED.

    `runs`: by thread, with all unfinished ones that are part of them.
    """
    live = {thread: run for thread, run in runs.items() if not run.is_ended}
    wholes = {run.parent for run in live.values()}
    awake = {thread for thread, run in live.items() if run.status != "SUSPENDED" and thread not in wholes}
    stack = list(awake)
    while stack:
        parent = live[stack.pop()].parent
        if parent in live and parent not in awake:
            awake.add(parent)
            stack.append(parent)
    return live.keys() - awake


def with_parts(runs: Mapping[str, Run], threads: Iterable[str]) -> KeysView[str]:
    """Return threads with those of `runs` that are part of them, at any depth (wcp 1.3), in one order."""
    parts: dict[str, list[str]] = {}
    for thread, run in runs.items():
        parts.setdefault(run.parent, []).append(thread)
    found = dict.fromkeys(threads)
    wholes = list(found)
    for thread in wholes:
        fresh = [part for part in parts.get(thread, ()) if part not in found]
        found |= dict.fromkeys(fresh)
        wholes += fresh
    return found.keys()
