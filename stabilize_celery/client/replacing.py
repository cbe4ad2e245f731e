"""One workflow per key: a newer one takes the place of those that wait or run.

The key is taken before the workflow is started, so the last one to take it wins: whoever is seen in its lock, and took
it, took it before. Who finds after its own start that the key was taken since gives way.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stabilize_celery.engine.handler import workflow_of
from stabilize_celery.engine.ids import narrowed
from stabilize_celery.engine.locks import Owner
from stabilize_celery.engine.places import DEFINITION, WORKFLOW
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.steps import Expire, Fields, Hash, Ranked, SetFields, Slot, lock_slot, workflow_slot
from stabilize_celery.errors import ConcurrencyError, WorkflowNotFoundError
from stabilize_celery.models.definition import from_definition, to_definition
from stabilize_celery.models.problems import Problem, refusal, shown
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.store.contract import Store, Transaction, partition_slot
from stabilize_celery.store.keys import latest_of_key

__all__ = ["Replacement", "only_one"]

_TRIES = 20
_REMEMBERED_MS = 30 * 24 * 3600 * 1000
"""How long a key is remembered after its last use (ms); who still runs then is found by its lock."""
_HOLDERS, _WAITERS = Hash("h"), Ranked("q")
_LONGEST_S = 100 * 366 * 24 * 3600
"""A later start would be nobody's wish (s)."""


def _check(key: object, delay_s: object) -> None:
    """Check what `Client.replace` is asked for.

    Raises:
        InvalidWorkflowError: the key is no text, or empty; or the delay is no number of seconds from 0 on.

    """
    problems = []
    if not isinstance(key, str) or not key.strip():
        problems.append(Problem("key", f"must be a text that names the one workflow that may run, not {shown(key)}"))
    # NaN is not at least anything.
    if not isinstance(delay_s, int | float) or not 0 <= delay_s <= _LONGEST_S:
        problems.append(Problem("delay_s", f"must be a number of seconds from 0 on, not {shown(delay_s)}"))
    if problems:
        raise refusal(problems)


@dataclass(frozen=True, slots=True)
class Replacement:
    """A valid workflow that takes the place of what has its key. `take_key`, start it, `take_place`; in this order."""

    store: Store
    workflow: Workflow
    is_known: bool
    """It was started by an earlier call: it had the key then, and takes it from nobody who had it since."""

    @classmethod
    def of(cls, store: Store, workflow: Workflow | Mapping[str, Any], key: str, delay_s: float = 0.0) -> "Replacement":
        """Check what is asked for, and look whether it was before: then it begins when it was to begin.

        Raises:
            InvalidWorkflowError: the definition, the key or the delay is wrong. Nothing was changed.

        """
        _check(key, delay_s)
        chosen = only_one(workflow, key)
        chosen.validate()
        first = {f"s:{stage.ref_id}": stage for stage in chosen.initial_stages()}
        plans = Fields(DEFINITION, tuple(first))
        found = store.look(workflow_slot(chosen.id), [Hash(WORKFLOW), plans])
        is_known = workflow_of(found).exists
        starts = {name: decode_plan(plan).scheduled_ms or 0 for name, plan in found[plans].items()}
        starts_ms = found.now_ms + round(delay_s * 1000)
        for name, stage in first.items() if delay_s > 0 else ():
            stage.scheduled_time = max(starts.get(name, 0) if is_known else starts_ms, stage.scheduled_time or 0)
        return cls(store, chosen, is_known)

    def take_key(self) -> None:
        """Be the one that has the key."""
        if self.is_known:
            return
        key = self._key
        for _ in range(_TRIES):
            with self.store.session(self._slot) as session:
                latest = _latest(session.read([Hash(key)], [key]).hash(key))
                if latest == self.workflow.id:
                    return
                changes = (SetFields(key, {"id": self.workflow.id, "before": latest}), Expire(key, _REMEMBERED_MS))
                if session.commit(Transaction(changes)) is not None:
                    return
        raise ConcurrencyError(f"workflow {self.workflow.id} was not started: others keep taking its key; try again")

    def take_place(self, cancel: Callable[[str, str], object]) -> None:
        """Cancel whoever had the key, runs or waits under it: `cancel` gets its id, and that of who replaces it.

        Its own workflow, if another one has taken the key since.
        """
        others = self._in_the_lock()
        fields = self.store.look(self._slot, [Hash(self._key)]).hash(self._key)
        own, latest = self.workflow.id, _latest(fields)
        if latest not in ("", own):
            _cancel_if_there(cancel, own, latest)
            return
        # Those in line first: else one of them begins when who holds the lock has ended.
        for other in dict.fromkeys([*others, fields.get("before", b"").decode()]):
            if other not in ("", own):
                _cancel_if_there(cancel, other, own)

    def _in_the_lock(self) -> list[str]:
        """Return the ids of all that wait or run under the key. The line is read first: who moves up is met twice."""
        lock = narrowed("PIPELINE", self.workflow.application, self.workflow.pipeline_config_id or "")
        found = self.store.look(lock_slot(lock), [_WAITERS, _HOLDERS])
        owners = [*(waiter for waiter, _ in found[_WAITERS]), *found[_HOLDERS]]
        return [Owner.parse(owner).workflow_id for owner in owners]

    @property
    def _key(self) -> str:
        return latest_of_key(self.workflow.application, self.workflow.pipeline_config_id or "")

    @property
    def _slot(self) -> Slot:
        return partition_slot(self.store.partition_of(self._key))


def only_one(workflow: Workflow | Mapping[str, Any], key: str) -> Workflow:
    """Return a copy that waits while another of its key runs."""
    if isinstance(workflow, Workflow):
        copy = from_definition(to_definition(workflow), workflow_id=workflow.id)
    else:
        copy = from_definition(workflow)
    copy.pipeline_config_id = key
    copy.is_limit_concurrent, copy.max_concurrent_executions, copy.keep_waiting_pipelines = True, 1, True
    return copy


def _latest(fields: Mapping[str, bytes]) -> str:
    return fields.get("id", b"").decode()


def _cancel_if_there(cancel: Callable[[str, str], object], workflow_id: str, by: str) -> None:
    # Its retention may be over, or it may not be started yet: then it gives way itself.
    with suppress(WorkflowNotFoundError):
        cancel(workflow_id, by)
