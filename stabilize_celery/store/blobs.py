"""Large values beside the hashes that name them: in one hash of the workflow, each under what its content hashes to.

A record that many read stays small: who reads it gets the name of a large value, and fetches that once per process. A
blob is written in the same EXEC as the field that names it, and removed by the one that overwrites that field, so none
is missing after a crash and none is left. Its name tells its place, too: no two fields share a blob.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from stabilize_celery.engine.places import BLOBS
from stabilize_celery.engine.steps import Change, Delete, DeleteFields, SetFields, Value

__all__ = ["BlobCache", "Fetched", "Shelf", "blob_name"]

_DIGEST_BYTES = 20
_CACHE_BYTES = 16 * 1024 * 1024


def blob_name(place: str, value: bytes) -> str:
    """Return the name of a value: the same for the same content at the same place."""
    digest = hashlib.blake2b(place.encode(), digest_size=_DIGEST_BYTES)
    # Nothing that could be taken for a part of the place.
    digest.update(b"\0")
    digest.update(value)
    return digest.hexdigest()


class BlobCache:
    """The values that this process fetched or wrote last; threads may share it.

    Args:
        most_bytes: What it holds at most (bytes).

    """

    def __init__(self, most_bytes: int = _CACHE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._values: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, name: str) -> bytes | None:
        """Return a value; None: it is not here (any more)."""
        with self._lock:
            if name not in self._values:
                return None
            self._values.move_to_end(name)
            return self._values[name]

    def keep(self, name: str, value: bytes) -> None:
        """Keep a value; those that were not asked for longest give way."""
        with self._lock:
            if name in self._values or len(value) > self._most_bytes:
                return
            self._values[name] = value
            self._bytes += len(value)
            while self._bytes > self._most_bytes:
                _, gone = self._values.popitem(last=False)
                self._bytes -= len(gone)


class Shelf:
    """The blobs that one unit of work on a workflow has seen, by the place (key and field) that names each."""

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        self._names = dict(names or {})

    @property
    def names(self) -> Mapping[str, str]:
        """The name of each blob, by the place that names it."""
        return self._names

    @property
    def is_empty(self) -> bool:
        """Whether no blob was seen."""
        return not self._names

    def saw(self, place: str, name: str | None) -> None:
        """Note what a field names; None: it holds its value itself."""
        if name is not None:
            self._names[place] = name
        elif self._names:
            self._names.pop(place, None)

    def after(self, prefix: str, changes: Iterable[Change], named: Mapping[str, str]) -> "Shelf":
        """Return what there is once `changes` are written; `named`: names of blobs by the places they were set at."""
        names = dict(self._names)
        for place in _overwritten(prefix, changes, names):
            names.pop(place, None)
        return Shelf({**names, **named})

    def changes_to(self, other: "Shelf", values: Mapping[str, bytes]) -> Iterator[Change]:
        """Yield what makes the stored blobs those of `other`; `values`: by name, those that are new."""
        ours, theirs = set(self._names.values()), set(other.names.values())
        added: dict[str, Value] = {name: value for name, value in values.items() if name in theirs}
        if added:
            yield SetFields(BLOBS, added)
        if gone := sorted(ours - theirs):
            yield DeleteFields(BLOBS, tuple(gone))


_OF_FIELDS = (SetFields, DeleteFields)


def _overwritten(prefix: str, changes: Iterable[Change], names: Mapping[str, str]) -> Iterator[str]:
    """Yield the places that changes write to or take away."""
    for change in changes:
        if isinstance(change, _OF_FIELDS):
            yield from (f"{prefix}{change.key}.{field}" for field in change.fields)
        elif isinstance(change, Delete):
            keys = tuple(f"{prefix}{key}." for key in change.keys)
            yield from [place for place in names if place.startswith(keys)]


class Fetched:
    """What one read has of the blobs that its answers name, and which it lacks.

    Args:
        cache: Those that this process has.
        shelf: Told of each field that names one, or no more.
        without_payloads: Fields that `places.is_payload` names are left out of the answers where they name one.

    """

    def __init__(self, cache: BlobCache, shelf: Shelf, *, without_payloads: bool = False) -> None:
        self.shelf = shelf
        self.without_payloads = without_payloads
        self.lacking: dict[str, str] = {}
        """Names of blobs to fetch, to the place of each."""
        self.gone = ""
        """The place of the last one that was not there."""
        self._cache = cache
        self._found: dict[str, bytes] = {}

    def begin(self) -> None:
        """Forget what was lacking: the answers are looked at anew."""
        self.lacking = {}

    def value_of(self, name: str, place: str) -> bytes | None:
        """Return a blob; None: it has to be fetched first."""
        found = self._found.get(name) or self._cache.get(name)
        if found is None:
            self.lacking[name] = place
        else:
            # What is fetched now may drive it out of the cache before the answers are looked at again.
            self._found[name] = found
        return found

    def bring(self, values: Sequence[object]) -> bool:
        """Take the values of `lacking`, in its order; False: one is not there, so what was read is out of date."""
        for (name, place), value in zip(self.lacking.items(), values, strict=True):
            if not isinstance(value, bytes):
                self.gone = place
                return False
            self._found[name] = value
            self._cache.keep(name, value)
        return True
