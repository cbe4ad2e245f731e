"""What happened in a run, in words and in order."""

from dataclasses import dataclass, field

from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.steps import Slot
from stabilize_celery.store.contract import Bury, Drop, Put, Transaction, Undue
from tests.simulation.fleet.actors import START_US, Loop

__all__ = ["Story"]


@dataclass(slots=True)
class Story:
    """Lines with their time, written down only if somebody wants to read them."""

    loop: Loop
    is_wanted: bool = False
    lines: list[str] = field(default_factory=list)
    _mark: int = 0

    def tell(self, line: str) -> None:
        """Add a line."""
        if self.is_wanted:
            at_s = (self.loop.now_us - START_US) / 1_000_000
            self.lines.append(f"{at_s:11.6f} s  {line}")

    def tell_commit(self, slot: Slot, transaction: Transaction) -> None:
        """Add what a commit does."""
        if self.is_wanted:
            actor = self.loop.current
            who = actor.name if actor is not None else "the test"
            self.tell(f"{who} commits to {slot.name}: {'; '.join(_told(transaction)) or 'changes only'}")


def _told(transaction: Transaction) -> list[str]:
    told = []
    for event in transaction.events:
        packed = event["data"]
        data = unpack(packed) if isinstance(packed, bytes) else {}
        details = ", ".join(f"{name} {value}" for name, value in data.items())
        told.append(f"{event['kind']} {event['ref']} ({details})".strip())
    rows = ((Put, "owes"), (Drop, "forgets"), (Undue, "parks"), (Bury, "buries"))
    for kind, verb in rows:
        if names := [entry.name for entry in transaction.ledger if isinstance(entry, kind)]:
            told.append(f"{verb} {' '.join(names)}")
    if not told:
        keys = sorted({str(getattr(change, "key", "")) for change in transaction.changes})
        due = [getattr(entry, "name", "") for entry in transaction.ledger]
        told.append(f"writes {' '.join(keys)}; looks later at {' '.join(due)}")
    return told
