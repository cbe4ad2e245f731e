"""A survey of a whole namespace, for people who suspect that something was lost: all that can be inspected, once.

Reads the name of every key and looks at every workflow: for `doctor`, not for a timer.
"""

from collections.abc import Iterator
from itertools import chain, islice

from stabilize_celery.runtime.findings import Finding
from stabilize_celery.runtime.inspection import Scope
from stabilize_celery.runtime.mender import Mender
from stabilize_celery.runtime.ports import Publisher
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Kind, Store

__all__ = ["survey"]

_NAMES_AT_ONCE = 1_000
_WORKFLOWS_AT_ONCE = 10
"""Per partition."""
_ALL = 1_000_000


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
    places = dict.fromkeys(range(mender.store.partitions()), 0)
    while places:
        chosen = mender.store.indexed(kind, places, _WORKFLOWS_AT_ONCE)
        yield from mender.workflows([name for ids in chosen.values() for name in ids], Scope())[0]
        places = {number: places[number] + len(ids) for number, ids in chosen.items() if ids}


def _locks(mender: Mender) -> Iterator[Finding]:
    for lock in mender.store.locks():
        names = [*lock.holders, *(waiter for waiter, _ in lock.waiters)]
        yield from mender.owners(dict.fromkeys(names, lock.name))
