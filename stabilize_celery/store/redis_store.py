"""The store on Redis: one server, a master behind sentinels, or a cluster."""

from stabilize_celery.store.cluster import ClusterPools
from stabilize_celery.store.command_store import CommandStore
from stabilize_celery.store.connection import PoolsFactory, RedisWire
from stabilize_celery.store.keys import DEFAULT_PARTITIONS
from stabilize_celery.store.lists import Lists
from stabilize_celery.store.pools import Pools, connection_options, new_pool, sentinel_pool
from stabilize_celery.store.redis_url import Place, read_url, shown
from stabilize_celery.store.vault import PLAIN, Vault

__all__ = ["RedisStore", "open_lists"]


class RedisStore(CommandStore):
    """A namespace on Redis. Making one does no I/O; it may be used by many threads, and after a fork.

    Args:
        url: `redis://`, `rediss://`, `unix://`, `sentinel://h1:26379,h2:26379/db?master=name` or `redis+cluster://`.
        namespace: Start of all keys.
        partitions: Number of partitions (count) if the namespace is new.
        timeout_s: How long connecting, and waiting for a reply, may take; the URL's own `socket_timeout` wins.
        vault: What stored payloads look like.
        make_pools: Makes the connections, in place of those that the URL tells; for tests.

    Raises:
        ConfigurationError: the URL, the namespace or the number of partitions can't be used.

    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "stabilize",
        partitions: int = DEFAULT_PARTITIONS,
        timeout_s: float = 5.0,
        make_pools: PoolsFactory | None = None,
        vault: Vault = PLAIN,
    ) -> None:
        place = read_url(url)
        wire = RedisWire(shown(url), make_pools or _factory(place, timeout_s))
        super().__init__(wire, namespace, partitions, vault)


def open_lists(url: str, timeout_s: float) -> Lists:
    """Return the lists of a server; connects at their first use. The URL is as for `RedisStore`.

    Raises:
        ConfigurationError: the URL can't be read.

    """
    return Lists(RedisWire(shown(url), _factory(read_url(url), timeout_s)))


def _factory(place: Place, timeout_s: float) -> PoolsFactory:
    def make(patience_s: float) -> Pools:
        options = connection_options(place, timeout_s, patience_s)
        if place.kind == "cluster":
            seeds = place.nodes
            return ClusterPools(lambda node: new_pool({**options, "host": node[0], "port": node[1]}), seeds, timeout_s)
        if place.kind == "sentinel":
            return Pools(lambda: sentinel_pool(place, options))
        return Pools(lambda: new_pool(options))

    return make
