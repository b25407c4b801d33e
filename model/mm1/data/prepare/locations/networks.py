"""Which network addresses are public, for fetching from addresses in data.

An address in data is untrusted: one that leads into a private network would make this machine read from it.
"""

from __future__ import annotations

import ipaddress

_SPECIAL_4 = [
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24",  # IETF protocol assignments
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # automatic multicast tunnelling
        "192.88.99.0/24",  # 6to4 relays
        "192.175.48.0/24",  # AS112
    )
]
"""Networks of IANA's registry of special addresses that Python's ``is_global`` lets through, in part or on some versions."""
_UNICAST_6 = ipaddress.ip_network("2000::/3")
"""All public IPv6 addresses. Outside: IPv4-mapped and -compatible, NAT64, private, site-local, link-local, multicast, ..."""
_SPECIAL_6 = [
    ipaddress.ip_network(text)
    for text in (
        "2001::/23",  # IETF protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the former 6bone
        "3fff::/20",  # documentation
    )
]


def is_public(address: str) -> bool:
    """Whether an IP address is a unicast address of the public internet, and leads to it without a translator or tunnel.

    Args:
        address: as the resolver returns it; a scope (``%eth0``) makes it local.
    """
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(number, ipaddress.IPv4Address):
        is_special = number.is_multicast or number.is_reserved or any(number in network for network in _SPECIAL_4)
        return number.is_global and not is_special
    is_special = bool(number.scope_id) or any(number in network for network in _SPECIAL_6)
    return number.is_global and number in _UNICAST_6 and not is_special
