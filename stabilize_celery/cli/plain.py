"""Text of others on a terminal: names, errors and outputs are shown, never obeyed.

Whoever may start a workflow chooses its names. An escape sequence in one would move the cursor of an operator who lists
it, rewrite lines, or set the clipboard; marks of writing direction would show a name as another one.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

__all__ = ["PlainConsole", "json_text", "padded", "plain"]

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """Return a text with `\ufffd` in place of each character that a terminal would obey; lines and tabs stay."""
    return _OBEYED.sub("\ufffd", text)


def padded(text: str, width: int) -> str:
    """Return a text with blanks behind it, up to a width in cells: some characters take two of them, some none."""
    return text + " " * (width - cell_len(text))


def json_text(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON, in which such characters are escaped: the value is the same."""
    told = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", told)


class PlainConsole(Console):
    """A console that prints text `plain`, whatever it is part of; what it does to the terminal itself, it does."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of something."""
        for segment in super().render(renderable, options):
            if segment.control or not _OBEYED.search(segment.text):
                yield segment
            else:
                yield Segment(plain(segment.text), segment.style)

    def on_broken_pipe(self) -> NoReturn:
        """Tell that nobody reads any more like any other write does: the command knows what becomes of it."""
        raise BrokenPipeError
