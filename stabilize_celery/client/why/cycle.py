"""A deadlock in words: who holds what, what keeps it from giving that back, and which commands would break it."""

from dataclasses import dataclass
from typing import Any

from stabilize_celery.client.why.locks import Party, told_key
from stabilize_celery.client.words import command_line, duration

__all__ = ["MOST_TOLD", "Deadlock", "Link"]

MOST_TOLD = 10
"""So many parties of a deadlock are told in words (count); JSON has all."""


@dataclass(frozen=True, slots=True)
class Link:
    """One party: `holder` holds the lock `holds` and can't end before `waiter` gets the lock `wants`.

    Attributes:
        relation: What the waiter is to the holder: `before stage`, `after stage`, `on-failure stage`, `stage` (of its
            section, or of the workflow that holds a slot), `inner workflow`; `join`: a join in its section needs it.
        identity: Owners and locks, the same as long as this is so.

    """

    holder: Party
    holds: str
    waiter: Party
    wants: str
    relation: str
    identity: tuple[str, str, str, str]

    def told(self, now_ms: int) -> str:
        """Return it as a sentence."""
        held_for, waiting_for = (duration(now_ms - party.since_ms) for party in (self.holder, self.waiter))
        held = f"{self.holder} holds {told_key(self.holds)} for {held_for}"
        return f"{held}; {self._waiter()} has waited {waiting_for} for {told_key(self.wants)}"

    def _waiter(self) -> str:
        is_elsewhere = self.waiter.workflow_id != self.holder.workflow_id
        name = str(self.waiter) if is_elsewhere else self.waiter.ref_id
        return f"stage {name}, which a join in it needs," if self.relation == "join" else f"its {self.relation} {name}"

    @property
    def commands(self) -> tuple[str, ...]:
        """Command lines, each of which would free the lock that it holds."""
        party = self.holder if self.holder.ref_id and not self.holder.section else self.waiter
        stage = command_line("cancel-stage", party.workflow_id, party.ref_id)
        return (*((stage,) if party.ref_id else ()), command_line("cancel", self.holder.workflow_id))

    def as_object(self) -> dict[str, Any]:
        """Return it as JSON has it. Times in epoch ms."""
        return {
            "holder": _object(self.holder),
            "holds": self.holds,
            "held_since_ms": self.holder.since_ms,
            "waiter": _object(self.waiter),
            "wants": self.wants,
            "waiting_since_ms": self.waiter.since_ms,
            "relation": self.relation,
            "commands": list(self.commands),
        }


def _object(party: Party) -> dict[str, str]:
    told = {"workflow_id": party.workflow_id, "workflow_name": party.workflow_name, "ref_id": party.ref_id}
    return {**told, **({"section": party.section} if party.section else {})}


@dataclass(frozen=True, slots=True)
class Deadlock:
    """Parties of which none can go on before another one ends; each holds what the one before it wants."""

    links: tuple[Link, ...]
    workflow_ids: frozenset[str]

    def told(self, now_ms: int) -> list[str]:
        """Return the parties as sentences, the first ones where there are many."""
        lines = [link.told(now_ms) for link in self.links[:MOST_TOLD]]
        more = len(self.links) - MOST_TOLD
        return [*lines, *([f"and {more} more"] if more > 0 else [])]

    def as_objects(self) -> list[dict[str, Any]]:
        """Return the parties as JSON has them."""
        return [link.as_object() for link in self.links]

    @property
    def commands(self) -> tuple[str, ...]:
        """Command lines, each of which would break it: those that end one stage first."""
        stages = [line for link in self.links for line in link.commands[:-1]]
        return tuple(dict.fromkeys([*stages, *(link.commands[-1] for link in self.links)]))
