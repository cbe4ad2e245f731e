"""Who is measured side by side: one module each, one process each, the same small interface."""

from collections.abc import Collection
from dataclasses import dataclass, field

__all__ = ["DELIVERED", "PEERS", "REFERENCE", "REFERENCE_WITHOUT_ACKS", "WITH_OTHERS", "Entry", "chosen"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A peer: `python -m benchmarks.peers.<module> <arguments>` speaks as `serving` says."""

    name: str
    title: str
    module: str
    arguments: tuple[str, ...] = ()
    is_judged: bool = False
    """Measured in each repetition; the others in a few."""
    shapes: frozenset[str] = field(default_factory=frozenset)
    """Kinds of shapes that it is for; empty: all. What it cannot do of them it says itself.

    Limits, and settings that differ in throughput only, have no delays of their own.
    """


_MODES = ("per_message", "fused", "continuation")
_WALL = frozenset({"chain", "many", "fan", "submit"})
_CHAIN = frozenset({"chain"})

DELIVERED = "_delivered"
"""Ends the names of our own modes in workers to whose processes Celery hands each message."""
WITH_OTHERS = "_with_others"
"""Ends those of our own modes in workers that consume the app's own queue, too."""

PEERS = (
    Entry("per_message", "stabilize_celery, per message", "ours", ("per_message",), is_judged=True),
    Entry("fused", "stabilize_celery, fused", "ours", ("fused",), is_judged=True),
    Entry("continuation", "stabilize_celery, local continuation", "ours", ("continuation",), is_judged=True),
    *(
        Entry(
            f"{mode}{DELIVERED}",
            f"the same, each message delivered by Celery: {mode}",
            "ours",
            (mode, "STABILIZE_TAKE_MS=0"),
            shapes=_WALL,
        )
        for mode in _MODES
    ),
    *(
        Entry(
            f"{mode}{WITH_OTHERS}",
            f"the same beside other tasks of the app: {mode}",
            "ours",
            (mode, "celery"),
            shapes=_WALL,
        )
        for mode in _MODES
    ),
    Entry("celery", "Celery chain, group, chord", "canvas", ("acks",), is_judged=True),
    Entry("celery_no_acks", "the same, ack emulation off", "canvas", ("no_acks",), is_judged=True),
    Entry("celery_tasks", "limit: bare Celery tasks", "bare", ("acks",)),
    Entry("celery_tasks_no_acks", "limit: the same, ack emulation off", "bare", ("no_acks",)),
    # Of one process each: what two share between them is no measure of it.
    *(
        Entry(
            f"in_process_{mode}",
            f"limit: our engine and commits, no Celery: {mode}",
            "in_process",
            (mode,),
            shapes=_CHAIN,
        )
        for mode in _MODES
    ),
    *(
        Entry(
            f"redis_only_{mode}",
            f"limit: our Redis commands, no code of ours: {mode}",
            "redis_only",
            (mode,),
            shapes=_CHAIN,
        )
        for mode in _MODES
    ),
    Entry("dramatiq", "Dramatiq pipeline, group", "dramatiq_actors"),
    Entry("dbos", "DBOS, SQLite (its default)", "dbos_workflows"),
    Entry("upstream_file", "stabilize, SQLite file, best settings", "upstream", ("file", "best")),
    Entry("upstream_memory", "stabilize, SQLite memory, best settings", "upstream", ("memory", "best"), shapes=_WALL),
    Entry("upstream_file_default", "stabilize, SQLite file, defaults", "upstream", ("file", "default"), shapes=_WALL),
    Entry(
        "upstream_memory_default", "stabilize, SQLite memory, defaults", "upstream", ("memory", "default"), shapes=_WALL
    ),
)

REFERENCE = "celery"
"""Ratios are to this one."""
REFERENCE_WITHOUT_ACKS = "celery_no_acks"


def chosen(names: Collection[str]) -> list[Entry]:
    """Return the peers of these names; all if there are none."""
    return [entry for entry in PEERS if not names or entry.name in names]
