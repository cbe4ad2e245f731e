"""Queries as commands, and their replies as answers."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from stabilize_celery.engine.steps import (
    Count,
    Fields,
    Hash,
    Items,
    Look,
    Members,
    Position,
    Query,
    Ranked,
)
from stabilize_celery.store import keys
from stabilize_celery.store.addresses import Address
from stabilize_celery.store.errors import StoreError
from stabilize_celery.store.values import MAX_SCORE, name_of
from stabilize_celery.store.wire import Command, Reply

__all__ = [
    "Answer",
    "Question",
    "bytes_of",
    "list_of",
    "pairs_of",
    "popped_of",
    "question",
    "scored",
    "text_of",
    "time_us",
    "whole",
]

Answer: TypeAlias = "dict[str, bytes] | dict[str, int] | set[str] | list[str] | list[tuple[str, float]] | int | None"


Question: TypeAlias = "tuple[Command | None, Callable[[Reply], Answer]]"
"""The command of a query and how to read its reply. No command: nothing was asked, the answer is empty."""


def question(address: Address, query: Query) -> Question:
    """Return how to ask `query` of a slot.

    Raises:
        StoreError: a key is empty, or the slot has no such thing.

    """
    match query:
        case Hash(key):
            return ("HGETALL", address.key(key)), _hash
        case Fields(key, fields):
            return _fields(address.key(key), fields)
        case _:
            return _other(address, query)


def _other(address: Address, query: Members | Items | Position | Count | Ranked | Look) -> Question:
    match query:
        case Members(key):
            return ("SMEMBERS", address.key(key)), lambda reply: set(_texts(reply))
        case Items(key):
            return ("LRANGE", address.key(key), 0, -1), _texts
        case Position(key, item):
            return ("LPOS", address.key(key), name_of(item, "item")), _position
        case Count(key):
            return ("SCARD", address.key(key)), int_of
        case Ranked(key, limit):
            return ("ZRANGE", address.key(key), 0, limit - 1 if limit > 0 else -1, "WITHSCORES"), scored
        case Look(names, key):
            return _look(address, names, key)


def _fields(key: str, fields: tuple[str, ...]) -> Question:
    def answer(reply: Reply) -> dict[str, bytes]:
        return {field: value for field, value in zip(fields, list_of(reply), strict=True) if isinstance(value, bytes)}

    return ("HMGET", key, *(name_of(field, "field") for field in fields)) if fields else None, answer


def _look(address: Address, names: tuple[str, ...], key: str) -> Question:
    zset = {"due": keys.due, "dead": keys.buried}.get(key)
    if zset is None:
        raise StoreError(f"Look at {key!r}: ledger names are in 'due' or in 'dead'")
    members = [address.entry(name)[1] for name in names]

    def answer(reply: Reply) -> dict[str, int]:
        scores = zip(names, list_of(reply), strict=True)
        return {name: whole(float(score)) for name, score in scores if isinstance(score, bytes)}

    return ("ZMSCORE", zset(address.of_partition()), *members) if names else None, answer


def _position(reply: Reply) -> int | None:
    return reply if isinstance(reply, int) else None


# -- replies -----------------------------------------------------------------------------------------------------------


def list_of(reply: Reply) -> list[Reply]:
    """Return a reply that is a list; no reply is an empty one."""
    if type(reply) is list:
        return reply
    if reply is None:
        return []
    raise _unexpected(reply, "a list")


def bytes_of(reply: Reply) -> bytes:
    """Return a reply that is a string."""
    if type(reply) is bytes:
        return reply
    raise _unexpected(reply, "a string")


def popped_of(reply: Reply) -> tuple[str, bytes]:
    """Return a reply of BRPOP that has brought something: which list, and what came off it."""
    name, item = list_of(reply)
    return bytes_of(name).decode(), bytes_of(item)


def int_of(reply: Reply) -> int:
    """Return a reply that is a whole number."""
    if type(reply) is int:
        return reply
    raise _unexpected(reply, "a whole number")


def text_of(reply: Reply) -> str:
    """Return a reply as text."""
    return bytes_of(reply).decode()


def pairs_of(reply: Reply) -> Iterable[tuple[Reply, Reply]]:
    """Return the neighbours of a flat list as pairs."""
    flat = iter(list_of(reply))
    return zip(flat, flat, strict=True)


def scored(reply: Reply) -> list[tuple[str, float]]:
    """Return members with their scores."""
    return [(text_of(member), float(bytes_of(score))) for member, score in pairs_of(reply)]


def whole(score: float) -> int:
    """Return a score (ms) as a whole number; one that somebody set to infinity is the largest, or smallest, of ours."""
    return int(max(-MAX_SCORE, min(score, MAX_SCORE)))


def time_us(reply: Reply) -> int:
    """Return the reply of TIME in us."""
    seconds, micros = list_of(reply)
    return int(bytes_of(seconds)) * 1_000_000 + int(bytes_of(micros))


def _hash(reply: Reply) -> dict[str, bytes]:
    flat: list[Any] = list_of(reply)  # of a hash all are strings
    return dict(zip(map(bytes.decode, flat[::2]), flat[1::2], strict=True))


def _texts(reply: Reply) -> list[str]:
    return [text_of(item) for item in list_of(reply)]


def _unexpected(reply: Reply, wanted: str) -> StoreError:
    return StoreError(f"the server answered {reply!r:.200} instead of {wanted}")
