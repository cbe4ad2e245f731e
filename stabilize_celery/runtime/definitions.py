"""What this process has read of definitions, which never change: parts of recent workflows need not be read again."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import zone_fields
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.steps import Fields, Hash, Query, Snapshot, readable
from stabilize_celery.store.contract import Session, Transaction

__all__ = ["Definitions", "KnowingSession", "Parts"]

MOST_PARTS = 8_192
"""How many parts are remembered: plans with contexts and zones of stages, contexts of workflows."""
LARGEST_BYTES = 8_192
"""Larger parts are read each time."""
MOST_WORKFLOWS = 2_048
"""Of how many workflows parts are remembered; those not looked at for longest are forgotten."""

_RECORD = Hash(places.WORKFLOW)
_CONTEXT = ("context",)
_STAGE = "s:"
_NOTHING: Mapping[str, bytes] = {}

Parts: TypeAlias = Mapping[Query, Mapping[str, bytes]]
"""Answers to queries for parts of one definition."""


class Definitions:
    """Parts of definitions as answers to the queries for them. Threads may share it.

    By workflow id, with the digest of its definition: another workflow may come to have the id.
    """

    def __init__(self) -> None:
        self._workflows: OrderedDict[str, tuple[bytes, dict[Query, Mapping[str, bytes]]]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def newest(self, workflow_id: str) -> tuple[bytes, Parts]:
        """Return the digest of the definition that a workflow had when it was last looked at, and what is known of it.

        An unknown one is empty.
        """
        with self._lock:
            if workflow_id not in self._workflows:
                return b"", {}
            self._workflows.move_to_end(workflow_id)
            return self._workflows[workflow_id]

    def of(self, workflow_id: str, digest: bytes) -> Parts:
        """Return what is known of a definition, by what asks for it. It grows as more is learnt."""
        with self._lock:
            return self._of(workflow_id, digest)

    def learn(self, workflow_id: str, digest: bytes, query: Fields, answer: Mapping[str, bytes]) -> None:
        """Remember what fields of a definition are, if they are a part of it.

        Stages that a builder planned may be planned anew: they are not kept.
        """
        name = query.fields[0]
        if not _is_part(query) or name not in answer or readable(answer) is not answer:
            return
        if sum(map(len, answer.values())) > LARGEST_BYTES:
            return
        if name == _CONTEXT[0]:
            self._keep(workflow_id, digest, query, answer)
        elif (plan := decode_plan(answer[name])).owner is None:
            self._keep(workflow_id, digest, query, answer)
            if not plan.component:
                # Nobody counts what comes to a stage that bears no component.
                self._keep(workflow_id, digest, zone_fields(plan.ref), _NOTHING)

    def _keep(self, workflow_id: str, digest: bytes, query: Query, answer: Mapping[str, bytes]) -> None:
        with self._lock:
            parts = self._of(workflow_id, digest)
            self._size += query not in parts
            parts[query] = answer
            self._forget_oldest()

    def _of(self, workflow_id: str, digest: bytes) -> dict[Query, Mapping[str, bytes]]:
        found = self._workflows.pop(workflow_id, (digest, {}))
        if found[0] != digest:
            self._size -= len(found[1])
            found = (digest, {})
        self._workflows[workflow_id] = found
        self._forget_oldest()
        return found[1]

    def _forget_oldest(self) -> None:
        while self._size > MOST_PARTS or len(self._workflows) > MOST_WORKFLOWS:
            _, (_, gone) = self._workflows.popitem(last=False)
            self._size -= len(gone)


class KnowingSession:
    """A session on a workflow's slot that does not ask for what this process knows of its definition.

    Which definition the workflow has is read in the same round trip, and WATCHed by every handler: if it is another
    one by now, what was left out is read after all.
    """

    def __init__(self, session: Session, workflow_id: str, definitions: Definitions) -> None:
        self._session = session
        self._workflow_id = workflow_id
        self._definitions = definitions
        self._digest = b""
        self._parts: Parts = {}

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> Snapshot:
        """As a session does."""
        known, unknown = self._parted(queries)
        return self._whole(self._session.read(unknown, watch), known)

    def commit(self, transaction: Transaction) -> list[int | None] | None:
        """As a session does."""
        return self._session.commit(transaction)

    def commit_and_read(
        self, transaction: Transaction, queries: Sequence[Query], watch: Sequence[str] = ()
    ) -> tuple[list[int | None], Snapshot] | None:
        """As a session does."""
        known, unknown = self._parted(queries)
        answer = self._session.commit_and_read(transaction, unknown, watch)
        return None if answer is None else (answer[0], self._whole(answer[1], known))

    def _parted(self, queries: Sequence[Query]) -> tuple[Parts, Sequence[Query]]:
        if not self._digest and _RECORD in queries:
            self._digest, self._parts = self._definitions.newest(self._workflow_id)
        parts = self._parts
        if not parts:
            return {}, queries
        known = {query: parts[query] for query in queries if query in parts}
        return known, [query for query in queries if query not in known]

    def _whole(self, found: Snapshot, known: Parts) -> Snapshot:
        digest = found.get(_RECORD, {}).get("digest", self._digest)
        if digest != self._digest:
            self._digest, self._parts = digest, self._definitions.of(self._workflow_id, digest)
            if known:
                found, known = found.merged(self._session.read(list(known))), {}
        for query, answer in found.answers() if digest else ():
            if type(query) is Fields and query.key == places.DEFINITION:
                self._definitions.learn(self._workflow_id, digest, query, answer)
        return found.and_known(known) if known else found


def _is_part(query: Fields) -> bool:
    return query.fields == _CONTEXT or query.fields[0].startswith(_STAGE)
