"""What each lever gives: our worker as recommended, beside workers that lack one lever each, side by side in one run.

Levers that no setting switches are part of the design: docs/decisions/ tells of those.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.arithmetic import Spread, paired_ratios
from benchmarks.compare import Comparison
from benchmarks.peers import Entry
from benchmarks.plan import QUICK

__all__ = ["ALL", "LEVERS", "MODES", "SHAPES", "entries", "measure", "measured", "table"]

MODES = ("per_message", "fused")
SHAPES = ("chain_50", "many_200x3")
ALL = "all"
_ROOT = Path(__file__).parents[1]
_WITHOUT_HIREDIS = f"PYTHONPATH={_ROOT / 'benchmarks/peers/without_hiredis'}:{_ROOT}"

LEVERS: Mapping[str, tuple[str, ...]] = {
    "processes take messages themselves (`STABILIZE_TAKE_MS=0`: each is delivered by Celery)": ("STABILIZE_TAKE_MS=0",),
    "children wait for messages (`STABILIZE_WAIT_MS=0`)": ("STABILIZE_WAIT_MS=0",),
    "messages ride in commits: broker and state are one server (two servers)": ("broker=apart",),
    "message bodies from templates (somebody listens to Celery's publish signals)": ("BENCH_LISTENS=1",),
    "commands are packed and replies read by hiredis (not installed)": (_WITHOUT_HIREDIS,),
    "quiet logs (`--loglevel=INFO`)": ("--loglevel=INFO",),
    "no task events (`-E`, for Flower)": ("-E",),
    "no lever: kombu keeps no book of acknowledgements (`STABILIZE_ACKS=ledger`)": ("STABILIZE_ACKS=ledger",),
    "no lever: the same where Celery delivers each message (`STABILIZE_TAKE_MS=0`)": (
        "STABILIZE_ACKS=ledger",
        "STABILIZE_TAKE_MS=0",
    ),
}
"""By what is gained (and how it is given up): the arguments of the peer that lacks it."""


def entries(mode: str) -> list[Entry]:
    """Return the peers of a mode: with all levers, and without one each."""
    plain = Entry(ALL, "all levers", "ours", (mode,), is_judged=True)
    lacking = [Entry(about, about, "ours", (mode, *arguments), True) for about, arguments in LEVERS.items()]
    return [plain, *lacking]


def measure(repetitions: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return by mode, shape and lever how much longer it takes without (paired ratios of wall time)."""
    shapes = tuple(shape for shape in QUICK.shapes if shape.name in SHAPES)
    plan = replace(QUICK, shapes=shapes, repetitions=repetitions, others=0, budget_s=600)
    found: dict[str, Any] = {}
    for mode in MODES:
        with Comparison(plan, entries(mode), say) as run:
            run.run()
            found[mode] = {name: measured(cells) for name, cells in run.cells.items()}
    return found


def measured(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spread of each lever's paired ratios in one shape, or why there are none."""
    found: dict[str, Any] = {}
    for name, cell in cells.items():
        if name == ALL:
            continue
        ratios: Sequence[float] = paired_ratios(cell.seconds, cells[ALL].seconds)
        found[name] = Spread.of(ratios).as_json() if ratios else {"skipped": cell.skipped or "not measured"}
    return found


def table(found: Mapping[str, Any]) -> str:
    """Return the ratios in Markdown: how much longer it takes without."""
    columns = [(mode, shape) for mode in MODES for shape in SHAPES]
    head = ["lever (and how it was given up)", *(f"`{mode}`, {_ABOUT[shape]}" for mode, shape in columns)]
    rows = [
        [about, *(_told(found.get(mode, {}).get(shape, {}).get(about, {})) for mode, shape in columns)]
        for about in LEVERS
    ]
    return tables.table(head, rows)


_ABOUT = {shape.name: shape.about for shape in QUICK.shapes}


def _told(measured: Mapping[str, Any]) -> str:
    return str(measured["skipped"]) if "skipped" in measured else tables.spread(measured)
