"""Where a broker is, for Celery: the Redis URLs that the store takes, in the words of kombu."""

from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from kombu.transport import TRANSPORT_ALIASES

from stabilize_celery.errors import ConfigurationError, StabilizeError, redact_url
from stabilize_celery.models.problems import Suggester
from stabilize_celery.store.redis_url import Place, read_url

__all__ = ["broker_settings"]


def broker_settings(url: str, timeout_s: float) -> dict[str, Any]:
    """Return Celery's settings for a broker.

    Args:
        url: As Celery takes it, or a Redis URL as the store takes it.
        timeout_s: How long connecting, and waiting for a reply, may take (s).

    Raises:
        ConfigurationError: Celery can't use it; the text says what it can.

    """
    scheme = url.partition("://")[0]
    if scheme.endswith("+cluster"):
        raise ConfigurationError(
            f"{redact_url(url)} is a Redis Cluster, which Celery can't use as a broker: keep the state there, and give "
            "a broker of its own (STABILIZE_BROKER_URL, or broker_url=), such as redis://host:6379/0"
        )
    _check_transport(scheme if "://" in url else "", url)
    found: dict[str, Any] = {"broker_url": url, "broker_connection_timeout": timeout_s}
    options = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "socket_keepalive": True}
    if scheme == "sentinel":
        place = _sentinels(url)
        more = {"master_name": place.master, "sentinel_kwargs": {**options, **place.sentinel_options}}
        found |= {"broker_url": _kombu_sentinels(place), "broker_transport_options": options | more}
        if "connection_class" in place.options:
            found["broker_use_ssl"] = True
    elif scheme == "unix":
        found["broker_url"] = _kombu_socket(url)
    elif scheme in ("redis", "rediss"):
        found["broker_transport_options"] = options
    return found


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
