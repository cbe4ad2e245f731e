"""Settings of the page, frozen: who may see it, who may act, and how much it takes."""

import ipaddress
from dataclasses import dataclass

from stabilize_celery.errors import ConfigurationError

__all__ = ["LOOPBACK_NAMES", "WebSettings", "check_exposure", "is_loopback"]

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""Names under which a page that is for this machine only is asked for."""
_SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """What the page allows. Sizes in bytes."""

    token: str = ""
    """Who shows it may use the page; empty: nobody is asked for one."""
    user_header: str = ""
    """Header in which a proxy in front of the page names the user that it has checked; empty: there is no proxy."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses from which `user_header` is believed."""
    allowed_hosts: tuple[str, ...] = ()
    """Names under which the page may be asked for (without port), beside those of this machine. None: any name where
    everybody shows the token, else no other: a site whose name suddenly stands for this machine's address (DNS
    rebinding) could make a browser here ask for whatever it likes, a proxy's header included."""
    is_read_only: bool = False
    """Nothing can be started, changed or sent."""
    max_body_bytes: int = 1024 * 1024
    max_threads: int = 16
    """Requests that wait for Redis at once (count); others queue."""
    max_streams: int = 64
    """Live streams at once (count); more are refused."""
    session_s: int = 12 * 3600
    """How long a browser stays signed in (s)."""

    def __post_init__(self) -> None:
        """Check what can be checked.

        Raises:
            ConfigurationError: the token can be guessed, or an allowed host is no name.

        """
        object.__setattr__(self, "allowed_hosts", tuple(map(_host_name, self.allowed_hosts)))
        if self.token and len(self.token) < _SHORTEST_TOKEN:
            raise ConfigurationError(
                f"the token of the page has {len(self.token)} characters: give at least {_SHORTEST_TOKEN}, such as "
                "those of `python -c 'import secrets; print(secrets.token_urlsafe())'`"
            )

    @property
    def asks_who(self) -> bool:
        """Whether nobody gets in without saying who they are."""
        return bool(self.token or self.user_header)

    @property
    def proxies(self) -> tuple[str, ...]:
        """Addresses of the proxies that are in front of the page; none unless one signs people in."""
        return self.trusted_proxies if self.user_header else ()

    def allows_host(self, name: str) -> bool:
        """Return whether the page may be asked for under this name (without port)."""
        if not self.allowed_hosts and self.token and not self.user_header:
            return True
        return name in self.allowed_hosts or name in LOOPBACK_NAMES


def _host_name(given: str) -> str:
    """Return a name as browsers send it."""
    name = given.strip().lower()
    is_address = ":" in name and _is_address(name)
    if not name or "/" in name or (":" in name and not is_address):
        raise ConfigurationError(f"{given!r} is no name of a host: give it without scheme and port, as in jobs.example")
    return name


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine reach what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, settings: WebSettings) -> None:
    """Refuse to listen where others reach it while nobody is asked who they are.

    Raises:
        ConfigurationError: it would be open to everybody who reaches `host`.

    """
    if is_loopback(host) or settings.asks_who:
        return
    raise ConfigurationError(
        f"on {host} everybody who reaches this machine could see and change all workflows: give --token "
        "(or STABILIZE_WEB_TOKEN), or --user-header behind a proxy that signs people in, or listen on 127.0.0.1"
    )
