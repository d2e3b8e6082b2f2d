"""Which targets may be called: rules on hosts and addresses, and the addresses that never are.

Knows neither jobs nor HTTP, and connects to nothing.
"""

import fnmatch
import ipaddress
import socket
from collections.abc import Sequence

from yarl import URL

from rqueue.errors import Refused


def _networks(written: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(word) for word in written.split()]


# "This network", reserved, site-local, the metadata services of clouds that are not link-local, and NAT64 for
# local use (RFC 8215), of whose addresses only its operator knows where the IPv4 one stands.
_NEVER = _networks("0.0.0.0/8 240.0.0.0/4 fec0::/10 100.100.100.200 192.0.0.192 fd00:ec2::254 64:ff9b:1::/48")
# IPv4-compatible, IPv4-translated and NAT64 addresses end in an IPv4 one, those for local use mostly.
_IPV4_INSIDE = _networks("::/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForbiddenTarget(OSError):
    """An address that must not be called. An OSError, so that a name's other addresses are tried.

    It says nothing of the address: only where all of a name's addresses fail alike does the library
    raise this one, and so only then is the target forbidden for good.
    """

    def __init__(self) -> None:
        super().__init__("the callback's address must not be called; see RQUEUE_CALLBACK_ALLOW")


class Guard:
    """Which targets may be called.

    A deny rule refuses, else an allow rule admits, else link-local, loopback, multicast, unspecified
    and reserved addresses and metadata services are refused; all else, private ones too, is admitted.
    Rules are CIDRs, matched against the address that is connected to, and globs, matched against the host.
    `own` is the origin of the service's own inbox, which is admitted like an allowed host.
    """

    def __init__(self, allow: Sequence[str], deny: Sequence[str], own: URL | None = None) -> None:
        self._own = own
        self._allow_nets, self._allow_hosts = _rules(allow)
        self._deny_nets, self._deny_hosts = _rules(deny)

    def refuses_host(self, url: URL) -> bool:
        """Whether a rule denies this URL's host by name."""
        return _named(url, self._deny_hosts)

    def trusts_host(self, url: URL) -> bool:
        """Whether a rule admits this URL's host by name, whatever it resolves to but for denied addresses."""
        return _named(url, self._allow_hosts) or url.origin() == self._own

    def refuses(self, address: Address, trusted: bool = False) -> bool:
        """Whether this address must not be connected to."""
        forms = {address, _unwrapped(address)}
        if any(form in net for net in self._deny_nets for form in forms):
            return True
        if trusted or any(form in net for net in self._allow_nets for form in forms):
            return False
        unwrapped = _unwrapped(address)
        return (
            unwrapped.is_link_local
            or unwrapped.is_loopback
            or unwrapped.is_multicast
            or unwrapped.is_unspecified
            or any(form in net for net in _NEVER for form in forms)
        )


def literal(host: str) -> Address | None:
    """The address that a host is, in any form that a resolver would take for one (`127.1`, `0x7f000001`)."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _named(url: URL, globs: Sequence[str]) -> bool:
    """Whether a URL's host, as it is written or as it goes out (IDNA), matches one of the globs."""
    hosts = {host.lower().rstrip(".") for host in (url.host, url.raw_host) if host}
    return any(fnmatch.fnmatchcase(host, glob) for host in hosts for glob in globs)


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for: mapped, compatible, 6to4, Teredo, NAT64; else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.teredo:
        return address.teredo[1]
    if any(address in net for net in _IPV4_INSIDE) and int(address) > 1:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _rules(words: Sequence[str]) -> tuple[list[ipaddress.IPv4Network | ipaddress.IPv6Network], list[str]]:
    nets, globs = [], []
    for word in words:
        try:
            nets.append(ipaddress.ip_network(word, strict=False))
        except ValueError:
            if "/" in word:
                # As a glob it would match nothing, and the guard would be off.
                raise Refused(
                    f"{word!r} in RQUEUE_CALLBACK_ALLOW or RQUEUE_CALLBACK_DENY is no CIDR"
                ) from None
            globs.append(word.lower().rstrip("."))
    return nets, globs
