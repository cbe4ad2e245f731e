"""A survey of a whole namespace, for people who suspect that something was lost: all that can be inspected, once.

Reads the name of every key and looks at every workflow: for `doctor`, not for a timer.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, islice

from stabilize_celery.engine import places
from stabilize_celery.engine.steps import Fields, workflow_slot
from stabilize_celery.errors import PayloadError
from stabilize_celery.runtime.findings import Finding
from stabilize_celery.runtime.inspection import Scope
from stabilize_celery.runtime.mender import Mender
from stabilize_celery.runtime.ports import Publisher
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Kind, Store

__all__ = ["survey", "unreadable"]

_NAMES_AT_ONCE = 1_000
_WORKFLOWS_AT_ONCE = 10
"""Per partition."""
_ALL = 1_000_000
_META = Fields(places.DEFINITION, ("meta",))


def survey(store: Store, publisher: Publisher, settings: Settings, *, mends: bool) -> list[Finding]:
    """Inspect every ledger entry, every workflow and every lock; return what was found, mended if wanted.

    Raises:
        UnreachableError: the state server is away; what was mended before is.

    """
    mender = Mender(store, publisher, settings, mends)
    found: dict[tuple[str, str, str], Finding] = {}
    for finding in chain(_entries(mender), _workflows(mender, "running"), _workflows(mender, "ended"), _locks(mender)):
        # An entry that is not mended is found by its key, and again with its workflow.
        found.setdefault((finding.kind, finding.workflow_id, finding.told), finding)
    return list(found.values())


def unreadable(store: Store) -> dict[str, str]:
    """Return the running workflows whose definition can't be opened with the keys and files of this process, and why.

    Raises:
        UnreachableError: the state server is away.

    """
    found: dict[str, str] = {}
    for ids in _indexed(store, "running"):
        if _why_closed(store, ids):
            found |= {one: told for one in ids if (told := _why_closed(store, [one]))}
    return found


def _why_closed(store: Store, ids: Sequence[str]) -> str:
    try:
        for snapshot in store.look_many([(workflow_slot(one), (_META,)) for one in ids]):
            snapshot[_META].get("meta")
    except PayloadError as error:
        return str(error)
    return ""


def _entries(mender: Mender) -> Iterator[Finding]:
    names = _names(mender.store)
    while part := set(islice(names, _NAMES_AT_ONCE)):
        by_workflow: dict[str, list[str]] = {}
        for workflow_id, name in sorted(part):
            by_workflow.setdefault(workflow_id, []).append(name)
        yield from mender.entries(by_workflow)


def _names(store: Store) -> Iterator[tuple[str, str]]:
    """Yield every name that stands anywhere in the ledger: as an entry, due, or dead. Some come twice."""
    yield from store.owed()
    for number in range(store.partitions()):
        _, due = store.first_due([number], _ALL)
        yield from ((entry.workflow_id, entry.name) for entry in due[number])
    yield from ((letter.workflow_id, letter.name) for letter in store.dead_letters())


def _workflows(mender: Mender, kind: Kind) -> Iterator[Finding]:
    for ids in _indexed(mender.store, kind):
        yield from mender.workflows(ids, Scope())[0]


def _indexed(store: Store, kind: Kind) -> Iterator[list[str]]:
    """Yield the ids of all workflows of a kind, some at a time."""
    seen = dict.fromkeys(range(store.partitions()), 0)
    while seen:
        chosen = store.indexed(kind, seen, _WORKFLOWS_AT_ONCE)
        yield [name for ids in chosen.values() for name in ids]
        seen = {number: seen[number] + len(ids) for number, ids in chosen.items() if ids}


def _locks(mender: Mender) -> Iterator[Finding]:
    for lock in mender.store.locks():
        names = [*lock.holders, *(waiter for waiter, _ in lock.waiters)]
        yield from mender.owners(dict.fromkeys(names, lock.name))
