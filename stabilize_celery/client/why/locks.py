"""Locks as people see them: which stage of which workflow holds one, since when, and who waits in which order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stabilize_celery.client.why.fleet import worker_of
from stabilize_celery.client.words import short_id
from stabilize_celery.engine import places
from stabilize_celery.engine.locks import Owner
from stabilize_celery.engine.state import ENTRY, RUN, WORKFLOW_RECORD
from stabilize_celery.engine.steps import Hash, Query, Ranked, Slot, lock_slot, workflow_slot
from stabilize_celery.models.messages import run_name
from stabilize_celery.store.contract import LockState, Store

__all__ = ["LockFacts", "Party", "all_locks", "read_locks", "shown_key"]

_HOLDERS, _WAITERS, _META = Hash("h"), Ranked("q"), Hash("meta")


@dataclass(frozen=True, slots=True)
class Party:
    """Who holds a lock, or waits for it. `ref_id` is empty where the whole workflow does. Times in epoch ms."""

    workflow_id: str
    workflow_name: str
    ref_id: str
    thread: str
    since_ms: int
    token: int = 0
    worker: str = ""
    """Id of the worker that runs the holder's task now, if one does."""

    def __str__(self) -> str:
        name = f"{self.workflow_name or 'workflow'} {short_id(self.workflow_id)}"
        return f"{name} / {self.ref_id}" if self.ref_id else name


@dataclass(frozen=True, slots=True)
class LockFacts:
    """A lock; `name` is its full name `SCOPE:key`. Waiters stand in the order in which they will get it."""

    name: str
    limit: int
    holders: Sequence[Party]
    waiters: Sequence[Party]


def shown_key(name: str) -> str:
    """Return the key of a lock as its users wrote it."""
    scope, _, key = name.partition(":")
    return key if scope == "GLOBAL" else name


def all_locks(store: Store) -> list[LockFacts]:
    """Return every lock that is held or waited for."""
    return list(_told(store, store.locks()).values())


def read_locks(store: Store, names: Sequence[str]) -> dict[str, LockFacts]:
    """Return the locks of these full names."""
    if not names:
        return {}
    queries: Sequence[Query] = (_HOLDERS, _WAITERS, _META)
    found = store.look_many([(lock_slot(name), queries) for name in names])
    states = [
        LockState(
            name,
            int(snapshot[_META].get("limit", b"1")),
            {owner: int(token) for owner, token in snapshot[_HOLDERS].items()},
            [(owner, int(score) // 1000) for owner, score in snapshot[_WAITERS]],
        )
        for name, snapshot in zip(names, found, strict=True)
    ]
    return _told(store, states)


def _told(store: Store, states: Iterable[LockState]) -> dict[str, LockFacts]:
    states = list(states)
    owners = {name for state in states for name in (*state.holders, *(name for name, _ in state.waiters))}
    parties = _parties(store, {name: Owner.parse(name) for name in owners})
    return {
        state.name: LockFacts(
            state.name,
            state.limit,
            [_with(parties[name], token=token) for name, token in state.holders.items()],
            [_with(parties[name], since_ms=since_ms) for name, since_ms in state.waiters],
        )
        for state in states
    }


def _parties(store: Store, owners: Mapping[str, Owner]) -> dict[str, Party]:
    record = Hash(places.WORKFLOW)
    runs = {name: Hash(places.run(owner.thread)) for name, owner in owners.items()}
    asked: list[tuple[Slot, Sequence[Query]]] = [
        (workflow_slot(owner.workflow_id), (record, runs[name])) for name, owner in owners.items()
    ]
    found = dict(zip(owners, store.look_many(asked), strict=True)) if asked else {}
    parties = {}
    for name, owner in owners.items():
        run = RUN.decode(found[name][runs[name]])
        workflow = WORKFLOW_RECORD.decode(found[name][record])
        since_ms = run.started_ms or (workflow.started_ms if not owner.thread else 0)
        parties[name] = Party(owner.workflow_id, workflow.name, run.ref, owner.thread, since_ms)
    return _at_work(store, parties, {name: RUN.decode(found[name][runs[name]]).task_index for name in owners})


def _at_work(store: Store, parties: dict[str, Party], indexes: Mapping[str, int]) -> dict[str, Party]:
    keys = {
        name: Hash(places.ledger(run_name(party.thread, None, indexes[name])))
        for name, party in parties.items()
        if party.thread and party.since_ms
    }
    if not keys:
        return parties
    found = store.look_many([(workflow_slot(parties[name].workflow_id), (key,)) for name, key in keys.items()])
    for (name, key), snapshot in zip(keys.items(), found, strict=True):
        own = ENTRY.decode(snapshot[key]).own
        parties[name] = _with(parties[name], worker=worker_of(own) if own else "")
    return parties


def _with(party: Party, *, token: int = 0, since_ms: int = 0, worker: str = "") -> Party:
    return Party(
        party.workflow_id,
        party.workflow_name,
        party.ref_id,
        party.thread,
        since_ms or party.since_ms,
        token or party.token,
        worker or party.worker,
    )
