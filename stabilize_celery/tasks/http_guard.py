"""Keeps requests away from addresses that are not public: cloud metadata, localhost, the company's own network.

The address that was checked is the one connected to, so a name that changes its answer between the two (DNS
rebinding) gains nothing. Every hop of a redirect comes through here.
"""

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any, TypeAlias

from stabilize_celery.errors import PermanentError

__all__ = ["AddressRefusedError", "connect", "is_public"]

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
# What getaddrinfo returns: family, kind, protocol, canonical name, and an address whose shape the family decides.
_Resolved: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressRefusedError(PermanentError):
    """A host's address is not public, and the stage does not allow that."""


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the public internet; IPv4 inside IPv6 is looked at as IPv4."""
    found = _embedded(ipaddress.ip_address(address.partition("%")[0]))
    return found.is_global and not found.is_multicast and not found.is_reserved


def connect(host: str, port: int, timeout_s: float, *, allow_private: bool) -> socket.socket:
    """Return a connected socket to one of the host's addresses.

    Raises:
        AddressRefusedError: one of them is not public, and `allow_private` is false.
        OSError: it can't be resolved or reached.

    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        if not allow_private and not is_public(str(address[0])):
            raise AddressRefusedError(
                f"{host} has the address {address[0]}, which is not public; if this stage may talk to it, set "
                "`allow_private: true` in its context"
            )
    return _first_that_answers(found, timeout_s)


def _first_that_answers(found: Sequence[_Resolved], timeout_s: float) -> socket.socket:
    problem: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in found:
        candidate = socket.socket(family, kind, protocol)
        try:
            candidate.settimeout(timeout_s)
            candidate.connect(address)
        except OSError as error:
            candidate.close()
            problem = error
        else:
            return candidate
    raise problem


def _embedded(address: _Address) -> _Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address
