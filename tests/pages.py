"""The code that pages of the documentation show, so that tests can execute it as a reader would."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "Block", "block_with", "blocks", "execute"]

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page (from the root), the line of its first line of code, its language, its code."""

    page: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, language: str = "python") -> list[Block]:
    """The blocks of a page in that language, in order."""
    text = (ROOT / page).read_text()
    return [
        Block(page, text.count("\n", 0, found.start(2)) + 1, found[1], found[2])
        for found in _FENCE.finditer(text)
        if found[1] == language
    ]


def block_with(page: str, words: str, language: str = "python") -> Block:
    """The one block of a page that has these words."""
    found = [block for block in blocks(page, language) if words in block.code]
    assert len(found) == 1, f"{page}: {len(found)} {language} blocks have {words!r}"
    return found[0]


def execute(shown: Iterable[Block], **names: Any) -> dict[str, Any]:
    """Execute blocks one after another as one module that has these names already; return its names.

    A traceback shows the line of the page.
    """
    namespace: dict[str, Any] = {"__name__": "page", **names}
    for block in shown:
        exec(compile("\n" * (block.line - 1) + block.code, str(ROOT / block.page), "exec"), namespace)
    return namespace
