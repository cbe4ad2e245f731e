"""Between typed records and hash fields: text as UTF-8, numbers in decimal, everything else as msgpack."""

from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from stabilize_celery.engine.steps import Value
from stabilize_celery.models.json_values import as_plain

__all__ = ["RecordCodec", "pack", "unpack"]

R = TypeVar("R", bound=msgspec.Struct)

_ENCODER = msgspec.msgpack.Encoder(enc_hook=as_plain)


pack: Callable[[Any], bytes] = _ENCODER.encode
"""Return a value as msgpack."""
unpack: Callable[[bytes], Any] = msgspec.msgpack.Decoder().decode
"""Return what `pack` was given (tuples as lists, structs as dicts or lists)."""


class RecordCodec(Generic[R]):
    """Decodes a hash into the struct `record`, and encodes single fields; absent fields take their defaults.

    Fields of the hash that the struct does not know are left alone: a newer version may own them. The struct is frozen:
    who decodes the same hash again gets the same record.
    """

    def __init__(self, record: type[R]) -> None:
        self._record = record
        hints = get_type_hints(record)
        self._decoders: dict[str, Callable[[bytes], Any]] = {
            name: _decoder(hints[name]) for name in record.__struct_fields__
        }
        self._latest: tuple[Mapping[str, bytes], R] | None = None
        """What was decoded last: decisions in a row look at the same workflow."""
        self._plain = {name for name in record.__struct_fields__ if _is_plain(hints[name])}
        self._bare = {
            item.name: None if item.default is msgspec.NODEFAULT else item.default
            for item in msgspec.structs.fields(record)
        }

    def decode(self, fields: Mapping[str, bytes]) -> R:
        """Return the record that a hash holds. What it is given is not to be changed afterwards."""
        latest = self._latest
        if latest is not None and latest[0] is fields:
            return latest[1]
        decoders = self._decoders
        found = self._record(**{name: decoders[name](data) for name, data in fields.items() if name in decoders})
        self._latest = fields, found
        return found

    def encode(self, **values: Any) -> dict[str, Value]:
        """Return hash fields for some of the record's fields. An unknown name is a programming error (KeyError)."""
        plain = self._plain
        return {
            name: (int(value) if value is True or value is False else value)
            if name in plain
            else self._packed(name, value)
            for name, value in values.items()
        }

    def encode_all(self, record: R) -> dict[str, Value]:
        """Return hash fields for every field that differs from its default."""
        changed: dict[str, Any] = {}
        for name, bare in self._bare.items():
            value = getattr(record, name)
            if value is not bare and value not in (bare, {}, [], ()):
                changed[name] = value
        return self.encode(**changed)

    def _packed(self, name: str, value: Any) -> bytes:
        if name not in self._decoders:
            raise KeyError(f"{self._record.__name__} has no field {name!r}")
        return _ENCODER.encode(value)


def _is_plain(kind: Any) -> bool:
    return _unwrapped(kind) in (str, int, bool, bytes)


def _unwrapped(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        inner = [arg for arg in get_args(kind) if arg is not type(None)]
        return inner[0] if len(inner) == 1 else kind
    return kind


@cache
def _decoder(kind: Any) -> Callable[[bytes], Any]:
    plain: dict[Any, Callable[[bytes], Any]] = {
        str: bytes.decode,
        int: int,
        bool: lambda data: data == b"1",
        bytes: lambda data: data,
    }
    return plain.get(_unwrapped(kind)) or msgspec.msgpack.Decoder(kind).decode
