"""Pools of connections: to one server, or to the master that sentinels name."""

import time
from collections.abc import Callable
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.store.redis_url import Options, Place
from stabilize_celery.store.wire import Refused

__all__ = ["Pools", "connection_options", "new_pool", "no_retries", "sentinel_pool"]

_MANY = 100_000
"""Connections per pool: as many as there are threads or greenlets; a limit would only make them fail."""
_ASK_EVERY_S, _ASK_AGAIN_S = 1.0, 10.0
"""How often sentinels are asked who is master, and when again if they don't say (s)."""
_SENTINEL_TIMEOUT_S = 1.0
"""How long a sentinel may take: there are others, and what is known goes on counting meanwhile (s)."""


class Pools:
    """The pool of one server. `ClusterPools` is the other kind."""

    is_sharded = False

    def __init__(self, make: Callable[[], ConnectionPool]) -> None:
        self._pool = make()

    def pool_for(self, _key: str) -> ConnectionPool:
        """Return the pool of the server that has `key`.

        Raises:
            redis.exceptions.RedisError: nobody says which server that is.

        """
        return self._pool

    def everywhere(self) -> list[ConnectionPool]:
        """Return the pools of all servers that have keys.

        Raises:
            redis.exceptions.RedisError: nobody says which servers there are.

        """
        return [self._pool]

    def redirected(self, refused: Refused) -> None:
        """Learn from a refusal who has the key now."""

    def lost(self) -> None:
        """Doubt what is known: a server did not answer."""

    def silent(self, pool: ConnectionPool) -> None:
        """Learn that a server has let a time-out pass."""

    def close(self) -> None:
        """Close all connections."""
        self._pool.disconnect()


def no_retries() -> Retry:
    """Return what keeps redis-py from trying again by itself: who asks knows better what to ask next."""
    return Retry(NoBackoff(), 0)


def connection_options(place: Place, timeout_s: float, patience_s: float) -> Options:
    """Return the arguments of a connection; `patience_s` is how much longer than usual a reply may take.

    Raises:
        ConfigurationError: the URL sets what no connection knows.

    """
    options: Options = {"socket_connect_timeout": timeout_s, "socket_timeout": timeout_s}
    if "path" not in place.options:
        options["socket_keepalive"] = True
    options |= place.options
    if options["socket_timeout"] is not None:
        options["socket_timeout"] += patience_s
    # redis-py's retries replay writes whose answer was lost, which HINCRBY and XADD don't bear.
    forced = {"retry": no_retries(), "retry_on_timeout": False, "retry_on_error": []}
    options |= forced | {"decode_responses": False, "encoding": "utf-8", "protocol": 2}
    named = dict(options)
    try:
        named.pop("connection_class", Connection)(**named)
    except (TypeError, ValueError, RedisError) as error:
        raise ConfigurationError(f"can't connect as the Redis URL says: {error}") from None
    return options


def new_pool(options: Options) -> ConnectionPool:
    """Return the pool of one server, with connections of the class that `options` name."""
    named = dict(options)
    kind = named.pop("connection_class", Connection)
    return ConnectionPool(kind, max_connections=_MANY, **named)


def sentinel_pool(place: Place, options: Options) -> SentinelConnectionPool:
    """Return the pool of whatever server is master: sentinels are asked for new connections, and now and then."""
    named = dict(options)
    is_secure = named.pop("connection_class", Connection) is SSLConnection
    asking = {name: named[name] for name in ("retry", "protocol")}
    for name in ("socket_connect_timeout", "socket_timeout"):
        asking[name] = _SENTINEL_TIMEOUT_S if named[name] is None else min(named[name], _SENTINEL_TIMEOUT_S)
    sentinels = Sentinel(place.nodes, sentinel_kwargs=asking | place.sentinel_options)  # type: ignore[no-untyped-call]  # redis-py is untyped here
    return _MasterPool(place.master, sentinels, ssl=is_secure, max_connections=_MANY, **named)


class _MasterPool(SentinelConnectionPool):
    """Connections to the master that the sentinels name *now*.

    An old master that lives on after a planned failover still answers, and takes writes that nobody keeps.
    """

    def __init__(self, master: str | None, sentinels: Sentinel, **options: Any) -> None:
        self._ask_at_s = 0.0
        super().__init__(master, sentinels, **options)  # type: ignore[no-untyped-call]

    def get_connection(self, *args: Any, **options: Any) -> Any:
        """As a pool does, but not to a server that was master a while ago."""
        now_s = time.monotonic()
        if now_s >= self._ask_at_s:
            self._ask_at_s = now_s + _ASK_EVERY_S
            try:
                # Where it is another one, this gives up all connections to the old one.
                self.get_master_address()  # type: ignore[no-untyped-call]
            except RedisError:
                # They are away, or in doubt: whoever is known may well be the master still.
                self._ask_at_s = time.monotonic() + _ASK_AGAIN_S
        return super().get_connection(*args, **options)
