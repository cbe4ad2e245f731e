"""The memory store's database where it is not seen through the contract."""

import pytest

from stabilize_celery.store.memory_database import MemoryDatabase
from stabilize_celery.store.memory_values import SortedSet, Stream
from stabilize_celery.store.wire import Command, Refused


def database() -> MemoryDatabase:
    return MemoryDatabase(lambda: 1_000_000)


@pytest.mark.parametrize(
    ("commands", "reply"),
    [
        ([("SET", "k", "a"), ("SET", "k", "b", "NX"), ("GET", "k")], b"a"),
        ([("SET", "k", "a", "PX", 0), ("GET", "k")], None),
        ([("HSET", "k", "f", "x"), ("HINCRBY", "k", "f", 1)], Refused("ERR", "hash value is not an integer")),
        ([("HINCRBY", "k", "f", 2**63 - 1), ("HINCRBY", "k", "f", 1)], Refused("ERR", "increment or decrement would overflow")),
        ([("RPUSH", "k", "a"), ("HGETALL", "k")], Refused("WRONGTYPE", "Operation against a key holding the wrong kind of value")),
        ([("SADD", "k", "a"), ("RPUSH", "k", "a"), ("SMEMBERS", "k")], [b"a"]),
        ([("ZADD", "k", "GT", "5", "m"), ("ZADD", "k", "GT", "4", "m"), ("ZMSCORE", "k", "m")], [b"5"]),
        ([("ZADD", "k", "LT", "5", "m"), ("ZADD", "k", "LT", "6", "m"), ("ZMSCORE", "k", "m", "o")], [b"5", None]),
        ([("ZADD", "k", "XX", "5", "m"), ("ZRANGE", "k", 0, -1, "WITHSCORES")], []),
        ([("RPUSH", "k", "a"), ("PEXPIRE", "k", 9), ("PERSIST", "k"), ("PERSIST", "k")], 0),
        ([("UNLINK", "k", "k")], 0),
        ([("RPUSH", "k", "a"), ("UNLINK", "k", "k")], 1),
    ],
)  # fmt: skip
def test_commands(commands: list[Command], reply: object) -> None:
    """The last command is answered as Redis does."""
    memory = database()

    assert [memory.run(command) for command in commands][-1] == reply


def test_a_refused_command_makes_no_key() -> None:
    """A wrong type or a condition that is not met leaves nothing behind."""
    memory = database()
    memory.run(("ZADD", "k", "XX", "5", "m"))
    memory.run(("HDEL", "h", "f"))

    assert list(memory.matching("*")) == []


def test_order_of_a_sorted_set() -> None:
    """By score, then by bytes, in both directions."""
    ranked = SortedSet()
    for member, score in ((b"b", 1.0), (b"a", 1.0), (b"c", 0.5), (b"d", 2.0), (b"d", 0.1)):
        ranked.put(member, score)

    order = [(0.1, b"d"), (0.5, b"c"), (1.0, b"a"), (1.0, b"b")]
    assert ranked.first(0, -1) == order
    assert ranked.first(1, 2) == order[1:3]
    assert list(ranked.downwards(float("inf"), 0, 10)) == order[::-1]
    assert list(ranked.downwards(0.7, 1, 10)) == [(0.1, b"d")]


def test_stream_ids_grow_when_the_clock_goes_back() -> None:
    """Ids never go back, whatever the clock does."""
    stream = Stream()

    assert [stream.append(now_ms, []) for now_ms in (5, 5, 3, 6)] == [(5, 0), (5, 1), (5, 2), (6, 0)]
    assert [identity for identity, _ in stream.after((5, 0), 2)] == [(5, 1), (5, 2)]
