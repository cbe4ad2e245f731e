"""What payloads look like in the store: sealed with the user's keys, and the large ones kept elsewhere.

The one place where stored values are not what the engine wrote. Packed values of hashes and events go through it
(contexts, outputs, definitions, signals, history), and texts that may repeat what a task said; ids, names, statuses,
times and counters stay as they are, because listings, locks and the ledger live by them.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from stabilize_celery.engine.places import DEFINITION, FAILURES
from stabilize_celery.engine.steps import Change, Delete, SetFields, Value
from stabilize_celery.errors import PayloadError
from stabilize_celery.store.addresses import Address
from stabilize_celery.store.contract import Transaction

__all__ = ["PLAIN", "Blobs", "Cipher", "Vault"]

MARK = b"\xc1"
"""First byte of a value that is not as the engine wrote it: neither msgpack nor UTF-8 begins like this."""
_SEALED, _ELSEWHERE = b"\x01", b"\x02"
_TEXTS = frozenset({"reason"})


class Cipher(Protocol):
    """Seals values; `place` is where one stands, and opening it anywhere else fails."""

    def seal(self, value: bytes, place: str) -> bytes:
        """Return the sealed value."""
        ...

    def open(self, sealed: bytes, place: str) -> bytes:
        """Return the value. Raises PayloadError."""
        ...


class Blobs(Protocol):
    """Keeps large values beside Redis."""

    def put(self, workflow_id: str, value: bytes) -> str:
        """Keep a value; return what it is found by. Raises PayloadError."""
        ...

    def get(self, name: str) -> bytes:
        """Return a value. Raises PayloadError."""
        ...

    def forget(self, workflow_id: str) -> None:
        """Remove all values of a workflow."""
        ...


class Vault:
    """Between the engine's values and what is stored.

    Args:
        cipher: Seals all payloads; None: they are stored as they are.
        blobs: Keeps values larger than `blob_bytes` elsewhere; None: all of them are in Redis.
        blob_bytes: Size from which on a value is large (bytes).

    """

    def __init__(self, cipher: Cipher | None = None, blobs: Blobs | None = None, blob_bytes: int = 0) -> None:
        self._cipher = cipher
        self._blobs = blobs
        self._blob_bytes = blob_bytes
        self._is_plain = cipher is None and blobs is None

    def sealed(self, address: Address, transaction: Transaction) -> Transaction:
        """Return the transaction as it is to be written."""
        if self._is_plain or address.partition is None:
            return transaction
        changes = [self._change(address, change) for change in transaction.changes]
        place = f"{address.prefix}ev"
        events = [self._fields(address, place, event) for event in transaction.events]
        return Transaction(changes, transaction.ledger, events, transaction.posts)

    def opened(self, key: str, fields: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return the fields of a hash, or of an event, as the engine wrote them.

        Raises:
            PayloadError: this process lacks the key or the file.

        """
        for value in fields.values():
            if value[:1] == MARK:
                return {name: self._opened(one, f"{key}.{name}") for name, one in fields.items()}
        return fields

    def written(self, address: Address, transaction: Transaction) -> None:
        """Remove what is kept elsewhere of a workflow that this transaction has removed."""
        if self._blobs is None or address.workflow_id is None:
            return
        if any(isinstance(change, Delete) and DEFINITION in change.keys for change in transaction.changes):
            self._blobs.forget(address.workflow_id)

    def _change(self, address: Address, change: Change) -> Change:
        if not isinstance(change, SetFields) or _is_ledger(change.key):
            return change
        texts = change.fields.keys() if change.key == FAILURES else _TEXTS
        place = address.key(change.key)
        return SetFields(change.key, self._fields(address, place, change.fields, texts))

    def _fields(
        self,
        address: Address,
        place: str,
        fields: Mapping[str, Value],
        texts: Collection[str] = _TEXTS,
    ) -> dict[str, Value]:
        return {
            name: self._value(address, value.encode() if isinstance(value, str) else value, f"{place}.{name}")
            if isinstance(value, bytes) or (isinstance(value, str) and value and name in texts)
            else value
            for name, value in fields.items()
        }

    def _value(self, address: Address, value: bytes, place: str) -> bytes:
        if self._cipher is not None:
            value = MARK + _SEALED + self._cipher.seal(value, place)
        if self._blobs is not None and address.workflow_id is not None and len(value) >= self._blob_bytes:
            value = MARK + _ELSEWHERE + self._blobs.put(address.workflow_id, value).encode()
        return value

    def _opened(self, value: bytes, place: str) -> bytes:
        if value[:2] == MARK + _ELSEWHERE:
            if self._blobs is None:
                raise PayloadError(f"{place} is kept in a file: set STABILIZE_PAYLOAD_DIR here as on who wrote it")
            value = self._blobs.get(value[2:].decode())
        if value[:2] == MARK + _SEALED:
            if self._cipher is None:
                raise PayloadError(f"{place} is encrypted: set STABILIZE_ENCRYPTION_KEYS here as on who wrote it")
            value = self._cipher.open(value[2:], place)
        return value


PLAIN = Vault()
"""Values are stored as they are."""


def _is_ledger(key: str) -> bool:
    return key.startswith("m:") or ":m:" in key
