"""The graph of a workflow as an SVG picture: left to right, jumps as arcs above; fast-sugiyama finds the places."""

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

from stabilize_celery.cli.failures import Mistake
from stabilize_celery.cli.graph import Box, Graph, Line, LineKind

__all__ = ["svg_of"]

_CHARACTER = 6.9
"""Width of a character of a title (px)."""
_HEIGHT = 40
_NARROWEST, _WIDEST = 90, 300
_GAP_X, _GAP_Y = 56, 22
_PAD = 24
_SPACING = 100.0
"""The library's own unit: one place between neighbours."""
_DASHES = {LineKind.JUMPS: "6 4", LineKind.BELONGS: "2 3"}
_STYLE = (
    "text{font-family:Helvetica,Arial,sans-serif;font-size:12px;fill:#111}"
    ".told{font-size:10.5px;fill:#444}.on{paint-order:stroke;stroke:#fff;stroke-width:3px}.box{stroke:#555;stroke-width:1}"
    ".line{fill:none;stroke:#777;stroke-width:1.2}"
)

_Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where boxes stand (their left upper corners), and by which points lines pass."""

    places: Sequence[_Point]
    ways: Mapping[tuple[int, int], Sequence[_Point]]
    width: float


def svg_of(graph: Graph) -> str:
    """Return the picture as an SVG document.

    Raises:
        Mistake: the library that finds the places is not installed; the text says how to get it.

    """
    widest = max((_CHARACTER * max(len(box.title), len(box.told)) for box in graph.boxes), default=0)
    plan = _planned(graph, min(_WIDEST, max(_NARROWEST, widest + 20)))
    rise = max((_rise(plan, line) for line in graph.lines if line.kind is LineKind.JUMPS), default=0.0)
    right = max((x for x, _ in plan.places), default=0.0) + plan.width
    bottom = max((y for _, y in plan.places), default=0.0) + _HEIGHT
    size = (round(right + 2 * _PAD), round(bottom + rise + 2 * _PAD))
    view = {"viewBox": f"0 0 {size[0]} {size[1]}", "width": str(size[0]), "height": str(size[1]), "role": "img"}
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **view})
    ET.SubElement(root, "title").text = _printable(graph.name)
    ET.SubElement(root, "style").text = _STYLE
    ET.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "#fff"})
    shifted = ET.SubElement(root, "g", {"transform": f"translate({_PAD} {_PAD + rise:g})"})
    _tip(ET.SubElement(root, "defs"))
    for line in graph.lines:
        _draw_line(shifted, plan, line)
    for box, place in zip(graph.boxes, plan.places, strict=True):
        _draw_box(shifted, box, place, plan.width)
    return ET.tostring(root, encoding="unicode")


# -- places ------------------------------------------------------------------------------------------------------------


def _planned(graph: Graph, width: float) -> _Plan:
    edges = [(line.source, line.target) for line in graph.lines if line.kind is not LineKind.JUMPS]
    column, row = width + _GAP_X, float(_HEIGHT + _GAP_Y)
    places: dict[int, _Point] = {}
    ways: dict[tuple[int, int], list[_Point]] = {}
    top = 0.0
    for found in _laid_out(edges):
        # The library stacks layers downwards from the largest y: they become columns.
        at = {
            number: (column * (found.height - y) / _SPACING, top + row * x / _SPACING)
            for number, (x, y) in found.positions
        }
        top = max((y for _, y in at.values()), default=top) + row
        places |= at
        ways |= _ways(edges, found.edges, at)
    alone = [number for number in range(len(graph.boxes)) if number not in places]
    for number in alone:
        places[number] = (0.0, top)
        top += row
    return _Plan([places[number] for number in range(len(graph.boxes))], ways, width)


@dataclass(frozen=True, slots=True)
class _Component:
    positions: Sequence[tuple[int, _Point]]
    height: float
    edges: Sequence[tuple[int, int]]


def _laid_out(edges: Sequence[tuple[int, int]]) -> Iterator[_Component]:
    if not edges:
        return
    try:
        library: Any = importlib.import_module("fast_sugiyama")
    except ModuleNotFoundError:
        raise Mistake(
            "SVG needs fast-sugiyama, which finds the places: pip install 'stabilize-celery[graph]', or use "
            "--format mermaid or dot"
        ) from None
    # Layers by the longest way from the start: the other ranking takes minutes for some thousand stages.
    given = {"ranking_type": "up", "dummy_vertices": True, "vertex_spacing": _SPACING, "dummy_size": _SPACING / 2}
    # Numbers of our own, in order: it makes up larger ones for where a line passes a layer.
    numbers = sorted({end for edge in edges for end in edge})
    inside = {number: at for at, number in enumerate(numbers)}
    for positions, _, height, found in library.from_edges([(inside[a], inside[b]) for a, b in edges], **given):
        name = {at: numbers[at] if at < len(numbers) else -at for at, _ in positions}
        placed = [(name[at], place) for at, place in positions]
        yield _Component(placed, height, [(name[a], name[b]) for a, b in found if a in name and b in name])


def _ways(
    edges: Iterable[tuple[int, int]], found: Sequence[tuple[int, int]], at: Mapping[int, _Point]
) -> dict[tuple[int, int], list[_Point]]:
    """Return the points between the ends of each edge that passes layers on its way."""
    nexts: dict[int, list[int]] = {}
    for source, target in found:
        nexts.setdefault(source, []).append(target)
    ways: dict[tuple[int, int], list[_Point]] = {}
    wanted = set(edges)
    for source, targets in nexts.items():
        if source < 0:
            continue
        for first in targets:
            points, number = [], first
            while number < 0:
                points.append(at[number])
                (number,) = nexts[number]
            if points and (source, number) in wanted:
                ways[source, number] = points
    return ways


# -- drawing -----------------------------------------------------------------------------------------------------------


def _draw_box(parent: ET.Element, box: Box, place: _Point, width: float) -> None:
    x, y = place
    group = ET.SubElement(parent, "g")
    ET.SubElement(group, "title").text = _printable(box.label)
    for off in (4, 0) if box.is_many else (0,):
        given = {"x": x + off, "y": y + off, "width": width, "height": _HEIGHT, "rx": 5}
        ET.SubElement(group, "rect", {"class": "box", "fill": box.colour, **{k: f"{v:g}" for k, v in given.items()}})
    room = int((width - 16) / _CHARACTER)
    first = y + (17 if box.told else 24)
    _write(group, _fitting(box.title, room), (x + 8, first), "")
    if box.told:
        _write(group, _fitting(box.told, int(room * 1.1)), (x + 8, y + 32), "told")


def _draw_line(parent: ET.Element, plan: _Plan, line: Line) -> None:
    path = _arc(plan, line) if line.kind is LineKind.JUMPS else _curve(plan, line)
    given = {"class": "line", "d": path}
    if line.kind is not LineKind.BELONGS:
        given["marker-end"] = "url(#tip)"
    if line.kind in _DASHES:
        given["stroke-dasharray"] = _DASHES[line.kind]
    ET.SubElement(parent, "path", given)
    if line.label:
        x, y = plan.places[line.target]
        text = _fitting(line.label, 34)
        _write(parent, text, (x - 10 - 5.6 * len(text), y + _HEIGHT / 2 - 6), "told on")


def _curve(plan: _Plan, line: Line) -> str:
    (x1, y1), (x2, y2) = plan.places[line.source], plan.places[line.target]
    middle = _HEIGHT / 2
    points = [(x1 + plan.width, y1 + middle)]
    for x, y in plan.ways.get((line.source, line.target), ()):
        points += [(x, y + middle), (x + plan.width, y + middle)]
    points.append((x2 - 2, y2 + middle))
    parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for (ax, ay), (bx, by) in pairwise(points):
        bend = (bx - ax) / 2
        parts.append(f"C{ax + bend:g} {ay:g} {bx - bend:g} {by:g} {bx:g} {by:g}")
    return "".join(parts)


def _rise(plan: _Plan, line: Line) -> float:
    return 30 + min(80.0, abs(plan.places[line.source][0] - plan.places[line.target][0]) / 10)


def _arc(plan: _Plan, line: Line) -> str:
    (x1, y1), (x2, y2) = plan.places[line.source], plan.places[line.target]
    begin, end, rise = x1 + plan.width * 0.7, x2 + plan.width * 0.3, _rise(plan, line)
    return f"M{begin:g} {y1:g}C{begin:g} {y1 - rise:g} {end:g} {y2 - rise:g} {end:g} {y2 - 2:g}"


def _tip(parent: ET.Element) -> None:
    given = {"id": "tip", "viewBox": "0 0 8 8", "refX": "7", "refY": "4", "markerWidth": "7", "markerHeight": "7"}
    marker = ET.SubElement(parent, "marker", {**given, "orient": "auto"})
    ET.SubElement(marker, "path", {"d": "M0 0L8 4L0 8z", "fill": "#777"})


def _write(parent: ET.Element, text: str, place: _Point, kind: str) -> None:
    given = {"x": f"{place[0]:g}", "y": f"{place[1]:g}", **({"class": kind} if kind else {})}
    ET.SubElement(parent, "text", given).text = _printable(text)


def _fitting(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: max(1, room - 1)]}…"


def _printable(text: str) -> str:
    """Return a text without what XML can't hold."""
    return "".join(one if one.isprintable() else " " for one in text)
