"""Where a slot's logical keys lie: the one place that turns names of the engine into keys of the server."""

import msgspec

from stabilize_celery.engine.steps import Slot
from stabilize_celery.store import keys
from stabilize_celery.store.errors import StoreError
from stabilize_celery.store.values import name_of

__all__ = ["Address", "address_of"]


class Address(msgspec.Struct, frozen=True):
    """The keys of one slot. `workflow_id` is None for a whole partition; `partition` is None for a lock."""

    prefix: str
    partition: str | None = None
    workflow_id: str | None = None

    def key(self, logical: str) -> str:
        """Return the key of a logical name."""
        # Nearly all are plain.
        is_plain = type(logical) is str and logical.isascii() and logical
        return self.prefix + (logical if is_plain else name_of(logical, "key"))

    def entry(self, name: str) -> tuple[str, str]:
        """Return the key of a ledger entry, and its member in `due`.

        Raises:
            StoreError: the slot has no ledger, or `name` does not say whose entry it is.

        """
        name_of(name, "ledger name")
        if self.workflow_id is not None:
            return keys.entry(self.prefix, name), f"{self.workflow_id}/{name}"
        workflow_id, slash, own_name = name.partition("/")
        if not slash or not own_name:
            raise StoreError(f"ledger name {name!r} in a partition: write it as '<workflow id>/<name>'")
        prefix = keys.workflow_prefix(self.prefix, keys.check_workflow_id(workflow_id))
        return keys.entry(prefix, own_name), name

    def of_partition(self) -> str:
        """Return the prefix of the partition.

        Raises:
            StoreError: a lock is in no partition.

        """
        if self.partition is None:
            raise StoreError("a lock's slot has no ledger, no events and no index; use the workflow's slot")
        return self.partition

    def of_workflow(self) -> tuple[str, str]:
        """Return the prefix of the partition and the workflow's id.

        Raises:
            StoreError: the slot is not that of one workflow.

        """
        if self.partition is None or self.workflow_id is None:
            raise StoreError("events and the index belong to one workflow; use its own slot")
        return self.partition, self.workflow_id


def address_of(slot: Slot, namespace: str, partition_count: int) -> Address:
    """Return where a slot lies.

    Raises:
        StoreError: the slot's kind is unknown, or its name can't be one.

    """
    match slot.kind:
        case "workflow":
            workflow_id = keys.check_workflow_id(slot.name)
            partition = keys.partition_prefix(namespace, keys.partition_of(workflow_id, partition_count))
            return Address(keys.workflow_prefix(partition, workflow_id), partition, workflow_id)
        case "lock":
            return Address(keys.lock_prefix(namespace, name_of(slot.name, "lock")))
        case "partition":
            if not slot.name.isdecimal() or int(slot.name) >= partition_count:
                raise StoreError(f"partition {slot.name!r}: the namespace has 0 to {partition_count - 1}")
            partition = keys.partition_prefix(namespace, int(slot.name))
            return Address(partition, partition)
        case _:
            raise StoreError(f"slot kind {slot.kind!r} is unknown; use workflow, lock or partition")
