"""What a URL of a state server says, and how it may be shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlencode

from redis.connection import parse_url

from stabilize_celery.errors import ConfigurationError

__all__ = ["Options", "Place", "read_url", "shown"]

Options: TypeAlias = dict[str, Any]
"""Keyword arguments of redis-py's connections."""

Node: TypeAlias = tuple[str, int]
"""Host and port."""

_SECRETS = ("password", "username", "sentinel_password", "sentinel_username")
_FORMS = (
    "redis://host:6379/0, rediss://..., unix:///path, sentinel://host:26379,host:26379/0?master=name or "
    "redis+cluster://host:6379"
)
_DEFAULT_PORTS = {"sentinel": 26379, "redis+cluster": 6379, "rediss+cluster": 6379}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the state lies: one server; a master that sentinels know; or the nodes of a cluster."""

    kind: str
    """`single`, `sentinel` or `cluster`."""
    options: Options
    nodes: list[Node] = field(default_factory=list)
    master: str = ""
    sentinel_options: Options = field(default_factory=dict)


def shown(url: str) -> str:
    """Return `url` without user name and password, wherever they stand."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "a URL that can't be read"
    # A password with an unescaped `/`, `?` or `@` must not show either, so everything up to the last `@` goes.
    rest = rest.rpartition("@")[2]
    location, question_mark, query = rest.partition("?")
    kept = [(name, value) for name, value in parse_qsl(query) if name not in _SECRETS]
    return f"{scheme}://{location}{question_mark if kept else ''}{urlencode(kept)}"


def read_url(url: str) -> Place:
    """Return what a URL says.

    Raises:
        ConfigurationError: it can't be read; the text shows the URL without credentials.

    """
    scheme, separator, rest = url.partition("://")
    # A socket's path is no database.
    if scheme != "unix" and not _has_plain_database(rest):
        raise ConfigurationError(
            f"can't read the Redis URL {shown(url)}: what follows host and port is the number of a database, "
            "such as /0, and nothing else; `?db=` may not contradict it"
        )
    try:
        if scheme in _DEFAULT_PORTS and separator:
            return _several(scheme, rest)
        return Place("single", dict(parse_url(url)))  # type: ignore[no-untyped-call]  # redis-py is untyped here
    except ValueError:
        # Whatever the parser says may have the password in it.
        told = f" {shown(url)}" if separator else ""
        raise ConfigurationError(f"can't read the Redis URL{told}; forms: {_FORMS}") from None


def _has_plain_database(rest: str) -> bool:
    """Return whether the path is empty or a number: redis-py takes anything else for database 0, or drops slashes."""
    location, _, query = rest.rpartition("@")[2].partition("?")
    path = location.partition("/")[2].partition("#")[0].removesuffix("/")
    number = dict(parse_qsl(query)).get("db", path)
    return not path or (path.isascii() and path.isdecimal() and number == path)


def _several(scheme: str, rest: str) -> Place:
    location, _, query = rest.partition("?")
    authority, _, path = location.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    nodes = [_node(part, _DEFAULT_PORTS[scheme]) for part in hosts.split(",")]
    settings = dict(parse_qsl(query))
    master = settings.pop("master", "")
    sentinel_options: Options = {
        name: settings.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in settings
    }
    is_secure = scheme == "rediss+cluster" or settings.pop("ssl", "") == "true"
    # redis-py knows what the other settings mean, so it reads them, of a URL with one host.
    one_host = f"{'rediss' if is_secure else 'redis'}://{credentials}{at}host/{path}?{urlencode(settings)}"
    options = _without_host(parse_url(one_host))  # type: ignore[no-untyped-call]
    if scheme == "sentinel":
        if not master:
            raise ValueError(master)
        return Place("sentinel", options, nodes, master, sentinel_options)
    return Place("cluster", options, nodes)


def _without_host(options: Mapping[str, Any]) -> Options:
    return {name: value for name, value in options.items() if name != "host"}


def _node(text: str, default_port: int) -> Node:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(default_port)
    if not host:
        raise ValueError(host)
    return unquote(host).strip("[]"), int(port)
