"""The commands that the store uses, in memory, as Redis 7 carries them out: replies, touches, refusals, expiry.

What a command touches decides what a WATCH notices: HSET of the same value touches, ZADD of the same score and any
removal of what is absent do not. Source: `signalModifiedKey` in Redis' t_hash.c, t_set.c, t_zset.c, t_list.c, db.c.
"""

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import TypeAlias, TypeVar

from stabilize_celery.store.memory_values import SortedSet, Stream
from stabilize_celery.store.wire import Command, Refused, Reply

__all__ = ["MemoryDatabase"]

_Stored: TypeAlias = dict[bytes, bytes] | set[bytes] | list[bytes] | SortedSet | Stream | bytes
_S = TypeVar("_S", dict[bytes, bytes], set[bytes], list[bytes], SortedSet, Stream, bytes)
_OK = b"OK"
_MAX_INT = 2**63
_ZADD_OPTIONS = frozenset((b"NX", b"XX", b"GT", b"LT", b"CH"))


class _RefusedError(Exception):
    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.refused = Refused(code, text)


class MemoryDatabase:
    """Keys and values. Not thread-safe: who calls holds the lock of the wire."""

    def __init__(self, clock_us: Callable[[], int]) -> None:
        self._clock_us = clock_us
        self._values: dict[bytes, _Stored] = {}
        self._expires_us: dict[bytes, int] = {}
        self._touches: dict[bytes, int] = {}
        self._commands: dict[str, Callable[[list[bytes]], Reply]] = {
            name.removeprefix("_cmd_").upper(): getattr(self, name) for name in dir(self) if name.startswith("_cmd_")
        }

    def run(self, command: Command) -> Reply:
        """Carry out one command."""
        arguments = [_raw(argument) for argument in command[1:]]
        try:
            return self._commands[str(command[0])](arguments)
        except _RefusedError as error:
            return error.refused

    def touches(self, key: bytes) -> int:
        """Return how often a key has been touched; it changes iff a WATCH would notice."""
        self._live(key)
        return self._touches.get(key, 0)

    def matching(self, pattern: str) -> Iterator[bytes]:
        """Yield the keys that match a glob pattern."""
        # A brace is an ordinary character in both kinds of pattern; a bracket is a class in both.
        yield from (key for key in list(self._values) if self._live(key) and fnmatchcase(key.decode(), pattern))

    # -- keys ----------------------------------------------------------------------------------------------------------

    def _live(self, key: bytes) -> bool:
        expires_us = self._expires_us.get(key)
        if expires_us is not None and expires_us <= self._clock_us():
            self._remove(key)
        return key in self._values

    def _get(self, key: bytes, kind: type[_S]) -> _S | None:
        if not self._live(key):
            return None
        value = self._values[key]
        if not isinstance(value, kind):
            raise _RefusedError("WRONGTYPE", "Operation against a key holding the wrong kind of value")
        return value

    def _make(self, key: bytes, kind: type[_S]) -> _S:
        value = self._get(key, kind)
        if value is None:
            value = kind()
            self._values[key] = value
        return value

    def _touch(self, key: bytes) -> None:
        self._touches[key] = self._touches.get(key, 0) + 1

    def _remove(self, key: bytes) -> None:
        del self._values[key]
        self._expires_us.pop(key, None)
        self._touch(key)

    def _shrunk(self, key: bytes, value: dict[bytes, bytes] | set[bytes] | SortedSet, removed: int) -> int:
        if not value:
            self._remove(key)
        elif removed:
            self._touch(key)
        return removed

    def _cmd_time(self, _: list[bytes]) -> Reply:
        seconds, micros = divmod(self._clock_us(), 1_000_000)
        return [b"%d" % seconds, b"%d" % micros]

    def _cmd_unlink(self, keys: list[bytes]) -> Reply:
        present = [key for key in dict.fromkeys(keys) if self._live(key)]
        for key in present:
            self._remove(key)
        return len(present)

    def _cmd_pexpire(self, arguments: list[bytes]) -> Reply:
        key, ttl_ms = arguments
        if not self._live(key):
            return 0
        self._expires_us[key] = self._clock_us() + int(ttl_ms) * 1000
        self._touch(key)
        return 1

    def _cmd_persist(self, arguments: list[bytes]) -> Reply:
        (key,) = arguments
        if not self._live(key) or self._expires_us.pop(key, None) is None:
            return 0
        self._touch(key)
        return 1

    # -- strings -------------------------------------------------------------------------------------------------------

    def _cmd_get(self, arguments: list[bytes]) -> Reply:
        return self._get(arguments[0], bytes)

    def _cmd_set(self, arguments: list[bytes]) -> Reply:
        key, value, *options = arguments
        if b"NX" in options and self._live(key):
            return None
        self._values[key] = value
        self._expires_us.pop(key, None)
        if b"PX" in options:
            ttl_ms = int(options[options.index(b"PX") + 1])
            self._expires_us[key] = self._clock_us() + ttl_ms * 1000
        self._touch(key)
        return _OK

    # -- hashes --------------------------------------------------------------------------------------------------------

    def _cmd_hset(self, arguments: list[bytes]) -> Reply:
        key, *flat = arguments
        value = self._make(key, dict)
        before = len(value)
        value.update(zip(flat[::2], flat[1::2], strict=True))
        self._touch(key)
        return len(value) - before

    def _cmd_hdel(self, arguments: list[bytes]) -> Reply:
        key, *fields = arguments
        value = self._get(key, dict)
        if value is None:
            return 0
        return self._shrunk(key, value, sum(value.pop(field, None) is not None for field in fields))

    def _cmd_hincrby(self, arguments: list[bytes]) -> Reply:
        key, field, by = arguments
        value = self._get(key, dict) or {}
        try:
            number = int(value.get(field, b"0"))
        except ValueError:
            raise _RefusedError("ERR", "hash value is not an integer") from None
        number += int(by)
        if not -_MAX_INT <= number < _MAX_INT:
            raise _RefusedError("ERR", "increment or decrement would overflow")
        self._make(key, dict)[field] = b"%d" % number
        self._touch(key)
        return number

    def _cmd_hgetall(self, arguments: list[bytes]) -> Reply:
        return [item for pair in (self._get(arguments[0], dict) or {}).items() for item in pair]

    def _cmd_hmget(self, arguments: list[bytes]) -> Reply:
        key, *fields = arguments
        value = self._get(key, dict) or {}
        return [value.get(field) for field in fields]

    # -- sets and lists ------------------------------------------------------------------------------------------------

    def _cmd_sadd(self, arguments: list[bytes]) -> Reply:
        key, *members = arguments
        value = self._make(key, set)
        before = len(value)
        value.update(members)
        if len(value) > before:
            self._touch(key)
        return len(value) - before

    def _cmd_srem(self, arguments: list[bytes]) -> Reply:
        key, *members = arguments
        value = self._get(key, set)
        if value is None:
            return 0
        before = len(value)
        value.difference_update(members)
        return self._shrunk(key, value, before - len(value))

    def _cmd_smembers(self, arguments: list[bytes]) -> Reply:
        return list(self._get(arguments[0], set) or ())

    def _cmd_scard(self, arguments: list[bytes]) -> Reply:
        return len(self._get(arguments[0], set) or ())

    def _cmd_rpush(self, arguments: list[bytes]) -> Reply:
        key, *items = arguments
        value = self._make(key, list)
        value.extend(items)
        self._touch(key)
        return len(value)

    def _cmd_lrange(self, arguments: list[bytes]) -> Reply:
        return list(self._get(arguments[0], list) or ())

    def _cmd_lpos(self, arguments: list[bytes]) -> Reply:
        key, item = arguments
        value = self._get(key, list) or []
        return value.index(item) if item in value else None

    # -- sorted sets ---------------------------------------------------------------------------------------------------

    def _cmd_zadd(self, arguments: list[bytes]) -> Reply:
        key, *rest = arguments
        options = set(takewhile(_ZADD_OPTIONS.__contains__, rest))
        pairs = iter(rest[len(options) :])
        return sum(self._rank(key, options, float(score), member) for score, member in zip(pairs, pairs, strict=True))

    def _rank(self, key: bytes, options: set[bytes], score: float, member: bytes) -> int:
        value = self._get(key, SortedSet)
        old = None if value is None else value.score(member)
        if not _may_rank(options, old, score):
            return 0
        if self._make(key, SortedSet).put(member, score):
            self._touch(key)
        return int(old is None)

    def _cmd_zrem(self, arguments: list[bytes]) -> Reply:
        key, *members = arguments
        value = self._get(key, SortedSet)
        if value is None:
            return 0
        return self._shrunk(key, value, sum(value.discard(member) for member in members))

    def _cmd_zcard(self, arguments: list[bytes]) -> Reply:
        value = self._get(arguments[0], SortedSet)
        return 0 if value is None else len(value)

    def _cmd_zmscore(self, arguments: list[bytes]) -> Reply:
        key, *members = arguments
        value = self._get(key, SortedSet) or SortedSet()
        return [None if (score := value.score(member)) is None else _score(score) for member in members]

    def _cmd_zrange(self, arguments: list[bytes]) -> Reply:
        key, start, stop, _ = arguments
        value = self._get(key, SortedSet) or SortedSet()
        return [item for score, member in value.first(int(start), int(stop)) for item in (member, _score(score))]

    def _cmd_zrevrangebyscore(self, arguments: list[bytes]) -> Reply:
        key, top, _, _, _, offset, count = arguments
        value = self._get(key, SortedSet) or SortedSet()
        found = value.downwards(float(top), int(offset), int(count))
        return [item for score, member in found for item in (member, _score(score))]

    # -- streams -------------------------------------------------------------------------------------------------------

    def _cmd_xadd(self, arguments: list[bytes]) -> Reply:
        key, _, *flat = arguments
        identity = self._make(key, Stream).append(self._clock_us() // 1000, flat)
        self._touch(key)
        return b"%d-%d" % identity

    def _cmd_xread(self, arguments: list[bytes]) -> Reply:
        count, places = int(arguments[1]), arguments[arguments.index(b"STREAMS") + 1 :]
        keys, ids = places[: len(places) // 2], places[len(places) // 2 :]
        found = [(key, self._entries(key, after, count)) for key, after in zip(keys, ids, strict=True)]
        return [[key, entries] for key, entries in found if entries] or None

    def _entries(self, key: bytes, after: bytes, count: int) -> list[Reply]:
        ms, _, number = after.partition(b"-")
        if not ms.isdigit() or not (number or b"0").isdigit():
            raise _RefusedError("ERR", "Invalid stream ID specified as stream command argument")
        value = self._get(key, Stream)
        found = [] if value is None else value.after((int(ms), int(number or 0)), count)
        return [[b"%d-%d" % identity, list(flat)] for identity, flat in found]


def _may_rank(options: set[bytes], old: float | None, score: float) -> bool:
    if old is None:
        return b"XX" not in options
    return not (b"NX" in options or (b"LT" in options and score >= old) or (b"GT" in options and score <= old))


def _score(score: float) -> bytes:
    return b"%d" % score if score == int(score) else repr(score).encode()


def _raw(argument: bytes | str | int) -> bytes:
    if isinstance(argument, str):
        return argument.encode()
    return argument if isinstance(argument, bytes) else b"%d" % argument
