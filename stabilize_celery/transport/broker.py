"""Where a broker is, for Celery: the Redis URLs that the store takes, in the words of kombu."""

import json
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES

from stabilize_celery.errors import ConfigurationError, StabilizeError, redact_url
from stabilize_celery.models.problems import Suggester
from stabilize_celery.store.pools import no_retries
from stabilize_celery.store.redis_url import Place, read_url, shown

__all__ = ["broker_settings"]

_SOCKET_OPTIONS = ("socket_timeout", "socket_connect_timeout", "socket_keepalive", "health_check_interval")
_REDIS = ("redis", "rediss", "sentinel")


def broker_settings(url: str, timeout_s: float, options: str = "") -> dict[str, Any]:
    """Return Celery's settings for a broker.

    Args:
        url: As Celery takes it, or a Redis URL as the store takes it.
        timeout_s: How long connecting, and waiting for a reply, may take (s).
        options: Further `broker_transport_options`, as a JSON object.

    Raises:
        ConfigurationError: Celery can't use it; the text says what it can.

    """
    given = _read_options(options)
    scheme = url.partition("://")[0]
    if scheme.endswith("+cluster"):
        raise ConfigurationError(
            f"{redact_url(url)} is a Redis Cluster, which Celery can't use as a broker: keep the state there, and give "
            "a broker of its own (STABILIZE_BROKER_URL, or broker_url=), such as redis://host:6379/0"
        )
    if url and "://" not in url:
        # Celery would take it for the host of an AMQP server. It may have a password in it, so it is not shown.
        raise ConfigurationError(
            "the broker's URL has no scheme, so it does not say what kind of server that is: write "
            "redis://host:6379/0, sentinel://…, or amqp://host"
        )
    _check_transport(scheme, url)
    found: dict[str, Any] = {"broker_url": url, "broker_connection_timeout": timeout_s}
    socket = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "socket_keepalive": True}
    if scheme == "sentinel":
        place = _sentinels(url)
        asking = {**socket, "retry": no_retries(), **place.sentinel_options}
        more = {"master_name": place.master, "sentinel_kwargs": asking}
        found |= {"broker_url": _kombu_sentinels(place), "broker_transport_options": socket | more}
        if "connection_class" in place.options:
            found["broker_use_ssl"] = True
    elif scheme == "unix":
        found["broker_url"] = _kombu_socket(url)
    elif scheme in ("redis", "rediss"):
        found["broker_url"], more = _kombu_redis(url)
        found["broker_transport_options"] = socket | more
    if given:
        found["broker_transport_options"] = {**found.get("broker_transport_options", {}), **given}
    _require_usable(found["broker_url"], url)
    return found


def _read_options(text: str) -> dict[str, Any]:
    try:
        read = json.loads(text or "{}")
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise ConfigurationError(
            f"STABILIZE_BROKER_OPTIONS is {text!r}: write the app's broker_transport_options as a JSON object, such as "
            '{"global_keyprefix": "shop:"}'
        )
    return read


def _check_transport(scheme: str, url: str) -> None:
    """Refuse what kombu would look for in vain at the first message; a transport may also be a module of one's own."""
    name = scheme.partition("+")[0]
    if not name or name in TRANSPORT_ALIASES or "." in name or name == "unix":
        return
    hint = Suggester(sorted(TRANSPORT_ALIASES)).suggest(name)
    raise ConfigurationError(
        f"Celery knows no broker of the kind {name!r} ({redact_url(url)}){hint or '.'} Usual ones: "
        "redis://host:6379/0, sentinel://…, amqp://host"
    )


def _require_usable(told: str, url: str) -> None:
    """Refuse what kombu would stumble over at the first message, when the workflow is started already."""
    try:
        for one in told.split(";"):
            connection = Connection(one)  # type: ignore[no-untyped-call]  # kombu is untyped
            if urlsplit(one).scheme in _REDIS:
                int(str(connection.virtual_host).strip("/") or 0)
    except ValueError:
        # Its text may show a part of the password, where that is not escaped.
        raise ConfigurationError(
            f"Celery can't use the broker {shown(url)}: its port or its database is not a number, or out of range; a "
            "password is to be escaped (%2F for /)"
        ) from None
    except Exception as error:
        # Each transport is read by code of its own.
        raise ConfigurationError(f"Celery can't use the broker {shown(url)}: {error}") from error


def _kombu_redis(url: str) -> tuple[str, dict[str, Any]]:
    """Return a Redis URL without what kombu wants to be told beside it, and that."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationError(f"can't read the broker's URL {redact_url(url)}: {error}") from None
    query = parse_qsl(parts.query)
    beside = {name for name, _ in query} & {*_SOCKET_OPTIONS, "db"}
    if not beside or ";" in url:
        return url, {}
    try:
        read = read_url(url).options
    except StabilizeError as error:
        raise ConfigurationError(f"can't use the broker: {error}") from None
    path = f"/{read['db']}" if "db" in beside else parts.path
    rest = urlencode([(name, value) for name, value in query if name not in beside])
    told = parts._replace(path=path, query=rest).geturl()
    return told, {name: read[name] for name in _SOCKET_OPTIONS if name in beside}


def _sentinels(url: str) -> Place:
    try:
        return read_url(url)
    except StabilizeError as error:
        raise ConfigurationError(
            f"can't read the broker's URL {redact_url(url)}: write all sentinels and the master's name in one, "
            "sentinel://host:26379,host:26379/0?master=name"
        ) from error


def _kombu_sentinels(place: Place) -> str:
    user, password = (quote(str(place.options.get(name) or ""), safe="") for name in ("username", "password"))
    credentials = f"{user}:{password}@" if user or password else ""
    database = place.options.get("db", 0)
    return ";".join(f"sentinel://{credentials}{host}:{port}/{database}" for host, port in place.nodes)


def _kombu_socket(url: str) -> str:
    """Return `unix://PATH?db=N` as kombu spells it."""
    parts = urlsplit(url)
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={database}"
