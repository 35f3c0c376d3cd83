"""Outward HTTP: the one way in which this product calls somebody else's server.

The invariants kept here:

- An address is judged when it is dialled, after the name was resolved: if any address of a name is forbidden, none is
  used, and the socket that connects is checked once more. There is no second lookup and no cache of names. The name
  stays what it was in `Host` and in TLS.
- What cloud machines are told about themselves is never asked for, whatever else is allowed, unless its address is.
- Where a proxy is set, it alone is dialled: it resolves names and judges addresses. URLs are judged here all the same.
- Redirects are never followed, proxies of the environment never used, cookies never kept, bodies never unpacked.
- At most `RESPONSE_BYTES_MAX` of an answer are read; a longer answer is cut and its connection is dropped.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from zentra.gateway.settings import Settings, SettingsError
from zentra.runtime.errors import Refusal
from zentra.runtime.names import is_host

__all__ = [
    "AddressGuard",
    "AddressPolicy",
    "AddressRefused",
    "Answer",
    "OutwardHttp",
    "refusal_told",
    "webhook_policy",
    "webhook_policy_of",
]

RESPONSE_BYTES_MAX = 16 * 1024  # what an attempt keeps of an answer
KEEPALIVE_SECONDS = 4.0  # below the 5 s after which common servers drop an idle connection: fewer posts meet a dead one

# Networks that the standard library calls global although they lead to, or embed, addresses of other networks.
TUNNELS = tuple(
    ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "192.88.99.0/24")
)
CARRIER_NAT = ip_network("100.64.0.0/10")
DOCUMENTATION = ip_network("3fff::/20")  # RFC 9637, which the standard library does not know yet
ISATAP = (0x00005EFE, 0x02005EFE)  # begin an interface identifier whose other half is an address of IPv4 (RFC 5214)
# Where clouds answer what a machine may know of itself, keys included. All but link-local ones: those are shut anyway.
METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "fd00:42::42", "100.100.100.200", "192.0.0.192",
        "168.63.129.16",
    )
)  # fmt: skip
METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}
)
WEBHOOK_PORTS = (443, 8443)
_PROXY = re.compile(r"http://[^/?#\s]+/?")
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\]")


class AddressRefused(Refusal):
    """Raised when an outward call names an address that this product must not dial; `reason` says why."""

    code = "address_refused"

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(reason, f"address of {host}")
        self.host = host


class AddressPolicy(msgspec.Struct, frozen=True):
    """What may be dialled. The default is public addresses only.

    `allow_private` opens loopback, private, unique-local and carrier-NAT addresses, for development and closed nets;
    link-local (where clouds keep their metadata) and multicast stay shut unless `allowed` names their network. `names`
    opens what `allow_private` does, and every port, for single names: `hooks.internal`, or `.internal` for all below.
    """

    allow_private: bool = False
    allowed: tuple[str, ...] = ()  # networks in CIDR notation
    https_only: bool = False
    ports: tuple[int, ...] = ()  # that may be named; none for all
    literals: bool = True  # whether an address may stand where a name does; one in `allowed` always may
    names: tuple[str, ...] = ()
    # The one address that is ever dialled: it resolves the names, and judges what they lead to. URLs are judged here.
    proxy: str = ""


def webhook_policy(*, allow_private: bool, https_only: bool, allowed: str = "", names: str = "") -> AddressPolicy:
    """Return what webhooks may dial: names on two ports, in public, unless `allow_private`, and what is allowed
    besides, by commas."""
    return AddressPolicy(
        allow_private=allow_private, allowed=_listed(allowed), https_only=https_only, names=_listed(names),
        ports=() if allow_private else WEBHOOK_PORTS, literals=allow_private,
    )  # fmt: skip


def webhook_policy_of(settings: Settings) -> AddressPolicy:
    """Return what webhooks of an installation may dial, those that take anchors too. Raises SettingsError for a network
    that is none."""
    try:
        policy = webhook_policy(
            allow_private=settings.private_addresses, https_only=settings.profile == "production",
            allowed=settings.webhook_networks, names=settings.webhook_names,
        )  # fmt: skip
        AddressGuard(policy)
    except ValueError as error:
        raise SettingsError(f"ZENTRA_WEBHOOK_NETWORKS: {error}; write networks like 10.1.0.0/16") from error
    if settings.webhook_proxy and not _PROXY.fullmatch(settings.webhook_proxy):
        raise SettingsError("ZENTRA_WEBHOOK_PROXY is a URL without a path, like http://proxy.internal:4750")
    return msgspec.structs.replace(policy, proxy=settings.webhook_proxy)


def refusal_told(refused: AddressRefused) -> str:
    """Return what to do about a URL of a webhook that is refused, in a sentence."""
    match refused.reason:
        case "scheme":
            return "this installation calls https only: give an https URL"
        case "port":
            return f"give port {' or '.join(map(str, WEBHOOK_PORTS))}, or have the name put into ZENTRA_WEBHOOK_NAMES"
        case "userinfo":
            return "a URL without a user; whoever is called knows Zentra by its signature"
        case "literal" | "not_an_address":
            return "give a name in the place of the address, or have its network put into ZENTRA_WEBHOOK_NETWORKS"
        case "url_malformed":
            return "an http or https URL that every reader reads in the same way"
        case reason:
            return f"webhooks do not go there ({reason}); a network may be opened by ZENTRA_WEBHOOK_NETWORKS"


def _listed(text: str) -> tuple[str, ...]:
    return tuple(one for part in text.split(",") if (one := part.strip()))


class AddressGuard:
    """Judges addresses and URLs under one policy."""

    def __init__(self, policy: AddressPolicy) -> None:
        """Raises ValueError when `policy.allowed` holds something that is not a network."""
        self._policy = policy
        self._allowed = tuple(ip_network(text) for text in policy.allowed)
        self._names = tuple(name.rstrip(".").lower() for name in policy.names)

    def objection(self, address: str, *, named: bool = False) -> str | None:
        """Return why `address` must not be dialled, or None when it may be; `named` where a name led to it that is
        allowed."""
        try:
            ip = ip_address(address)
        except ValueError:
            return "not_an_address"
        if any(ip in network for network in self._allowed):
            return None
        zone = None
        if isinstance(ip, IPv6Address):
            if ip.ipv4_mapped is not None:
                return "mapped"
            zone, ip = ip.scope_id, IPv6Address(int(ip))  # with its zone an address equals no other
        reason = _objection(ip, self._policy.allow_private or named)
        return "zone" if reason is None and zone is not None else reason

    def names(self, host: str) -> bool:
        """Return whether a host is one of the names that are allowed."""
        name = host.rstrip(".").lower()
        return any(name.endswith(one) if one.startswith(".") else name == one for one in self._names)

    def vet_url(self, url: str) -> URL:
        """Return the parsed URL of an outward call.

        Raises `AddressRefused` for another scheme than http or https, for http where only https is allowed, for a user
        name or password, for a host that is missing or that no name server can be asked for, for a port or a literal
        that the policy does not let stand there, for a name that only ever leads to metadata, and for an address
        literal that must not be dialled.
        """
        try:
            authority = _authority(url)
            parsed = URL(url)
            host, asked, _ = parsed.host, parsed.raw_host, parsed.port
        except ValueError:
            raise AddressRefused("<unreadable>", "url_malformed") from None
        if host is None or not host or asked is None:
            raise AddressRefused("<none>", "url_malformed")
        if ":" not in asked and not is_host(asked):
            raise AddressRefused(host, "url_malformed")
        if parsed.scheme not in ("http", "https") or (self._policy.https_only and parsed.scheme != "https"):
            raise AddressRefused(host, "scheme")
        if "@" in authority:
            raise AddressRefused(host, "userinfo")
        if (reason := self._host_objection(host)) is not None:
            raise AddressRefused(host, reason)
        if self._policy.ports and parsed.port not in self._policy.ports and not self.names(host):
            raise AddressRefused(host, "port")
        return parsed

    def _host_objection(self, host: str) -> str | None:
        if host.rstrip(".").lower() in METADATA_NAMES:
            return "metadata"
        if not _looks_numeric(host):
            return None
        reason = self.objection(host)
        if reason is None and not self._policy.literals and not any(ip_address(host) in net for net in self._allowed):
            return "literal"
        return reason


def _objection(ip: IPv4Address | IPv6Address, allow_private: bool) -> str | None:
    """The first objection is the answer; what `allow_private` opens stands last."""
    if ip.is_unspecified:
        return "unspecified"
    if ip.is_multicast:
        return "multicast"
    if ip.is_link_local:
        return "link_local"
    if ip in METADATA:
        return "metadata"
    if any(ip in network for network in TUNNELS) or (ip.version == 6 and int(ip) >> 32 & 0xFFFFFFFF in ISATAP):
        return "tunnel"
    if ip.is_loopback:
        return None if allow_private else "loopback"
    if ip.is_reserved or ip in DOCUMENTATION or (isinstance(ip, IPv6Address) and ip.is_site_local):
        return "reserved"
    if ip in CARRIER_NAT:
        return None if allow_private else "carrier_nat"
    if ip.is_private or not ip.is_global:
        return None if allow_private else "private"
    return None


def _authority(url: str) -> str:
    """Return what stands between the slashes; raise ValueError for what is read in different ways by different readers:
    blanks and controls, a backslash, an escaped host, a port that is not of plain digits."""
    if _AMBIGUOUS.search(url):
        raise ValueError("blanks, controls or backslashes")
    authority = urlsplit(url).netloc
    named = authority.rpartition("@")[2].rpartition("]")[2]  # without an address in brackets, whose zone has a %
    port = named.partition(":")[2]
    if "%" in named or (port and not (port.isascii() and port.isdigit())):
        raise ValueError("an escaped host, or a port that is no number")
    return authority


def _looks_numeric(host: str) -> bool:
    """Whether the system might read the host as an address by itself, in any of the old spellings."""
    if ":" in host:
        return True
    label = host.rstrip(".").rpartition(".")[2].lower()
    return label.isdigit() or label.startswith("0x")


class VettingResolver(AbstractResolver):
    """Resolves a name and refuses it whole when any of its addresses is forbidden."""

    def __init__(self, guard: AddressGuard, inner: AbstractResolver) -> None:
        self._guard = guard
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the vetted addresses. Raises `AddressRefused`, and OSError when the name does not resolve."""
        try:
            results = await self._inner.resolve(host, port, family)
        except ValueError as error:  # of the codec, for a name that no server can be asked for
            raise socket.gaierror(socket.EAI_NONAME, f"no name that can be asked for: {error}") from error
        named = self._guard.names(host)
        for result in results:
            if (reason := self._guard.objection(result["host"], named=named)) is not None:
                raise AddressRefused(host, reason)
        return results

    async def close(self) -> None:
        """Close the resolver underneath."""
        await self._inner.close()


_named: ContextVar[bool] = ContextVar("_named", default=False)
"""Whether the call under way is to a name that is allowed: a socket knows its address alone."""


class Answer(NamedTuple):
    """What a server answered; `body` is at most `RESPONSE_BYTES_MAX` long."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool  # more followed than was read


class OutwardHttp:
    """A pool of connections to other people's servers under one policy. Make it inside a running event loop."""

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        connections_max: int = 1024,
        connections_per_host_max: int = 256,
        connect_timeout_seconds: float = 5.0,
        total_timeout_seconds: float = 15.0,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """Waiting for a connection is part of the call's time, so both maxima should stand above what callers ask at
        once; then a host that hangs holds up nobody else. Raises ValueError for a policy that cannot be read."""
        self.guard = AddressGuard(policy)
        self._urls: dict[str, URL] = {}
        self._connect_timeout_seconds = connect_timeout_seconds
        self._proxy = URL(policy.proxy) if policy.proxy else None
        inner = resolver or ThreadedResolver()
        self._resolver = inner if self._proxy else VettingResolver(self.guard, inner)
        self._session = ClientSession(
            connector=TCPConnector(
                resolver=self._resolver,
                use_dns_cache=False,
                limit=connections_max,
                limit_per_host=connections_per_host_max,
                keepalive_timeout=KEEPALIVE_SECONDS,
                socket_factory=None if self._proxy else self._vetted_socket,
            ),
            cookie_jar=DummyCookieJar(),
            timeout=self.timeout(total_timeout_seconds),
            trust_env=False,
            auto_decompress=False,
            headers={"user-agent": "zentra", "accept-encoding": "identity"},
        )
        # Of its own accord aiohttp sends a PUT or DELETE again over a connection that was dropped: that may be a second
        # payment. There is no public switch for it; a rule of the conformance suite watches this one.
        self._session._retry_connection = False

    def timeout(self, total_seconds: float) -> ClientTimeout:
        """Return a timeout for `request` with another total than the pool's own."""
        return ClientTimeout(
            total=total_seconds, sock_connect=min(self._connect_timeout_seconds, total_seconds), ceil_threshold=60
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        timeout: ClientTimeout | None = None,  # noqa: ASYNC109 - aiohttp measures it, with a limit per phase
    ) -> Answer:
        """Return the server's answer, whatever its status.

        Raises `AddressRefused` before anything is sent, aiohttp.ClientError when the call fails, and TimeoutError.
        """
        options: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        vetted = self._vetted_url(url)
        _named.set(self.guard.names(vetted.host or ""))
        async with self._session.request(
            method, vetted, data=body, headers=headers, allow_redirects=False, proxy=self._proxy, **options
        ) as response:
            content = response.content
            received = await content.read(RESPONSE_BYTES_MAX)
            while not content.at_eof() and len(received) < RESPONSE_BYTES_MAX:
                received += await content.read(RESPONSE_BYTES_MAX - len(received))
            cut = not content.at_eof()
            if cut:
                response.close()  # the rest is not ours to read, so the connection cannot be used again
            return Answer(response.status, response.headers, received, cut)

    async def aclose(self) -> None:
        """Close every connection. Calling it twice does no harm."""
        await self._session.close()
        await self._resolver.close()

    def _vetted_url(self, url: str) -> URL:
        """Literals are judged here; what a name leads to is judged by the resolver, on each new connection."""
        parsed = self._urls.get(url)
        if parsed is None:
            parsed = self.guard.vet_url(url)
            if len(self._urls) >= 1024:  # a deployment has far fewer endpoints that are hot at one time
                self._urls.clear()
            self._urls[url] = parsed
        return parsed

    def _vetted_socket(self, info: Any) -> socket.socket:
        """The last look, at the very address that will be connected."""
        family, kind, protocol, _, address = info
        if (reason := self.guard.objection(address[0], named=_named.get())) is not None:
            raise AddressRefused(str(address[0]), reason)
        return socket.socket(family=family, type=kind, proto=protocol)
