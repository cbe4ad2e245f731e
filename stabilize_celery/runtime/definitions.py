"""What this process has read of definitions, which never change: parts of recent workflows need not be read again."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from stabilize_celery.engine import places
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.steps import Fields, Hash, Query, Snapshot
from stabilize_celery.store.contract import Session, Transaction

__all__ = ["Definitions", "KnowingSession"]

MOST_PARTS = 4_096
"""How many stages, and contexts of workflows, are remembered; those not looked at for longest are forgotten."""
LARGEST_BYTES = 8_192
"""Larger parts are read each time."""
MOST_WORKFLOWS = 2_048
"""Of how many workflows it is remembered which definition they had."""

_RECORD = Hash(places.WORKFLOW)
_CONTEXT = ("context",)
_STAGE = "s:"
_ZONE = ("in", "live")
_NOTHING: Mapping[str, bytes] = {}

Known = Mapping[Query, Mapping[str, bytes]]


class Definitions:
    """Parts by workflow id, digest of its definition, and name. Another workflow may come to have the id."""

    def __init__(self) -> None:
        self._parts: OrderedDict[tuple[str, bytes, str], Mapping[str, bytes]] = OrderedDict()
        self._digests: OrderedDict[str, bytes] = OrderedDict()

    def newest(self, workflow_id: str) -> bytes:
        """Return the digest of the definition that a workflow had when it was last looked at; empty if unknown."""
        return self._digests.get(workflow_id, b"")

    def saw(self, workflow_id: str, digest: bytes) -> None:
        """Remember which definition a workflow has."""
        self._digests[workflow_id] = digest
        while len(self._digests) > MOST_WORKFLOWS:
            self._digests.popitem(last=False)

    def answer(self, workflow_id: str, digest: bytes, query: Query) -> Mapping[str, bytes] | None:
        """Return what a query for a stage's plan and context, for its zone, or for the workflow's context answers.

        None: it has to be read.
        """
        if type(query) is not Fields:
            return None
        if query.key == places.DEFINITION:
            return self._part(workflow_id, digest, query.fields[0]) if _is_part(query) else None
        if query.fields == _ZONE and query.key.startswith(_COMPONENT):
            name = _STAGE + query.key[len(_COMPONENT) :]
            stage = self._part(workflow_id, digest, name)
            if stage is not None and not decode_plan(stage[name]).component:
                return _NOTHING  # nobody counts what comes to a stage that bears no component
        return None

    def learn(self, workflow_id: str, digest: bytes, query: Query, answer: object) -> None:
        """Remember a part of the definition. Stages that a builder planned may be planned anew: they are not kept."""
        if type(query) is not Fields or query.key != places.DEFINITION or not isinstance(answer, dict):
            return
        name = query.fields[0]
        if not _is_part(query) or name not in answer or sum(map(len, answer.values())) > LARGEST_BYTES:
            return
        if name == _CONTEXT[0] or decode_plan(answer[name]).owner is None:
            self._parts[workflow_id, digest, name] = answer
            while len(self._parts) > MOST_PARTS:
                self._parts.popitem(last=False)

    def _part(self, workflow_id: str, digest: bytes, name: str) -> Mapping[str, bytes] | None:
        key = (workflow_id, digest, name)
        found = self._parts.get(key)
        if found is not None:
            try:
                self._parts.move_to_end(key)
            except KeyError:
                return found  # another thread has just forgotten it
        return found


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

    def _parted(self, queries: Sequence[Query]) -> tuple[Known, Sequence[Query]]:
        self._digest = self._digest or (self._definitions.newest(self._workflow_id) if _RECORD in queries else b"")
        if not self._digest:
            return {}, queries
        known: dict[Query, Mapping[str, bytes]] = {}
        unknown: list[Query] = []
        for query in queries:
            answer = self._definitions.answer(self._workflow_id, self._digest, query)
            if answer is None:
                unknown.append(query)
            else:
                known[query] = answer
        return known, unknown

    def _whole(self, found: Snapshot, known: Known) -> Snapshot:
        digest = found.get(_RECORD, {}).get("digest", self._digest)
        if digest != self._digest:
            self._digest = digest
            self._definitions.saw(self._workflow_id, digest)
            if known:
                found, known = found.merged(self._session.read(list(known))), {}
        if digest:
            for query, answer in found.answers():
                self._definitions.learn(self._workflow_id, digest, query, answer)
        return found.and_known(known) if known else found


def _is_part(query: Fields) -> bool:
    return query.fields == _CONTEXT or query.fields[0].startswith(_STAGE)


_COMPONENT = places.component("")
