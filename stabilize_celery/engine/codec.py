"""Between typed records and hash fields: text as UTF-8, numbers in decimal, everything else as msgpack."""

from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from stabilize_celery.engine.steps import Value
from stabilize_celery.models.json_values import as_plain

__all__ = ["Encoded", "RecordCodec", "pack", "unpack"]

R = TypeVar("R", bound=msgspec.Struct)

_ENCODER = msgspec.msgpack.Encoder(enc_hook=as_plain)


pack: Callable[[Any], bytes] = _ENCODER.encode
"""Return a value as msgpack."""
unpack: Callable[[bytes], Any] = msgspec.msgpack.Decoder().decode
"""Return what `pack` was given (tuples as lists, structs as dicts or lists)."""


class Encoded(dict[str, Value]):
    """Hash fields that were made of fields of a record, and remember what they were made of."""

    __slots__ = ("codec", "given")

    codec: "RecordCodec[Any]"
    given: dict[str, Any]

    def __init__(self, fields: dict[str, Value], codec: "RecordCodec[Any]", given: dict[str, Any]) -> None:
        super().__init__(fields)
        self.codec = codec
        self.given = given

    def add(self, later: "Encoded") -> None:
        """Lay others of the same record over."""
        self.update(later)
        self.given.update(later.given)


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
        self._bare_values = {name for name in self._plain if _unwrapped(hints[name]) is not bool}
        """Fields that are the same in Python as they are stored, but for numbers, which are stored in decimal."""
        self._is_constant = len(self._plain) == len(hints)
        """Whether nothing in a record can be changed: then equal ones may be one."""
        self._exact = {name for name in record.__struct_fields__ if not _is_loose(hints[name])}
        """Fields whose values come back from bytes as they were. In others a tuple comes back as a list."""
        self._bare = {
            item.name: None if item.default is msgspec.NODEFAULT else item.default
            for item in msgspec.structs.fields(record)
        }

    def decode(self, fields: Mapping[str, bytes]) -> R:
        """Return the record that a hash holds. What it is given is not to be changed afterwards."""
        latest = self._latest
        if latest is not None and (latest[0] is fields or (self._is_constant and latest[0] == fields)):
            return latest[1]
        decoders = self._decoders
        found = self._record(**{name: decoders[name](data) for name, data in fields.items() if name in decoders})
        self._latest = fields, found
        return found

    def encode(self, **values: Any) -> Encoded:
        """Return hash fields for some of the record's fields. An unknown name is a programming error (KeyError)."""
        plain = self._plain
        fields = {
            name: (int(value) if value is True or value is False else value)
            if name in plain
            else self._packed(name, value)
            for name, value in values.items()
        }
        return Encoded(fields, self, values)

    def applied(self, fields: Encoded, record: R | None = None) -> R:
        """Return the record (none: that of an empty hash) as it is once these fields of it are written.

        It is what `decode` would return then, without the way over bytes.
        """
        values = {
            name: value if name in self._exact else self._decoders[name](fields[name])  # type: ignore[arg-type]
            for name, value in fields.given.items()
        }
        return self._record(**values) if record is None else msgspec.structs.replace(record, **values)

    def of_plain(self, fields: Mapping[str, Value]) -> R | None:
        """Return the record that a hash with these fields holds; None: that takes decoding."""
        return self._record(**fields) if fields.keys() <= self._bare_values else None

    def encode_all(self, record: R) -> Encoded:
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


def _is_loose(kind: Any) -> bool:
    return kind is Any or any(map(_is_loose, get_args(kind)))


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
