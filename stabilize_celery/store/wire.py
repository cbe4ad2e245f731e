"""How commands reach a server: the seam between what the store says and who listens (Redis, or memory).

Commands are tuples as Redis knows them, replies are as RESP2 has them. Everything above this seam is the same for both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

__all__ = [
    "EXEC",
    "MAX_BLOCK_MS",
    "MISROUTED",
    "Batch",
    "Command",
    "Link",
    "LinkLostError",
    "Refused",
    "Reply",
    "Wire",
    "misrouting",
    "nobody_serves",
]

Command: TypeAlias = tuple[bytes | str | int, ...]
"""Name and arguments."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An error reply: its code (`OOM`, `WRONGTYPE`, `MOVED`, `ERR` ...) and its text."""

    code: str
    text: str


EXEC: Command = ("EXEC",)
"""Ends a transaction; of several commands that are sent at once one at most is this."""


Reply: TypeAlias = "int | bytes | Refused | list[Reply] | None"

MAX_BLOCK_MS = 5_000
"""Longest block of one command: a server that has gone is noticed within this and the socket timeout."""

MISROUTED = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})
"""Codes by which a Redis Cluster says: not here, or not now. Nothing was done."""


class LinkLostError(Exception):
    """The connection broke: what was sent may or may not have been carried out. `reason` names no password."""

    def __init__(self, reason: str, *, was_stale: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.was_stale = was_stale
        """Whether a fresh connection may well work: the old one had been closed by the server."""


def misrouting(replies: Sequence[Reply]) -> Refused | None:
    """Return the first refusal that says that the keys are not there, or not now."""
    if Refused not in map(type, replies):
        return None
    return next((reply for reply in replies if isinstance(reply, Refused) and reply.code in MISROUTED), None)


def nobody_serves(refused: Refused) -> LinkLostError:
    """Return the error for keys that no node of a cluster serves, as its last `MISROUTED` refusal says."""
    is_down = refused.code == "CLUSTERDOWN"
    told = f"the cluster is down: {refused.text}" if is_down else "the keys are being moved to another node"
    return LinkLostError(told, was_stale=False)


class Link(Protocol):
    """One checked-out connection."""

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send all commands at once, read all replies; an error reply is a `Refused`, also inside EXEC's list.

        Raises:
            LinkLostError: the connection broke; the link is of no use any more.

        """
        ...

    def close(self, *, watching: bool) -> None:
        """Give the connection back. `watching`: it still watches keys, which the next user must not notice."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Commands for the server that has `key`."""

    key: str
    commands: Sequence[Command]


class Wire(Protocol):
    """All connections to one server, or to the servers of one cluster."""

    @property
    def url(self) -> str:
        """The URL without credentials."""
        ...

    @property
    def round_trips(self) -> int:
        """Packed sends so far, in this process."""
        ...

    @property
    def is_sharded(self) -> bool:
        """Whether one EXEC can't span any two keys: they may lie on several servers."""
        ...

    def link(self, key: str) -> Link:
        """Check out a connection to the server that has `key`.

        Raises:
            LinkLostError: no connection can be made.

        """
        ...

    def redirected(self, refused: Refused) -> None:
        """Learn from a `MISROUTED` refusal who has the key now."""
        ...

    def scan(self, pattern: str) -> Iterator[bytes]:
        """Yield the keys that match on every server; a key may come twice.

        Raises:
            LinkLostError: a connection broke.
            StoreError: a server refused it.

        """
        ...

    def survey(self, commands: Sequence[Command]) -> list[list[Reply]]:
        """Ask each server the same, what may be asked twice; one list of replies per server.

        Raises:
            LinkLostError: one does not answer.

        """
        ...

    def gather(self, batches: Sequence[Batch]) -> list[list[Reply]]:
        """Carry out what may be done twice without harm; one round trip per server, all of them answered.

        Raises:
            LinkLostError: a connection broke, also the second time.

        """
        ...

    def gather_reached(self, batches: Sequence[Batch]) -> list[list[Reply] | None]:
        """Do as `gather`, but with None for the batches of a server that does not answer.

        Raises:
            LinkLostError: no server answers.

        """
        ...

    def wait(self, batch: Batch, block_ms: int) -> list[Reply]:
        """Carry out commands of which one blocks for up to `block_ms` (at most `MAX_BLOCK_MS`).

        Raises:
            LinkLostError: the connection broke, or nothing came long after `block_ms`.

        """
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
