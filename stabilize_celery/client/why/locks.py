"""Locks as people see them: which stage of which workflow holds one, since when, and who waits in which order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

from stabilize_celery.client.words import short_id
from stabilize_celery.engine import places
from stabilize_celery.engine.locks import Owner
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.sections import section_thread
from stabilize_celery.engine.state import ENTRY, RUN, WORKFLOW_RECORD, Run, WorkflowRecord
from stabilize_celery.engine.steps import Fields, Hash, Query, Ranked, Slot, lock_slot, workflow_slot
from stabilize_celery.models.messages import run_name
from stabilize_celery.runtime.fleet import worker_of
from stabilize_celery.store.contract import LockState, Store

__all__ = ["LockFacts", "Party", "all_locks", "granted_ms", "read_locks", "read_states", "shown_key", "told_key"]

MOST_NAMED = 100
"""So many of those who wait for a lock are named in full (count); of the others only the ids are told."""

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
    section: str = ""
    """Name of the mutex section; then `ref_id` is the stage that asked for it."""
    has_ended: bool = False
    """It holds the lock for code that has not returned yet."""
    is_paused: bool = False
    """Its workflow is paused."""

    def __str__(self) -> str:
        name = f"{self.workflow_name or 'workflow'} {short_id(self.workflow_id)}"
        if self.section:
            return f"{name} / section {self.section}"
        return f"{name} / {self.ref_id}" if self.ref_id else name


@dataclass(frozen=True, slots=True)
class LockFacts:
    """A lock; `name` is its full name `SCOPE:key`. Waiters stand in the order in which they will get it."""

    name: str
    limit: int
    holders: Sequence[Party]
    waiters: Sequence[Party]

    @property
    def scope(self) -> str:
        """GLOBAL, APPLICATION, WORKFLOW, or PIPELINE for the slots of one."""
        return self.name.partition(":")[0]

    @property
    def within(self) -> str:
        """What the scope is narrowed to: an application's name, a workflow's id; empty for GLOBAL."""
        return "" if self.scope == "GLOBAL" else unquote(self.name.split(":", 2)[1])

    @property
    def key(self) -> str:
        """The key as its stages name it; of a pipeline's slots, its `pipeline_config_id`."""
        return self.name.split(":", 1 if self.scope == "GLOBAL" else 2)[-1]


def shown_key(name: str) -> str:
    """Return the key of a lock as its users wrote it, the full name unless its scope is GLOBAL."""
    scope, _, key = name.partition(":")
    return key if scope == "GLOBAL" else name


def told_key(name: str) -> str:
    """Return the key of a lock in quotes, as its users wrote it, with its scope unless that is GLOBAL."""
    scope, _, rest = name.partition(":")
    owner, _, key = rest.partition(":")
    if scope == "GLOBAL":
        return repr(rest)
    return f"{key!r} (scope {scope})" if scope == "WORKFLOW" else f"{key!r} (scope {scope} {unquote(owner)})"


def granted_ms(token: int) -> int:
    """Return when a token was given: it is that time, unless the server's clock was set back since the last one."""
    return token // 1000


def all_locks(store: Store) -> list[LockFacts]:
    """Return every lock that is held or waited for."""
    return list(_told(store, store.locks()).values())


def read_locks(store: Store, names: Sequence[str]) -> dict[str, LockFacts]:
    """Return the locks of these full names."""
    return _told(store, read_states(store, names))


def read_states(store: Store, names: Sequence[str]) -> list[LockState]:
    """Return who holds the locks of these full names, and who waits, by owner; one round trip."""
    if not names:
        return []
    queries: Sequence[Query] = (_HOLDERS, _WAITERS, _META)
    found = store.look_many([(lock_slot(name), queries) for name in names])
    return [
        LockState(
            name,
            int(snapshot[_META].get("limit", b"1")),
            {owner: int(token) for owner, token in snapshot[_HOLDERS].items()},
            [(owner, int(score) // 1000) for owner, score in snapshot[_WAITERS]],
        )
        for name, snapshot in zip(names, found, strict=True)
    ]


def _told(store: Store, states: Iterable[LockState]) -> dict[str, LockFacts]:
    states = list(states)
    named = {name for state in states for name in (*state.holders, *(name for name, _ in state.waiters[:MOST_NAMED]))}
    parties = _parties(store, {name: Owner.parse(name) for name in sorted(named)})
    return {
        state.name: LockFacts(
            state.name,
            state.limit,
            [_holder(parties[name], token) for name, token in state.holders.items()],
            [replace(parties.get(name) or _unnamed(name), since_ms=since_ms) for name, since_ms in state.waiters],
        )
        for state in states
    }


def _holder(party: Party, token: int) -> Party:
    return replace(party, token=token, since_ms=party.since_ms or granted_ms(token))


def _unnamed(name: str) -> Party:
    owner = Owner.parse(name)
    return Party(owner.workflow_id, "", "", owner.thread, 0)


def _parties(store: Store, owners: Mapping[str, Owner]) -> dict[str, Party]:
    record = Hash(places.WORKFLOW)
    keys = {name: Hash(places.run(owner.thread)) for name, owner in owners.items()}
    found = _look(store, owners, {name: (record, key) for name, key in keys.items()})
    runs = {name: RUN.decode(run) for name, (_, run) in found.items()}
    tasks = {
        name: Hash(places.ledger(run_name(owners[name].thread, None, run.task_index))) for name, run in runs.items()
    }
    plans = {name: Fields(places.DEFINITION, (f"s:{run.ref}",)) for name, run in runs.items()}
    more = _look(store, owners, {name: (tasks[name], plans[name]) for name, run in runs.items() if run.ref})
    return {
        name: _party(owner, WORKFLOW_RECORD.decode(found[name][0]), runs[name], *more.get(name, ({}, {})))
        for name, owner in owners.items()
    }


def _party(
    owner: Owner, workflow: WorkflowRecord, run: Run, task: Mapping[str, bytes], plans: Mapping[str, bytes]
) -> Party:
    claimed_by = ENTRY.decode(task).own if run.started_ms else ""
    worker = worker_of(claimed_by) if claimed_by else ""
    names = {plan.mutex_section for plan in map(decode_plan, plans.values()) if plan.mutex_section}
    section = next((name for name in names if section_thread(name) == owner.thread), "")
    return Party(
        owner.workflow_id,
        workflow.name,
        run.ref,
        owner.thread,
        run.started_ms,
        worker=worker,
        section=section,
        has_ended=workflow.exists and (not workflow.is_live or (run.code_runs and run.is_ended)),
        is_paused=workflow.status == "PAUSED",
    )


def _look(
    store: Store, owners: Mapping[str, Owner], queries: Mapping[str, Sequence[Query]]
) -> dict[str, tuple[Mapping[str, bytes], Mapping[str, bytes]]]:
    asked: list[tuple[Slot, Sequence[Query]]] = [
        (workflow_slot(owners[name].workflow_id), pair) for name, pair in queries.items()
    ]
    found = store.look_many(asked, without_payloads=True) if asked else []
    return {
        name: (snapshot[pair[0]], snapshot[pair[1]])
        for (name, pair), snapshot in zip(queries.items(), found, strict=True)
    }
