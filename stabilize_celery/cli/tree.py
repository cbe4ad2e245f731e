"""The rows of a workflow as a tree on the screen; in words, colour only adds."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stabilize_celery.cli.instances import Instances
from stabilize_celery.cli.plain import padded, plain
from stabilize_celery.cli.rows import Row, rows_of
from stabilize_celery.client.why import Reason
from stabilize_celery.client.words import duration, in_line
from stabilize_celery.models.limits import DEFAULT_PRIORITY
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.reading import WorkflowView

__all__ = ["COLOURS", "Tree", "header"]

COLOURS = {
    "SUCCEEDED": "green",
    "RUNNING": "cyan",
    "SUSPENDED": "yellow",
    "BUFFERED": "yellow",
    "PAUSED": "yellow",
    "TERMINAL": "red",
    "STOPPED": "red",
    "FAILED_CONTINUE": "dark_orange",
    "CANCELED": "magenta",
}
_GLYPHS = {
    "SUCCEEDED": "✔",
    "RUNNING": "▶",
    "SUSPENDED": "⏸",
    "BUFFERED": "◷",
    "TERMINAL": "✘",
    "STOPPED": "✘",
    "FAILED_CONTINUE": "✘",
    "CANCELED": "⊘",
    "SKIPPED": "↷",
}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAME_S = 0.1
_BAR_WIDTH = 16
_SHORTEST_BAR = 6
_AROUND_BAR = len("  100 %")
_LINES_AROUND = 4
_PADDING = 4
_NARROWEST_NOTE = 10

_Line: TypeAlias = tuple[Text, Text, Row]
"""Branch and name, status, what else there is to say."""


def header(view: WorkflowView, now_ms: int | None = None) -> Text:
    """Return the first line: name, application, id, status, how long it has run."""
    record = view.record
    elapsed = duration((record.ended_ms or now_ms or view.now_ms) - record.started_ms)
    names = [in_line(name) for name in (record.name, record.application, view.id) if name]
    priority = f" · priority {record.priority}" if record.priority != DEFAULT_PRIORITY else ""
    status = (record.status, COLOURS.get(record.status, ""))
    return Text.assemble((" · ".join(names), "bold"), priority, "  ", status, f"  {elapsed}")


class Tree:
    """A view as a tree. Where it is `live`, running stages turn, and it is cut to the height of the terminal.

    `instances`: those of its stages, as `read_instances` found them. `folds`: many stages alike are one row.
    """

    def __init__(
        self,
        view: WorkflowView,
        reasons: Sequence[Reason] = (),
        instances: Mapping[str, Instances] | None = None,
        *,
        live: bool = False,
        folds: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.view = view
        self._rows = rows_of(view, reasons, instances, folds=folds)
        self._live = live
        self._clock = clock
        self._made_at = clock()

    @property
    def is_folded(self) -> bool:
        """Whether a row stands for several stages."""
        return any(row.is_folded for row in self._rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        passed_ms = int((self._clock() - self._made_at) * 1000) if self._live and self.view.record.is_live else 0
        now_ms = self.view.now_ms + passed_ms
        yield header(self.view, now_ms)
        height = options.height or console.size.height
        rows, left_out = _fitting(self._rows, height - _LINES_AROUND) if self._live else (self._rows, 0)
        yield self._table(list(self._lines(rows)), options.max_width, now_ms)
        if left_out:
            yield Text(f"   … and {left_out} more that end or wait as those", style="dim")

    def lines(self) -> Iterator[str]:
        """Yield the tree for a pipe: one line of text per row, however long, and nothing is cut off."""
        now_ms = self.view.now_ms
        yield header(self.view, now_ms).plain
        lines = [(name.plain, status.plain, row.span.told(now_ms)) for name, status, row in self._lines(self._rows)]
        names, statuses, times = (max(map(cell_len, column)) for column in zip(*lines or [("", "", "")], strict=True))
        for (name, status, took), row in zip(lines, self._rows, strict=True):
            part = f"  {_percent(row)}" if row.total else ""
            yield f"{padded(name, names)} {padded(status, statuses)} {took:>{times}} {in_line(row.note)}{part}".rstrip()

    def _table(self, lines: Sequence[_Line], width: int, now_ms: int) -> Table:
        names = min(max((cell_len(line[0].plain) for line in lines), default=0), max(20, width // 3))
        statuses = max((len(line[1].plain) for line in lines), default=0)
        elapsed = [row.span.told(now_ms) for _, _, row in lines]
        times = max(map(len, elapsed), default=0)
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True, overflow="ellipsis", width=names)
        table.add_column(no_wrap=True, width=statuses)
        table.add_column(no_wrap=True, justify="right", width=times)
        # Without a width of its own it would squeeze the others.
        rest = max(_NARROWEST_NOTE, width - names - statuses - times - _PADDING)
        table.add_column(no_wrap=self._live, overflow="ellipsis" if self._live else "fold", max_width=rest)
        for (name, status, row), took in zip(lines, elapsed, strict=True):
            table.add_row(name, status, took, _note(row, rest))
        return table

    def _lines(self, rows: Sequence[Row]) -> Iterator[_Line]:
        for row, branch in zip(rows, _branches([row.depth for row in rows]), strict=True):
            colour = COLOURS.get(row.status, "dim")
            name = Text.assemble((branch, "dim"), (self._glyph(row.status), colour), f" {plain(in_line(row.name))}")
            yield name, Text(row.status, style=colour), row

    def _glyph(self, status: str) -> str:
        if status == "RUNNING" and self._live:
            return _SPINNER[int(self._clock() / _FRAME_S) % len(_SPINNER)]
        return _GLYPHS.get(status, "·")


def _branches(depths: Sequence[int]) -> list[str]:
    """Return the lines that lead to each row of a tree, given how deep each stands."""
    found: list[str] = []
    goes_on: dict[int, bool] = {}
    for depth in reversed(depths):
        outer = "".join("│  " if goes_on.get(level) else "   " for level in range(depth))
        found.append(outer + ("├─ " if goes_on.get(depth) else "└─ "))
        goes_on = {**{level: more for level, more in goes_on.items() if level < depth}, depth: True}
    return found[::-1]


def _note(row: Row, width: int) -> RenderableType:
    style = "" if row.status and WorkflowStatus[row.status].is_failure else "dim"
    if not row.total:
        return Text(row.note, style=style)
    if cell_len(row.note) + _SHORTEST_BAR + _AROUND_BAR <= width:
        return _bar(row, Text(row.note, style=style), width)
    # Two lines: how far it is, and what else is told.
    done = f"{row.done:,} of {row.total:,} done"
    more = Text(row.note.removeprefix(done).lstrip(",; "), style=style)
    return Group(_bar(row, Text(done, style=style), width), more)


def _bar(row: Row, note: Text, width: int) -> Table:
    table = Table.grid(padding=(0, 1))
    room = max(_SHORTEST_BAR, min(_BAR_WIDTH, width - note.cell_len - _AROUND_BAR))
    table.add_row(note, ProgressBar(row.total, row.done, width=room), _percent(row))
    return table


def _percent(row: Row) -> str:
    return f"{100 * row.done // row.total} %"


def _fitting(rows: Sequence[Row], height: int) -> tuple[Sequence[Row], int]:
    """Return the rows that say most: what is at work or failed first, then what is done, then what has not begun."""
    if len(rows) <= max(height, 1):
        return rows, 0
    weights = {"RUNNING": 0, "TERMINAL": 0, "SUSPENDED": 1, "BUFFERED": 1, "NOT_STARTED": 3}
    ranked = sorted(range(len(rows)), key=lambda at: (weights.get(rows[at].status, 2), at))
    kept = sorted(ranked[: max(height - 1, 1)])
    return [rows[at] for at in kept], len(rows) - len(kept)
