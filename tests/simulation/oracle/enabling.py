"""How runs come to be: enabled, or offered in a deferred choice (WCP-16)."""

from itertools import count

from tests.simulation.oracle.pasts import Past
from tests.simulation.oracle.state import Case, Run

__all__ = ["choose", "enable", "enable_part", "end_run", "offer_or_enable", "offered"]

_ends = count(1)
"""The times of all ends."""


def enable(case: Case, ref: str, past: Past) -> Run:
    """Make a run that may start; `past`: what it sees of those before it."""
    run = Run(ref, case.tick(), past=past)
    case.runs.append(run)
    return run


def enable_part(case: Case, ref: str, parent: Run, past: Past) -> None:
    """Make a run of a stage before or after another run's work."""
    part = enable(case, ref, past)
    part.parent = parent
    parent.parts.append(part)


def offered(case: Case) -> list[Run]:
    """Return the runs on offer."""
    return [run for run in case.live() if run.offer]


def offer_or_enable(case: Case, refs: list[str], threads: int, past: Past) -> None:
    """Put threads on stages; those of one choice group are offered together, once per thread."""
    groups: dict[str, list[str]] = {}
    for ref in refs:
        group = case.stages[ref].deferred_choice_group
        if group is not None:
            groups.setdefault(group, []).append(ref)
        else:
            for _ in range(threads):
                enable(case, ref, past)
    for members in groups.values():
        for _ in range(threads):
            offer = case.tick()
            for ref in members:
                run = enable(case, ref, past)
                run.status, run.offer, run.offered_at = "BUFFERED", offer, case.home.now


def choose(case: Case, chosen: Run) -> None:
    """Take one of an offer; the others are withdrawn."""
    for run in offered(case):
        if run.offer == chosen.offer and run is not chosen:
            end_run(run, "SKIPPED")
    chosen.status, chosen.offer = "NOT_STARTED", 0


def end_run(run: Run, status: str) -> None:
    """End a run; its parts and what it called go with it, and its parent learns of it."""
    run.status, run.offer, run.ended = status, 0, next(_ends)
    if run.child is not None and run.child.is_live:
        run.child.is_doomed = True
    if run.parent is not None:
        run.parent.has_news = True
    for part in run.parts:
        if part.is_live:
            end_run(part, "CANCELED")
