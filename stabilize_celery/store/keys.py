"""Every Redis key this package owns; no other file spells one.

A key starts with the namespace and a hash tag, so that what one transaction touches is one slot of a Redis Cluster:
`<ns>:{pNN}:` for partitions and the workflows in them, `<ns>:{L:<lock>}:` for locks. What stands inside a workflow
(`w`, `d`, `c`, `r:<thread>` ...) is named by engine/places.py and gets the workflow's prefix here.
"""

import binascii
import re
from urllib.parse import unquote

from stabilize_celery.engine.ids import narrowed
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.store.errors import NoWorkflowIdError

__all__ = [
    "DEFAULT_PARTITIONS",
    "SCHEDULES",
    "SCHEDULES_DUE",
    "STATUSES",
    "bell",
    "buried",
    "check_workflow_id",
    "due",
    "ended",
    "entry",
    "entry_name",
    "entry_pattern",
    "events",
    "index_application",
    "index_every",
    "index_name",
    "index_status",
    "is_ledger_name",
    "latest_of_key",
    "lease",
    "lock_name",
    "lock_pattern",
    "lock_prefix",
    "partition_of",
    "partition_prefix",
    "partitions",
    "probes",
    "running",
    "schedule_record",
    "workers",
    "workflow",
    "workflow_prefix",
]

DEFAULT_PARTITIONS = 16
"""Partitions of a new namespace (count)."""

STATUSES = tuple(status.name for status in WorkflowStatus)
"""The statuses that a workflow is listed by. Part of the keys: a status is never renamed."""

# `/` ends the id in a ledger name and `:` in a key; braces would be a hash tag; `ix` would be an index.
_WORKFLOW_ID = re.compile(r"(?!ix$)[^/:{}\s\x00-\x1f\ud800-\udfff]{1,200}")


# -- prefixes ----------------------------------------------------------------------------------------------------------


def check_workflow_id(workflow_id: str) -> str:
    """Return `workflow_id` if keys can carry it.

    Raises:
        NoWorkflowIdError: it is empty, longer than 200 characters, has `/`, `:`, braces or white space in it, or half
            of a surrogate pair.

    """
    if not _WORKFLOW_ID.fullmatch(workflow_id):
        raise NoWorkflowIdError(workflow_id)
    return workflow_id


def partition_of(workflow_id: str, partition_count: int) -> int:
    """Return the partition of a workflow: Redis Cluster's CRC16 of its id, mod the number of partitions."""
    return binascii.crc_hqx(workflow_id.encode(), 0) % partition_count


def partition_prefix(namespace: str, partition: int) -> str:
    """Return the start of all keys of a partition, and of the workflows in it."""
    return f"{namespace}:{{p{partition:02d}}}:"


def workflow_prefix(partition: str, workflow_id: str) -> str:
    """Return the start of all keys of a workflow; `partition` is the prefix of its partition."""
    return f"{partition}{workflow_id}:"


def lock_prefix(namespace: str, lock: str) -> str:
    """Return the start of the keys of a lock: `h` holders, `q` waiters, `meta` limit and last token."""
    # A brace in the name would end the hash tag early, and put `h` and `q` of one lock into two slots.
    escaped = lock.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    return f"{namespace}:{{L:{escaped}}}:"


def lock_name(namespace: str, key: str) -> str:
    """Return the name of the lock that `key` belongs to: what `lock_prefix` was made of."""
    start = len(namespace) + len(":{L:")
    return unquote(key[start : key.index("}", start)])


def lock_pattern(namespace: str) -> str:
    """Return the SCAN pattern of the holders and waiters of all locks."""
    return f"{namespace}:{{L:*}}:[hq]"


# -- of the namespace --------------------------------------------------------------------------------------------------


def partitions(namespace: str) -> str:
    """VALUE: how many partitions there are. Written once, for ever."""
    return f"{namespace}:partitions"


def workers(namespace: str) -> str:
    """HASH: worker id to its packed line. Lines older than 60 s are dropped by who writes next."""
    return f"{namespace}:workers"


def probes(namespace: str) -> str:
    """ZSET: queue to the time (ms) of the newest probe that came back. Only grows."""
    return f"{namespace}:q:back"


# -- of a partition ----------------------------------------------------------------------------------------------------


def due(partition: str) -> str:
    """ZSET: `<workflow>/<ledger name>` to the time (ms) of the next look at it. Never WATCHed."""
    return f"{partition}due"


def buried(partition: str) -> str:
    """ZSET: dead letters, `<workflow>/<ledger name>` to the time (ms) of burial. Never WATCHed."""
    return f"{partition}dead"


def lease(partition: str) -> str:
    """VALUE: id of the keeper that looks after the partition. Lives for the lease; proves nothing."""
    return f"{partition}lease"


def running(partition: str) -> str:
    """ZSET: workflows that have not ended, by start time (ms). Swept by repair."""
    return f"{partition}running"


def ended(partition: str) -> str:
    """ZSET: workflows that have ended, by the time (ms) of their end. Read by retention."""
    return f"{partition}ended"


def index_every(partition: str) -> str:
    """ZSET: all workflows, by start time (ms)."""
    return f"{partition}ix:all"


def index_application(partition: str, application: str) -> str:
    """ZSET: the workflows of an application, by start time (ms)."""
    return f"{partition}ix:app:{application}"


def index_name(partition: str, name: str) -> str:
    """ZSET: the workflows of a name, by start time (ms)."""
    return f"{partition}ix:name:{name}"


def index_status(partition: str, status: str) -> str:
    """ZSET: the workflows in a status, by start time (ms). A workflow is in one of them."""
    return f"{partition}ix:status:{status}"


SCHEDULES = "ix:schedules"
"""ZSET of a partition's slot: names of schedules, by when they were added (ms)."""
SCHEDULES_DUE = "ix:schedules:due"
"""ZSET of a partition's slot: names of schedules that are not paused, by their next start (ms). Never WATCHed."""


def schedule_record(name: str) -> str:
    """HASH of a partition's slot: a schedule and its history. No workflow is called ix. WATCHed."""
    return f"ix:schedule:{name}"


def latest_of_key(application: str, key: str) -> str:
    """HASH of a partition's slot: `id` of the last workflow to take a key of an application, `before` of the other."""
    return narrowed("ix:latest", application, key)


# -- of a workflow -----------------------------------------------------------------------------------------------------


def entry(prefix: str, name: str) -> str:
    """HASH: one owed message. Deleted by the commit that carries it out; WATCHed by all its writers."""
    return f"{prefix}m:{name}"


def entry_pattern(namespace: str) -> str:
    """Return the SCAN pattern of the ledger entries of all workflows."""
    return f"{namespace}:{{p*}}:*:m:*"


def entry_name(namespace: str, key: str) -> str:
    """Return the member of `due` that belongs to an entry's key; empty if the key is no entry's."""
    rest = key[len(namespace) + 1 :].partition("}:")[2]
    workflow_id, _, name = rest.partition(":m:")
    member = f"{workflow_id}/{name}"
    return member if is_ledger_name(member) else ""


def is_ledger_name(member: str) -> bool:
    """Return whether a member of `due` names a ledger entry: `<workflow>/<ledger name>`."""
    workflow_id, _, name = member.partition("/")
    return bool(name) and _WORKFLOW_ID.fullmatch(workflow_id) is not None


def events(prefix: str) -> str:
    """STREAM: the history of a workflow. Lives as long as the workflow."""
    return f"{prefix}ev"


def bell(prefix: str, listener: str) -> str:
    """STREAM: wakes one listener that waits for events of a partition's workflows. Gone once it has heard it."""
    return f"{prefix}bell-{listener}"


def workflow(prefix: str) -> str:
    """HASH: status, names and times of a workflow. WATCHed by every handler, written rarely."""
    return f"{prefix}w"
