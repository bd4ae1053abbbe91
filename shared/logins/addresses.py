"""Where an issuer may be: https at a public address. What a tenant names must not lead into our own network."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from shared.logins.model import IssuerRefused

_LONGEST_URL = 500
# Addresses that carry an IPv4 address inside: NAT64 and 6to4. Whatever routes them could lead anywhere.
_CARRIERS = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("2002::/16"))


def check_url(url: str, *, private: bool) -> str:
    """Return the URL; raise `IssuerRefused` unless it is https (or, with `private`, http) and plain."""
    try:
        parts = urlsplit(url)
        plain = bool(parts.hostname) and "@" not in parts.netloc and not parts.fragment and parts.port != 0
    except ValueError:
        plain = False
    if not plain or len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise IssuerRefused("The issuer's addresses must be plain URLs of at most 500 characters.", param="issuer")
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        raise IssuerRefused("The issuer must be reached by https.", param="issuer")
    return url


def check_address(text: str, *, private: bool) -> str:
    """Return the address; raise `IssuerRefused` unless it is a public one, or with `private` one of a local network.

    Link-local addresses, where clouds keep their metadata, are never allowed.
    """
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    carrier = isinstance(address, IPv6Address) and any(address in network for network in _CARRIERS)
    if carrier or not (_is_public(address) or (private and _is_local(address))):
        raise IssuerRefused("The issuer is not at a public address.", param="issuer")
    return text


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    odd = address.is_link_local or address.is_multicast or address.is_unspecified
    return address.is_loopback or (address.is_private and not odd and not address.is_reserved)
