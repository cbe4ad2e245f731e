"""Where state lies inside a slot: every logical key, a function per kind (PROTOCOL section 1).

WATCH works on whole keys: what different messages write at once must be different keys. `store/keys.py` puts the
slot's prefix before these names.
"""

__all__ = [
    "BLOBS",
    "COUNTERS",
    "DEFINITION",
    "FAILURES",
    "JUMPS",
    "LIVE",
    "OUTSIDE_EVENTS",
    "PAGES",
    "PARKED",
    "RESTARTED",
    "WORKFLOW",
    "arrivals",
    "bypassed",
    "closed",
    "component",
    "instance_counts",
    "instance_ends",
    "instances",
    "is_payload",
    "join",
    "ledger",
    "milestone_waiters",
    "offers",
    "room",
    "run",
    "section_waiters",
    "shut",
    "signals",
    "started",
    "waiting",
]

_PAYLOADS = frozenset({"context", "jump_context", "outputs", "payload", "trigger"})

WORKFLOW = "w"
"""HASH: status, reason, times, parent. WATCHed by every handler, written rarely."""
DEFINITION = "d"
"""HASH, immutable: `meta`, `context`, `joins`, `s:<ref>` the plan of a stage, `x:<ref>` its context."""
BLOBS = "b"
"""HASH: large values of other hashes' fields, each under the name that stands in that field (store/blobs.py)."""
COUNTERS = "c"
"""HASH: `act` = threads that move; `kept` = locks of sections and of ended runs, and code of those that still runs.

Changed by HINCRBY only, and so WATCHed only by who asks whether nothing moves any more.
"""
LIVE = "lv"
"""SET: threads of runs that are not ended."""
FAILURES = "fl"
"""HASH: stage ref to the reason of a failure that was put off to the end of the workflow."""
JUMPS = "jmp"
"""HASH: `n` = jumps so far. WATCHed by who jumps."""
PARKED = "pk"
"""SET: ledger names that wait for the end of a pause."""
OUTSIDE_EVENTS = "sid"
"""HASH: ids of outside events that took effect, to their answer."""
PAGES = "pg"
"""HASH, each field written once: pages of what runs can see (engine/past.py)."""
RESTARTED = "rs"
"""HASH: stage ref to the time (us) of the restart before which its runs do not count any more."""


def is_payload(field: str) -> bool:
    """Return whether a field of a run or a definition holds what users gave it: no overview shows that."""
    return field in _PAYLOADS or field.startswith("x:")


def ledger(name: str) -> str:
    """HASH: one owed message. Gone = done."""
    return f"m:{name}"


def run(thread: str) -> str:
    """HASH: one run. Written by its own messages only."""
    return f"r:{thread}"


def started(ref_id: str) -> str:
    """LIST: threads of a stage's runs in order of starting; the run number is the position + 1."""
    return f"rl:{ref_id}"


def bypassed(ref_id: str) -> str:
    """LIST: threads of a stage's runs that ended without having started."""
    return f"nr:{ref_id}"


def arrivals(ref_id: str) -> str:
    """LIST: `<edge>:<thread>` per arrival at a join, in order; only grows. Not WATCHed by who arrives."""
    return f"a:{ref_id}"


def join(ref_id: str) -> str:
    """HASH: what the join has consumed, `u<edge>` of each edge; `fired`, how often. WATCHed by the join's handler.

    Of a partial join also `cycle`, whether in this one, and `counted`, by which edges.
    """
    return f"j:{ref_id}"


def signals(ref_id: str) -> str:
    """HASH: kept signals and waiters of a stage. WATCHed by senders and waiters."""
    return f"g:{ref_id}"


def waiting(ref_id: str) -> str:
    """HASH: when a join is worth a look; a hint, never WATCHed.

    `n`: edges that brought something in this cycle; `x`: edges that closed without; `f`: it has fired in this cycle.
    """
    return f"n:{ref_id}"


def closed(ref_id: str) -> str:
    """HASH: edges into a stage that can bring nothing any more: `<edge>` or `j:<jumping stage>`. Only grows."""
    return f"x:{ref_id}"


def component(name: str) -> str:
    """HASH: `in` open edges and jumps into a component, `live` threads in it, `r:<ref>` live runs. HINCRBY only."""
    return f"k:{name}"


def shut(name: str) -> str:
    """HASH: stages of a component whose ways out are closed, and told so. WATCHed by who closes."""
    return f"z:{name}"


def instances(thread: str) -> str:
    """HASH: instances of a run. WATCHed by who adds, completes or judges.

    `total`, `begun`, `closed`, `judged`: ends that did not let the thread go on; `x:<index>`: what an added one sees.
    """
    return f"i:{thread}"


def instance_counts(thread: str) -> str:
    """HASH: `done`, `failed`: instances that ended. HINCRBY only."""
    return f"in:{thread}"


def instance_ends(thread: str) -> str:
    """LIST: of a run whose thread may go on before all are done: `done:<index>`, `failed:<index>`, as they ended."""
    return f"ie:{thread}"


def offers(group: str) -> str:
    """HASH: open offers of a deferred choice group: name to time and members. WATCHed by who chooses."""
    return f"o:{group}"


def milestone_waiters(ref_id: str) -> str:
    """HASH: threads that wait for a milestone stage's status, to their stage. WATCHed by who holds and who wakes."""
    return f"mw:{ref_id}"


def room(thread: str) -> str:
    """HASH: `inside` = who is covered by the lock of a section or a run; HINCRBY, WATCHed by who gives it back.

    `waiting`: how many of them are no more than arrivals at a join; with the workflow they end.
    """
    return f"rm:{thread}"


def section_waiters(name: str) -> str:
    """HASH: threads that wait for their section's lock, to their stage. WATCHed by who waits and who wakes."""
    return f"sw:{name}"
