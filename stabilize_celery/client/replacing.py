"""One workflow per key: a newer one takes the place of the one that waits or runs."""

from collections.abc import Callable, Mapping
from typing import Any

from stabilize_celery.engine.ids import narrowed
from stabilize_celery.engine.locks import Owner
from stabilize_celery.engine.steps import Expire, Hash, SetFields, lock_slot
from stabilize_celery.errors import ConcurrencyError
from stabilize_celery.models.definition import from_definition, to_definition
from stabilize_celery.models.problems import Problem, refusal, shown
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.store.contract import Store, Transaction, partition_slot
from stabilize_celery.store.keys import latest_of_key

__all__ = ["check_replacement", "only_one", "take_the_place"]

_TRIES = 20
_REMEMBERED_MS = 30 * 24 * 3600 * 1000
"""How long a key is remembered after its last use (ms); who still runs then is found by its lock."""
_HOLDERS = Hash("h")
_LONGEST_S = 100 * 366 * 24 * 3600
"""A later start would be nobody's wish (s)."""


def check_replacement(key: object, delay_s: object) -> None:
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


def only_one(workflow: Workflow | Mapping[str, Any], key: str, starts_ms: int) -> Workflow:
    """Return a copy that waits while another of its key runs, and begins at `starts_ms` at the earliest."""
    if isinstance(workflow, Workflow):
        copy = from_definition(to_definition(workflow), workflow_id=workflow.id)
    else:
        copy = from_definition(workflow)
    copy.pipeline_config_id = key
    copy.is_limit_concurrent, copy.max_concurrent_executions, copy.keep_waiting_pipelines = True, 1, True
    for stage in copy.initial_stages() if starts_ms else ():
        stage.scheduled_time = max(starts_ms, stage.scheduled_time or 0)
    return copy


def take_the_place(store: Store, workflow: Workflow, cancel: Callable[[str], object]) -> None:
    """Cancel whatever had the key until now. The last one that comes here has it: each cancels the one before."""
    before = _exchange(store, workflow)
    if before and before != workflow.id:
        cancel(before)
    lock = narrowed("PIPELINE", workflow.application, workflow.pipeline_config_id or "")
    for owner in store.look(lock_slot(lock), [_HOLDERS])[_HOLDERS]:
        workflow_id = Owner.parse(owner).workflow_id
        if workflow_id not in (before, workflow.id) and _is_still(store, workflow):
            cancel(workflow_id)


def _is_still(store: Store, workflow: Workflow) -> bool:
    """Whether nobody has taken the key since: who holds the lock now may be the one who did."""
    key = _key(workflow)
    fields = store.look(partition_slot(store.partition_of(key)), [Hash(key)]).hash(key)
    return fields.get("id", b"").decode() == workflow.id


def _exchange(store: Store, workflow: Workflow) -> str:
    key = _key(workflow)
    for _ in range(_TRIES):
        with store.session(partition_slot(store.partition_of(key))) as session:
            before = session.read([Hash(key)], [key]).hash(key).get("id", b"").decode()
            changes = (SetFields(key, {"id": workflow.id}), Expire(key, _REMEMBERED_MS))
            if session.commit(Transaction(changes)) is not None:
                return before
    raise ConcurrencyError(f"workflow {workflow.id} waits: other workflows keep taking its key; try again")


def _key(workflow: Workflow) -> str:
    return latest_of_key(workflow.application, workflow.pipeline_config_id or "")
