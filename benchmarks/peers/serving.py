"""A peer's side of the wire: one JSON line in, one out, until the input ends.

In: `{"kind": "chain", "sizes": [50]}`. Out: `{"seconds": 0.1}`, or `{"delays_ms": [...]}` for shapes that measure
delays, or `{"cannot": "why"}`. The first line out is `{"versions": {...}}` or `{"lacks": "why"}`, when it is ready.
"""

import importlib
import json
import logging
import os
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeAlias

__all__ = ["Answer", "Cannot", "Peer", "eventually_true", "serve"]

Answer: TypeAlias = dict[str, Any]


class Cannot(Exception):  # noqa: N818 - an answer, not a failure
    """A peer cannot do what it was asked; the text says why."""


class Peer:
    """What all peers have. A shape's kind is the name of the method that does it.

    Attributes:
        packages: Names whose versions are told with the results; each must be importable.
        cannot: Kinds of shapes that the peer has no means for, with the reason.

    """

    packages: tuple[str, ...] = ()
    cannot: ClassVar[Mapping[str, str]] = {}

    def __init__(self, folder: Path, stack: ExitStack, arguments: list[str]) -> None:
        self.folder = folder
        self.stack = stack
        self.arguments = arguments

    @abstractmethod
    def warm(self) -> None:
        """Start what is needed, and run something small once."""

    def do(self, kind: str, sizes: list[int]) -> Answer:
        """Do one shape. Raises Cannot."""
        if kind in self.cannot:
            raise Cannot(self.cannot[kind])
        method: Callable[..., Answer] | None = getattr(self, kind, None)
        if method is None:
            raise Cannot("it has no such thing")
        return method(*sizes)


def serve(make: Callable[[Path, ExitStack, list[str]], Peer], *packages: str) -> None:
    """Be a peer until standard input ends. What must be importable is named in `packages`."""
    logging.disable(logging.INFO)
    with _answers() as answer:
        lacking = [name for name in packages if not _is_importable(name)]
        if lacking:
            answer({"lacks": f"not installed: {', '.join(lacking)} (benchmarks/requirements.txt)"})
            return
        with TemporaryDirectory(prefix="peer-") as folder, ExitStack() as stack:
            try:
                peer = make(Path(folder), stack, sys.argv[1:])
                peer.warm()
            except Cannot as reason:
                answer({"lacks": str(reason)})
                return
            answer({"versions": {name: metadata.version(name) for name in peer.packages}})
            for line in sys.stdin:
                answer(_answer(peer, json.loads(line)))


def _answer(peer: Peer, asked: Mapping[str, Any]) -> Answer:
    try:
        return peer.do(asked["kind"], asked["sizes"])
    except Cannot as reason:
        return {"cannot": str(reason)}


def _is_importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


@contextmanager
def _answers() -> Iterator[Callable[[Answer], None]]:
    """Keep standard output for answers: what libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)

        def answer(told: Answer) -> None:
            print(json.dumps(told), file=out, flush=True)

        yield answer


def eventually_true(probe: Callable[[], object], pause_s: float = 0.001) -> None:
    """Return as soon as the probe answers something true. Who asked ends a peer that takes too long."""
    while not probe():
        time.sleep(pause_s)
