"""What a run sees of the runs before it (1.4): of one name the later write, and nothing of what happens beside it."""

from collections.abc import Iterable
from typing import Any, TypeAlias

__all__ = ["Past", "merged", "values", "with_outputs"]

Past: TypeAlias = dict[str, tuple[int, Any]]
"""Values by name, each with the time of its writing."""


def merged(pasts: Iterable[Past]) -> Past:
    """Return what is seen where these meet."""
    found: Past = {}
    for past in pasts:
        found |= {name: item for name, item in past.items() if name not in found or found[name][0] < item[0]}
    return found


def with_outputs(past: Past, outputs: dict[str, Any], at: int) -> Past:
    """Return what is seen behind a run that ends now with these outputs."""
    return past | {name: (at, value) for name, value in outputs.items()}


def values(past: Past) -> dict[str, Any]:
    """Return the bare values."""
    return {name: value for name, (_, value) in past.items()}
