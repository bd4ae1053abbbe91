"""Where a tenant may send us: https at a public address. What it names must not lead into our own network."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

LONGEST_URL = 500
# Addresses that carry an IPv4 address inside: NAT64 and 6to4. Whatever routes them could lead anywhere.
_CARRIERS = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("2002::/16"))


def is_plain(url: str) -> bool:
    """Tell whether this is a URL with a host and without a user, a fragment or odd characters, of 500 at most."""
    try:
        parts = urlsplit(url)
        plain = bool(parts.hostname) and "@" not in parts.netloc and not parts.fragment and parts.port != 0
    except ValueError:
        return False
    return plain and len(url) <= LONGEST_URL and url.isascii() and url.isprintable() and " " not in url


def has_allowed_scheme(url: str, *, private: bool) -> bool:
    """Tell whether a plain URL is https, or http where that is allowed: at home."""
    scheme = urlsplit(url).scheme
    return scheme == "https" or (private and scheme == "http")


def is_allowed(text: str, *, private: bool) -> bool:
    """Tell whether this IP address is a public one, or with `private` one of a local network.

    Link-local addresses, where clouds keep their metadata, are never allowed. Raises `ValueError` for what is none.
    """
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    carrier = isinstance(address, IPv6Address) and any(address in network for network in _CARRIERS)
    return not carrier and (_is_public(address) or (private and _is_local(address)))


def names_forbidden_address(url: str, *, private: bool) -> bool:
    """Tell whether a plain URL's host is an IP address that isn't allowed; of a name only its look-up can tell."""
    try:
        return not is_allowed(urlsplit(url).hostname or "", private=private)
    except ValueError:
        return False


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    odd = address.is_link_local or address.is_multicast or address.is_unspecified
    return address.is_loopback or (address.is_private and not odd and not address.is_reserved)
