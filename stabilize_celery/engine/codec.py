"""Between typed records and hash fields: text as UTF-8, numbers in decimal, everything else as msgpack."""

from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from stabilize_celery.engine.steps import Value

__all__ = ["RecordCodec", "pack", "unpack"]

R = TypeVar("R", bound=msgspec.Struct)
_ENCODER = msgspec.msgpack.Encoder()


def pack(value: Any) -> bytes:
    """Return `value` as msgpack."""
    return _ENCODER.encode(value)


def unpack(data: bytes) -> Any:
    """Return what `pack` was given (tuples as lists, structs as dicts or lists)."""
    return msgspec.msgpack.decode(data)


class RecordCodec(Generic[R]):
    """Decodes a hash into the struct `record`, and encodes single fields; absent fields take their defaults.

    Fields of the hash that the struct does not know are left alone: a newer version may own them.
    """

    def __init__(self, record: type[R]) -> None:
        self._record = record
        hints = get_type_hints(record)
        self._decoders: dict[str, Callable[[bytes], Any]] = {
            name: _decoder(hints[name]) for name in record.__struct_fields__
        }
        self._plain = {name for name in record.__struct_fields__ if _is_plain(hints[name])}
        self._bare = {
            item.name: None if item.default is msgspec.NODEFAULT else item.default
            for item in msgspec.structs.fields(record)
        }

    def decode(self, fields: Mapping[str, bytes]) -> R:
        """Return the record that a hash holds."""
        decoders = self._decoders
        return self._record(**{name: decoders[name](data) for name, data in fields.items() if name in decoders})

    def encode(self, **values: Any) -> dict[str, Value]:
        """Return hash fields for some of the record's fields. An unknown name is a programming error (KeyError)."""
        return {name: self._encode(name, value) for name, value in values.items()}

    def encode_all(self, record: R) -> dict[str, Value]:
        """Return hash fields for every field that differs from its default."""
        values = ((name, bare, getattr(record, name)) for name, bare in self._bare.items())
        return self.encode(**{name: value for name, bare, value in values if value not in (bare, {}, [], ())})

    def _encode(self, name: str, value: Any) -> Value:
        if name not in self._decoders:
            raise KeyError(f"{self._record.__name__} has no field {name!r}")
        if name in self._plain:
            return int(value) if isinstance(value, bool) else value
        return pack(value)


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
