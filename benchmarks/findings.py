"""What a comparison found, as it is kept: `results/latest.json`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from benchmarks.arithmetic import Spread, paired_ratios, percentile
from benchmarks.compare import Cell, Comparison, Growth
from benchmarks.peers import DELIVERED, PEERS, REFERENCE, REFERENCE_WITHOUT_ACKS, WITH_OTHERS
from benchmarks.plan import JUDGED, MODES, Shape

__all__ = ["HOPS", "as_json", "delay_ratios", "kept", "ratios_to", "targets"]

HOPS = {"send": "send", "wake": "send", "after": "send", "hop": "hop", "release": "hop", "join": "hop"}
"""The delay of bare Celery tasks that each kind of delay is compared with."""
_BARE = "celery_tasks"

_TARGETS = {
    "per_message": (1.1, 1.4, 1.5),
    "fused": (0.4, 0.5, 0.55),
    "continuation": (0.15, 0.3, None),
}
"""Ratios to Celery's canvas that are to be reached, by mode, in the order of `JUDGED`."""

Cells = Mapping[str, Mapping[str, Cell]]


def targets() -> dict[str, dict[str, float]]:
    """Return what is to be reached: shape, mode, largest ratio to Celery's canvas."""
    return {
        shape: {mode: limit for mode in MODES if (limit := _TARGETS[mode][at]) is not None}
        for at, shape in enumerate(JUDGED)
    }


def ratios_to(cells: Mapping[str, Cell], reference: str, names: tuple[str, ...]) -> dict[str, list[float]]:
    """Return each peer's paired ratios to the reference in one shape; those that have none are left out."""
    if reference not in cells:
        return {}
    pairs = {name: paired_ratios(cells[name].seconds, cells[reference].seconds) for name in names if name in cells}
    return {name: ratios for name, ratios in pairs.items() if ratios}


def delay_ratios(cells: Cells, shapes: Mapping[str, Shape], shape: Shape, name: str) -> list[float]:
    """Return p95 of a peer's delays over that of a plain Celery hop, for each repetition that has both."""
    hop = next((one.name for one in shapes.values() if one.kind == HOPS[shape.kind]), "")
    ours, plain = cells.get(shape.name, {}).get(name), cells.get(hop, {}).get(_BARE)
    if ours is None or plain is None:
        return []
    return paired_ratios(_p95(ours), _p95(plain))


def _p95(cell: Cell) -> dict[int, float]:
    return {repetition: percentile(delays, 0.95) for repetition, delays in cell.delays_ms.items() if delays}


def kept(parts: Mapping[str, Callable[[], Iterable[dict[str, Any]]]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of each part, by what it measures. One that fails says so in its place, and loses no other's."""
    for what, rows in parts.items():
        try:
            yield from rows()
        except Exception as error:  # noqa: BLE001 - whatever it is: minutes of measurements stand beside it
            yield {"key": what, "what": what, "failed": f"{type(error).__name__}: {error}"}


def as_json(run: Comparison, memory: list[dict[str, Any]]) -> dict[str, Any]:
    """Return everything that was measured, and what is made of it."""
    shapes = {shape.name: shape for shape in run.plan.shapes}
    names = tuple(run.processes)
    others = [name for name in names if name not in MODES]
    compared = {
        shape: {
            mode: found
            for mode in MODES
            if (found := {one: _spread(ratios_to(cells, one, (mode,)).get(mode, [])) for one in others})
            and (found := {one: spread for one, spread in found.items() if spread})
        }
        for shape, cells in run.cells.items()
        if not shapes[shape].is_latency
    }
    return {
        "ratios": _medians(run.cells, REFERENCE),
        "ratios_without_acks": _medians(run.cells, REFERENCE_WITHOUT_ACKS),
        "ratios_delivered": _medians(run.cells, REFERENCE, DELIVERED),
        "ratios_with_others": _medians(run.cells, REFERENCE, WITH_OTHERS),
        "targets": targets(),
        "compared": compared,
        "peers": _peers(run),
        "shapes": {name: _shape(shapes, shapes[name], cells, run.cells) for name, cells in run.cells.items()},
        "growth": [_growth(one) for one in run.growths],
        "memory": memory,
    }


def _medians(cells: Cells, reference: str, variant: str = "") -> dict[str, dict[str, float]]:
    names = tuple(mode + variant for mode in MODES)
    return {
        shape: {
            name.removesuffix(variant): Spread.of(found).median
            for name, found in ratios_to(cells[shape], reference, names).items()
        }
        for shape in JUDGED
        if shape in cells
    }


def _spread(values: list[float]) -> dict[str, float] | None:
    return {**Spread.of(values).as_json(), "repetitions": len(values)} if values else None


def _peers(run: Comparison) -> dict[str, dict[str, Any]]:
    lacking, versions = run.lacking(), run.versions()
    return {
        entry.name: {
            "title": entry.title,
            "versions": versions.get(entry.name, {}),
            **({"skipped": lacking[entry.name]} if entry.name in lacking else {}),
        }
        for entry in PEERS
        if entry.name in run.processes
    }


def _shape(shapes: Mapping[str, Shape], shape: Shape, cells: Mapping[str, Cell], every: Cells) -> dict[str, Any]:
    return {
        "about": shape.about,
        "kind": shape.kind,
        "stages": shape.stages,
        "peers": {
            name: _cell(cell, _spread(delay_ratios(every, shapes, shape, name)) if shape.is_latency else None)
            for name, cell in cells.items()
        },
    }


def _cell(cell: Cell, to_hop: dict[str, float] | None) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if cell.seconds:
        told |= {"seconds": list(cell.seconds.values()), **Spread.of(list(cell.seconds.values())).as_json()}
    if delays := [delay for several in cell.delays_ms.values() for delay in several]:
        told |= {"p50_ms": percentile(delays, 0.5), "p95_ms": percentile(delays, 0.95), "samples": len(delays)}
        told |= {"p95_to_plain_hop": to_hop} if to_hop else {}
    if cell.extras:
        told |= {"median_of": {name: Spread.of([one[name] for one in cell.extras]).median for name in cell.extras[0]}}
    if cell.skipped:
        told["skipped"] = cell.skipped
    return told


def _growth(one: Growth) -> dict[str, Any]:
    told = {"mode": one.mode, "kind": one.kind, "small": one.small, "large": one.large, "ratios": one.ratios}
    return {**told, "ratio": _spread(one.ratios), **({"skipped": one.skipped} if one.skipped else {})}
