"""Which addresses on the network may be called for people who are not trusted, and which URLs they may give.

The rules are about numbers, not names: whoever calls resolves the name once, asks here, and connects to that number.
"""

import ipaddress
import re
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

URL_LIMIT = 1000  # characters; the metadata of an object holds 2,000 in all

# What `is_global` of this or an earlier Python lets through, and what leads elsewhere than it says: multicast, the
# wire server of Azure (its metadata, at a public address), 6to4, Teredo, addresses for documents and for local use.
_NEVER: Networks = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "100.64.0.0/10", "168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/3"),
            *("::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
            *("5f00::/16", "::ffff:0:0:0/96", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
        ),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]{1,253}|\[(?P<six>[0-9A-Fa-f:.]{2,45})\])(:(?P<port>[0-9]{1,5}))?")
_PRINTABLE = re.compile(r"[!-~]+")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#\\]*)(.*)", re.DOTALL)


def networks(text: str) -> Networks:
    """Read a list of networks, with commas or blanks between: `10.0.0.0/8, fd00::/8`. Raises ValueError."""
    return tuple(ipaddress.ip_network(word) for word in text.replace(",", " ").split())


def is_allowed(address: Address, also: Networks = ()) -> bool:
    """Tell whether an address may be called: it is one of the public internet, or in one of the networks `also`.

    An IPv4 address in the dress of IPv6 (mapped, NAT64) is what it is inside.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            address = address.ipv4_mapped
        elif address in _NAT64:
            address = ipaddress.IPv4Address(address.packed[-4:])
    if _in(address, also):
        return True
    return address.is_global and not _in(address, _NEVER)


def _in(address: Address, networks: Networks) -> bool:
    return any(address in network for network in networks)  # False for a network of the other version


def shown(url: str) -> str:
    """Return what anybody may see of a URL, good or not: its scheme and host. The rest may hold a secret."""
    match = _URL.match(url)
    if match is None:
        return "…"
    scheme, authority, rest = match.groups()
    _, user, host = authority.rpartition("@")
    if "@" in rest:  # of a password with a slash in it, this may be the beginning
        return f"{scheme}…"
    return f"{scheme}{'…@' if user else ''}{host}"


def callback_url(text: str) -> str:
    """Return a URL that could be called, as it is. Raises ValueError that says what is wrong with it.

    Nothing is resolved here: whether its address may be called is asked when it is.
    """
    if len(text) > URL_LIMIT:
        raise ValueError(f"longer than {URL_LIMIT} characters")
    if not _PRINTABLE.fullmatch(text) or "\\" in text:
        raise ValueError("has characters that no URL has; encode them, the host as punycode")
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"}:
        raise ValueError("not an http:// or https:// address")
    if "@" in parts.netloc:
        raise ValueError("no user and password may stand in it")
    match = _AUTHORITY.fullmatch(parts.netloc)
    if not match:
        raise ValueError(f"{parts.netloc!r} is not the name of a host, with a port or without")
    if match["six"]:
        ipaddress.IPv6Address(match["six"])
    if match["port"] and not 0 < int(match["port"]) < 65536:
        raise ValueError(f"{match['port']} is not a port")
    if parts.fragment:
        raise ValueError("has a fragment (#), which is never sent")
    return text
