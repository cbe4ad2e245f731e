"""What payloads look like in the store: sealed with the user's keys, and the large ones kept elsewhere.

The one place where stored values are not what the engine wrote. Packed values of hashes and events go through it
(contexts, outputs, definitions, signals, history), and texts that may repeat what a task said; ids, names, statuses,
times and counters stay as they are, because listings, locks and the ledger live by them.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeGuard

import msgspec

from stabilize_celery.engine.places import DEFINITION, FAILURES, is_payload, ledger
from stabilize_celery.engine.steps import Change, Delete, PartlyReadable, SetFields, Value
from stabilize_celery.errors import PayloadError
from stabilize_celery.store.addresses import Address
from stabilize_celery.store.blobs import BlobCache, Fetched, Shelf, blob_name
from stabilize_celery.store.contract import Transaction

__all__ = ["PLAIN", "Blobs", "Cipher", "Vault"]

MARK = b"\xc1"
"""First byte of a value that is not as the engine wrote it: neither msgpack nor UTF-8 begins like this."""
_SEALED, _ELSEWHERE, _BLOB = b"\x01", b"\x02", b"\x03"
_APART = (MARK + _ELSEWHERE, MARK + _BLOB)
_PROOF = "proof"
_TEXTS = frozenset({"reason"})


class Cipher(Protocol):
    """Seals values; `place` is where one stands, and opening it anywhere else fails."""

    @property
    def newest(self) -> str:
        """Name of the key that seals."""
        ...

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
        blobs: Keeps large values elsewhere; None: they are blobs in Redis.
        blob_bytes: Size from which on a value is large (bytes); 0: all values stay where they are.

    """

    def __init__(self, cipher: Cipher | None = None, blobs: Blobs | None = None, blob_bytes: int = 0) -> None:
        self._cipher = cipher
        self._blobs = blobs
        self._blob_bytes = blob_bytes
        self._is_plain = cipher is None and blobs is None
        self._cache = BlobCache()

    @property
    def newest_key(self) -> str:
        """Name of the key that values are sealed with; empty: they are not encrypted."""
        return "" if self._cipher is None else self._cipher.newest

    def proof(self) -> bytes:
        """Return what only a process with the same key can open, or nothing if values are not encrypted."""
        return b"" if self._cipher is None else self._cipher.seal(b"", _PROOF)

    def check_proof(self, proof: bytes) -> None:
        """Check another process' proof: what it writes can be read here, as far as keys are concerned.

        Raises:
            PayloadError: it can't.

        """
        if proof and self._cipher is None:
            raise PayloadError("it encrypts, and this process has no keys")
        if proof and self._cipher is not None:
            self._cipher.open(proof, _PROOF)
        if not proof and self._cipher is not None:
            raise PayloadError("it has no keys, and can't read what this process writes")

    def sealed(self, address: Address, transaction: Transaction, shelf: Shelf) -> tuple[Transaction, Shelf]:
        """Return the transaction as it is to be written, and what `shelf` is then.

        `shelf`: the blobs that the unit of work has seen. Changes that concern blobs come behind all others.
        """
        sealed = self._sealed(address, transaction)
        if address.workflow_id is None or self._blobs is not None:
            return sealed, shelf
        changes, named, values = self._offloaded(address, sealed.changes)
        if not named and shelf.is_empty:
            return sealed, shelf
        after = shelf.after(address.prefix, changes, named)
        changes += shelf.changes_to(after, values)
        return msgspec.structs.replace(sealed, changes=changes), after

    def _offloaded(
        self, address: Address, changes: Sequence[Change]
    ) -> tuple[list[Change], dict[str, str], dict[str, bytes]]:
        """Return changes with names in place of large values, the names by place, and the values by name."""
        found, named, values = list(changes), dict[str, str](), dict[str, bytes]()
        if not self._blob_bytes or not self._has_large(changes):
            return found, named, values
        for at, change in enumerate(changes):
            if not isinstance(change, SetFields) or _is_ledger(address, change.key):
                continue
            for field, value in change.fields.items():
                place = f"{address.key(change.key)}.{field}"
                # A field that is set twice has what was set last.
                named.pop(place, None)
                if self._is_large(value):
                    named[place] = name = blob_name(place, value)
                    values[name] = value
                    self._cache.keep(name, value)
                    found[at] = _with_field(found[at], field, MARK + _BLOB + name.encode())
        return found, named, values

    def _has_large(self, changes: Sequence[Change]) -> bool:
        """Whether any value is large: of nearly all commits none is, so it is found out in one go."""
        least = self._blob_bytes
        for change in changes:
            if type(change) is SetFields:
                for value in change.fields.values():
                    if type(value) is bytes and len(value) >= least:
                        return True
        return False

    def _is_large(self, value: Value) -> TypeGuard[bytes]:
        return type(value) is bytes and len(value) >= self._blob_bytes

    def _sealed(self, address: Address, transaction: Transaction) -> Transaction:
        if self._is_plain or address.partition is None:
            return transaction
        changes = [self._change(address, change) for change in transaction.changes]
        place = f"{address.prefix}ev"
        events = [self._fields(address, place, event) for event in transaction.events]
        return msgspec.structs.replace(transaction, changes=changes, events=events)

    def opened(self, key: str, fields: Mapping[str, bytes], fetched: Fetched | None = None) -> Mapping[str, bytes]:
        """Return the fields of a hash, or of an event, as the engine wrote them.

        Where this process lacks the key or the file of some, they are `PartlyReadable`: who takes one of those gets a
        PayloadError.

        Args:
            key: Of the hash or the stream.
            fields: As they are stored.
            fetched: Has blobs, and is told of those that are lacking: they are empty. None: there can't be any.

        """
        # Nearly always there is none: no more is done for each field than must be.
        for value in fields.values():
            if value[:1] == MARK:
                break
        else:
            if fetched is None or fetched.shelf.is_empty:
                return fields
        fetched = fetched or self.fetching()
        if fetched.without_payloads:
            fields = {name: one for name, one in fields.items() if one[:2] not in _APART or not is_payload(name)}
        opened, closed = dict[str, bytes](), dict[str, Exception]()
        for name, value in fields.items():
            try:
                opened[name] = self._opened(value, f"{key}.{name}", fetched)
            except PayloadError as error:
                closed[name] = error
        return PartlyReadable(opened, closed) if closed else opened

    def fetching(self, shelf: Shelf | None = None, *, without_payloads: bool = False) -> Fetched:
        """Return what a read needs that may meet blobs."""
        return Fetched(self._cache, Shelf() if shelf is None else shelf, without_payloads=without_payloads)

    def written(self, address: Address, transaction: Transaction) -> None:
        """Remove what is kept elsewhere of a workflow that this transaction has removed."""
        if self._blobs is None or address.workflow_id is None:
            return
        if any(isinstance(change, Delete) and DEFINITION in change.keys for change in transaction.changes):
            self._blobs.forget(address.workflow_id)

    def _change(self, address: Address, change: Change) -> Change:
        if not isinstance(change, SetFields) or _is_ledger(address, change.key):
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
        if self._blobs is not None and address.workflow_id is not None and 0 < self._blob_bytes <= len(value):
            value = MARK + _ELSEWHERE + self._blobs.put(address.workflow_id, value).encode()
        return value

    def _opened(self, value: bytes, place: str, fetched: Fetched) -> bytes:
        name = value[2:].decode() if value[:2] == MARK + _BLOB else None
        fetched.shelf.saw(place, name)
        if name is not None:
            blob = fetched.value_of(name, place)
            if blob is None:
                return b""
            value = blob
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


def _with_field(change: Change, field: str, value: bytes) -> Change:
    return SetFields(change.key, {**change.fields, field: value}) if isinstance(change, SetFields) else change


def _is_ledger(address: Address, key: str) -> bool:
    """Whether a key is a ledger entry's: it has no payload, and a partition has those of all its workflows."""
    # Names of stages may have colons in them, ids of workflows have none.
    name = key if address.workflow_id is not None else key.partition(":")[2]
    return name.startswith(ledger(""))
