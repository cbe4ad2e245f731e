"""Components of the graph: what can still arrive is asked component by component (wcp 1.5; PROTOCOL 7.1).

A component is a strongly connected part of the graph of requisites and declared jumps; without jumps each stage is its
own. A stage *tells* if something downstream of it (or it itself) wants to know that no more threads can come.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

__all__ = ["components", "telling"]


def components(targets: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the component of each node, named by its first node in the order of `targets` (Tarjan 1972, iterative).

    None stands before one that is reached from it.
    """
    order = {ref: at for at, ref in enumerate(targets)}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: dict[str, str] = {}
    for root in targets:
        if root in index:
            continue
        work = [(root, iter(targets[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            ref, rest = work[-1]
            fresh = next((target for target in rest if target not in index or target in on_stack), None)
            if fresh is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[ref])
                if low[ref] == index[ref]:
                    _close(ref, stack, on_stack, found, order)
            elif fresh in index:
                low[ref] = min(low[ref], index[fresh])
            else:
                index[fresh] = low[fresh] = len(index)
                stack.append(fresh)
                on_stack.add(fresh)
                work.append((fresh, iter(targets[fresh])))
    return found


def _close(root: str, stack: list[str], on_stack: set[str], found: dict[str, str], order: Mapping[str, int]) -> None:
    members = []
    while True:
        ref = stack.pop()
        on_stack.discard(ref)
        members.append(ref)
        if ref == root:
            break
    name = min(members, key=lambda ref: order[ref])
    for ref in members:
        found[ref] = name


def telling(targets: Mapping[str, Sequence[str]], wants_to_know: Iterable[str]) -> Collection[str]:
    """Return the nodes from which one that wants to know can be reached, those themselves included."""
    sources: dict[str, list[str]] = {}
    for ref, downstream in targets.items():
        for target in downstream:
            sources.setdefault(target, []).append(ref)
    found = set(wants_to_know)
    stack = list(found)
    while stack:
        fresh = set(sources.get(stack.pop(), ())) - found
        found |= fresh
        stack.extend(fresh)
    return found
