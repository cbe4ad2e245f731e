"""A hash as it will be once a draft is written: most of them are read as records, and never made."""

from collections.abc import Iterator, Mapping

from stabilize_celery.engine.steps import Change, Delete, DeleteFields, Increment, SetFields, Value
from stabilize_celery.store.values import value_of

__all__ = ["DraftedHash"]


class DraftedHash(Mapping[str, bytes]):
    """A hash with a change laid over, as soon as somebody looks into it. It stays what it is.

    Args:
        before: The hash before the change.
        change: Of that hash: fields set, deleted or counted, or its end; any other leaves it as it is.

    """

    __slots__ = ("_before", "_change", "_fields")

    def __init__(self, before: Mapping[str, bytes], change: Change) -> None:
        self._before = before
        self._change = change
        self._fields: Mapping[str, bytes] | None = None

    def __getitem__(self, name: str) -> bytes:
        return self._made()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made())

    def __len__(self) -> int:
        return len(self._made())

    def _made(self) -> Mapping[str, bytes]:
        if self._fields is not None:
            return self._fields
        later: list[DraftedHash] = [self]
        while isinstance(before := later[-1]._before, DraftedHash) and before._fields is None:  # noqa: SLF001
            later.append(before)
        fields = before._fields if isinstance(before, DraftedHash) else before
        made: dict[str, bytes] = dict(fields or {})
        for one in reversed(later):
            _apply(one._change, made)  # noqa: SLF001
        self._fields = made
        return made


def _apply(change: Change, fields: dict[str, bytes]) -> None:
    match change:
        case SetFields(_, values):
            fields.update(_stored(values))
        case DeleteFields(_, names):
            for name in names:
                fields.pop(name, None)
        case Increment(_, name, by):
            fields[name] = b"%d" % (int(fields.get(name, b"0")) + by)
        case Delete():
            fields.clear()
        case _:
            pass


def _stored(fields: Mapping[str, Value]) -> dict[str, bytes]:
    """Return fields as they are read back."""
    # Nearly all are plain: no function is called for those.
    return {
        name: value
        if type(value) is bytes
        else value.encode()
        if type(value) is str
        else b"%d" % value
        if type(value) is int
        else value_of(value, name)
        for name, value in fields.items()
    }
