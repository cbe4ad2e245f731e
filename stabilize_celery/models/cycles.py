"""Finding circles among requisites, in time linear in their number."""

from collections.abc import Collection, Iterator, Mapping, Sequence

__all__ = ["find_cycles"]


def find_cycles(requisites: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Return one circle of every knot of stages that require each other, in the direction of the flow.

    Args:
        requisites: Stage -> the stages that it requires; names that are not keys are passed over.

    Returns:
        Each circle once around, without the repeated first name; it begins at the stage that comes first in
        `requisites`. A stage that requires itself is a circle of one.

    """
    place = {name: at for at, name in enumerate(requisites)}
    known = {name: [above for above in requisites[name] if above in place] for name in requisites}
    knots = [knot for knot in _knots(known) if len(knot) > 1 or knot[0] in known[knot[0]]]
    circles = [_circle(known, frozenset(knot), min(knot, key=place.__getitem__)) for knot in knots]
    return sorted(circles, key=lambda circle: place[circle[0]])


def _circle(known: Mapping[str, Sequence[str]], knot: frozenset[str], first: str) -> list[str]:
    """Return the shortest way from `first` back to itself inside its knot, turned into the flow's direction."""
    came_from: dict[str, str] = {}
    waiting = [first]
    for name in waiting:
        for above in known[name]:
            if above == first:
                return [first, *_way(came_from, name, first)]
            if above in knot and above not in came_from:
                came_from[above] = name
                waiting.append(above)
    return [first]


def _way(came_from: Mapping[str, str], name: str, first: str) -> Iterator[str]:
    while name != first:
        yield name
        name = came_from[name]


def _knots(known: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return the strongly connected components. Source: Tarjan 1972, with a stack instead of recursion."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_names: dict[str, None] = {}
    knots: list[list[str]] = []
    for root in known:
        if root in number:
            continue
        walk = [(root, iter(known[root]))]
        number[root] = lowest[root] = len(number)
        open_names[root] = None
        while walk:
            name, rest = walk[-1]
            deeper = next((above for above in rest if above not in number), None)
            if deeper is not None:
                number[deeper] = lowest[deeper] = len(number)
                open_names[deeper] = None
                walk.append((deeper, iter(known[deeper])))
                continue
            walk.pop()
            lowest[name] = min(
                [lowest[name], *(lowest[above] for above in known[name] if above in open_names)],
            )
            if lowest[name] == number[name]:
                knots.append(_close(open_names, name))
    return knots


def _close(open_names: dict[str, None], name: str) -> list[str]:
    knot: list[str] = []
    while not knot or knot[-1] != name:
        knot.append(open_names.popitem()[0])
    return knot
