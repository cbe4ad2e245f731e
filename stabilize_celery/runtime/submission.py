"""Starting workflows: once per id or key; those that are started at once share their round trips (decision 018)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.creation import Creation, create_workflow
from stabilize_celery.engine.ids import keyed_workflow_id
from stabilize_celery.engine.state import WORKFLOW_RECORD
from stabilize_celery.engine.steps import Decision, Fields, Handling, Hash, Read, workflow_slot
from stabilize_celery.errors import CommitConflictError, IdempotencyConflictError
from stabilize_celery.models.json_values import copy_json
from stabilize_celery.models.limits import MAX_IDEMPOTENCY_KEY_LENGTH
from stabilize_celery.models.problems import Problem, refusal, shown
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.collecting import without_collector
from stabilize_celery.runtime.unit import UnitOfWork, WorkDone
from stabilize_celery.settings import Settings

__all__ = ["Submissions", "find_key_problem"]

_MOST_TOGETHER = 16
"""So many workflows are written at once (count): workers begin with them while the next are being checked."""
_MOST_BYTES = 1_000_000
"""Or as many as have this much in all (bytes): a server does nothing else while it writes."""
_LOOKED_UP_TOGETHER = 500
"""Keys that are looked up in one round trip (count)."""
_LARGE = 1_000
"""Stages of a definition for which Python's collector would take a third of the time that its start takes (count)."""


@dataclass(frozen=True, slots=True)
class Submissions:
    """Starts workflows through `unit`."""

    unit: UnitOfWork
    settings: Settings

    def one(
        self,
        definition: Mapping[str, Any] | Workflow,
        idempotency_key: str | None,
        workflow_id: str | None = None,
        *,
        trace: str = "",
        fails_closed: bool = False,
    ) -> str:
        """Start a workflow, once per id or key; return its id. See `Runtime.submit`."""
        with _at_rest(definition):
            creation = self._creation(definition, idempotency_key, workflow_id, trace=trace, fails_closed=fails_closed)
            return self._created(creation, self._run(creation))

    def many(
        self, requests: Iterable[tuple[Mapping[str, Any] | Workflow, str | None]], *, trace: str = ""
    ) -> Iterator[str]:
        """Start workflows, each with its idempotency key or None; yield their ids in order.

        Each is started for itself, though several are written in one EXEC.

        Raises:
            InvalidWorkflowError: one is wrong. Those before it are started.
            IdempotencyConflictError: a key, or an id, stands for another definition. Those before it are started.

        """
        waiting: list[Creation] = []
        in_all = 0
        try:
            for definition, idempotency_key in requests:
                with _at_rest(definition):
                    creation = self._creation(definition, idempotency_key, trace=trace)
                size = creation.size
                is_twin = any(one.workflow_id == creation.workflow_id for one in waiting)
                if is_twin or len(waiting) >= _MOST_TOGETHER or in_all + size > _MOST_BYTES:
                    ready, waiting, in_all = waiting, [], 0
                    yield from self._all_created(ready)
                waiting.append(creation)
                in_all += size
        except Exception:
            yield from self._all_created(waiting)
            raise
        yield from self._all_created(waiting)

    def taken(self, digests: Mapping[str, str]) -> list[str]:
        """Return the idempotency keys that stand for other definitions than those with these digests, by key."""
        slots = [workflow_slot(keyed_workflow_id(self.settings.namespace, key)) for key in digests]
        query = Fields(places.WORKFLOW, ("status", "digest"))
        records = [
            WORKFLOW_RECORD.decode(snapshot[query])
            for first in range(0, len(slots), _LOOKED_UP_TOGETHER)
            for snapshot in self.unit.store.look_many(
                [(slot, (query,)) for slot in slots[first : first + _LOOKED_UP_TOGETHER]]
            )
        ]
        found = zip(digests.items(), records, strict=True)
        return [key for (key, digest), record in found if record.status and record.digest != digest]

    def _all_created(self, creations: Sequence[Creation]) -> Iterator[str]:
        slots = [workflow_slot(creation.workflow_id) for creation in creations]
        done = self.unit.run_together(slots, [partial(_creating, creation) for creation in creations])
        for creation, one in zip(creations, done, strict=True):
            yield self._created(creation, one)

    def _run(self, creation: Creation) -> WorkDone:
        return self.unit.run(workflow_slot(creation.workflow_id), lambda _: _creating(creation))

    def _creation(
        self,
        definition: Mapping[str, Any] | Workflow,
        idempotency_key: str | None,
        workflow_id: str | None = None,
        *,
        trace: str,
        fails_closed: bool = False,
    ) -> Creation:
        """Check and compile a workflow under the id that it will have."""
        if idempotency_key is not None:
            if problem := find_key_problem(idempotency_key):
                raise refusal([Problem("idempotency_key", problem)])
            workflow_id = keyed_workflow_id(self.settings.namespace, idempotency_key)
        elif isinstance(definition, Workflow):
            workflow_id = workflow_id or definition.id
        return Creation.of(
            workflow_id or Workflow().id,
            definition,
            retention_ms=self.settings.retention_ms,
            fails_closed=fails_closed,
            key=idempotency_key or "",
            trace=trace,
        )

    def _created(self, creation: Creation, done: WorkDone) -> str:
        """Return the id of what was to be created; raises if that stands for something else."""
        if not done.is_applied:
            done = self._run(creation)
        if not done.is_applied:
            told = f"workflow {creation.workflow_id} was not started: others were first at each try; try again."
            raise CommitConflictError(told)
        if done.decision.call != creation.digest:
            name = f"idempotency key {creation.key!r}" if creation.key else f"workflow id {creation.workflow_id!r}"
            raise IdempotencyConflictError(
                f"{name} stands for another definition already, which was left as it is; this one was not started. "
                "Use another key, or the same definition"
            )
        return creation.workflow_id


def _at_rest(definition: object) -> AbstractContextManager[None]:
    """Let Python's collector rest inside if a definition is large."""
    if isinstance(definition, Workflow):
        stages: object = definition.stages
    else:
        stages = definition.get("stages") if isinstance(definition, Mapping) else None
    is_large = isinstance(stages, list) and len(stages) >= _LARGE
    return without_collector() if is_large else nullcontext()


def find_key_problem(key: object) -> str:
    """Return what is wrong with an idempotency key, which may have come over the wire."""
    if not isinstance(key, str):
        return f"expected text, got {shown(key)}"
    if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY_LENGTH:
        return f"text of {len(key)} characters; 1 to {MAX_IDEMPOTENCY_KEY_LENGTH} are allowed"
    problems: list[Problem] = []
    copy_json(key, "idempotency_key", problems)
    return problems[0].message if problems else ""


def _creating(creation: Creation) -> Handling:
    key = Hash(places.WORKFLOW)
    snapshot = yield Read((key,), (places.WORKFLOW,))
    record = WORKFLOW_RECORD.decode(snapshot[key])
    if record.status:
        return Decision(keeps_entry=True, call=record.digest)
    decision = Decision(call=creation.digest)
    create_workflow(decision, creation, snapshot.now_us)
    return decision
