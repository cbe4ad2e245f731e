"""Where the lists are that queues of a Redis are to kombu: its words for a broker in those of our own store.

`broker.py` is the way there. What can't be told for sure is not assumed: then Celery sends and delivers all messages.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from celery import Celery

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.store.redis_url import Place, read_url

__all__ = ["databases_of_one_server", "lists_url", "names_of_its_own"]

_FILES_OF_TLS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_CHECKS_OF_TLS = frozenset({"none", "optional", "required"})
_HOW_TO_CONNECT = frozenset({"socket_timeout", "socket_connect_timeout", "socket_keepalive", "retry"})
_WHO_ASKS = ("username", "password")
_PORT = re.compile(r":\d+$")


def databases_of_one_server(app: Celery, state_url: str) -> tuple[int, int] | None:
    """Return the numbers of the broker's database and the state's if one server, and one user, has both; else None."""
    url = lists_url(app, str(app.conf.broker_write_url or ""))
    broker, state = (_place(one) if one else None for one in (url, state_url))
    if broker is None or state is None or _server(broker) != _server(state):
        return None
    return broker.options.get("db", 0), state.options.get("db", 0)


def lists_url(app: Celery, url: str | None = None) -> str | None:
    """Return the URL, as the store takes it, of the Redis whose lists bear the queues' names; None: there is no such.

    Args:
        app: Its configuration says what there is to know of its brokers.
        url: One of them; default: the one that workers read.

    """
    told = str(app.conf.broker_read_url or "") if url is None else url
    if app.conf.broker_use_ssl or names_of_its_own(app) or not _goes_round(app):
        return None
    found = _lists_url(app, told)
    # What the store can't read, such as a database with two slashes before it, kombu may.
    return found if found is not None and _place(found) is not None else None


def _lists_url(app: Celery, told: str) -> str | None:
    scheme = told.partition("://")[0]
    if scheme == "sentinel":
        return _behind_sentinels(told.split(";"), app.conf.broker_transport_options or {})
    if ";" in told:
        return None
    if scheme == "redis+socket":
        return _on_a_socket(told)
    return told if scheme in ("redis", "rediss") and _is_read_alike(told) else None


def names_of_its_own(app: Celery) -> dict[str, Any]:
    """Return the options by which lists of a Redis bear other names than kombu gives them by default."""
    options = app.conf.broker_transport_options or {}
    return {name: options[name] for name in ("global_keyprefix", "priority_steps", "sep") if name in options}


def _goes_round(app: Celery) -> bool:
    """Whether every queue comes first by turns, as it does where nobody has asked for another order."""
    options = app.conf.broker_transport_options or {}
    return bool(options.get("queue_order_strategy", "round_robin") == "round_robin")


def _place(url: str) -> Place | None:
    try:
        return read_url(url)
    except ConfigurationError:
        return None


def _server(place: Place) -> Place:
    """Return a place without its database, nor the order in which its sentinels are asked."""
    options = {name: value for name, value in place.options.items() if name != "db"}
    return replace(place, options=options, nodes=sorted(place.nodes))


def _is_read_alike(url: str) -> bool:
    """Return whether kombu and redis-py, with which we speak to the server ourselves, understand a URL alike."""
    parts = urlsplit(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    if parts.scheme == "redis":
        return not options
    return all(
        name in _FILES_OF_TLS or (name == "ssl_cert_reqs" and value in _CHECKS_OF_TLS) for name, value in options
    )


def _on_a_socket(url: str) -> str | None:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    database = options.pop("virtual_host", "0").strip("/")
    return None if options else f"unix://{parts.netloc}{parts.path}?db={database}"


def _behind_sentinels(urls: list[str], options: Mapping[str, Any]) -> str | None:
    asking = {
        name: value for name, value in (options.get("sentinel_kwargs") or {}).items() if name not in _HOW_TO_CONNECT
    }
    sentinels = [urlsplit(url) for url in urls]
    first = sentinels[0]
    credentials = first.netloc.rpartition("@")[0]
    are_alike = all(
        (one.scheme, one.path, one.query, one.netloc.rpartition("@")[0]) == (first.scheme, first.path, "", credentials)
        for one in sentinels
    )
    if not (are_alike and options.get("master_name")) or asking.keys() - set(_WHO_ASKS):
        return None
    hosts = [one.netloc.rpartition("@")[2] for one in sentinels]
    if not all(_PORT.search(host) for host in hosts):
        # The port that kombu takes then is not the one that sentinels usually have.
        return None
    query = urlencode(
        {
            "master": options["master_name"],
            **{f"sentinel_{name}": asking[name] for name in _WHO_ASKS if name in asking},
        },
        quote_via=quote,
    )
    return f"sentinel://{credentials}{'@' if credentials else ''}{','.join(hosts)}{first.path}?{query}"
