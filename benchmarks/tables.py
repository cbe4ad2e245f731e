"""Tables in Markdown, as documents have them."""

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["spread", "table"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def spread(values: Mapping[str, float] | None) -> str:
    """Return `median (minimum-maximum)`; a hyphen: nothing was measured."""
    if not values:
        return "-"
    return f"{values['median']:.2f} ({values['minimum']:.2f}-{values['maximum']:.2f})"
