"""Where a webhook must never go, in every spelling and by every way around; a refusal is an attempt with its error.

    .venv/bin/python -m tests.gateway.test_address_refusals

prints the list with what each entry met."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import structs

from tests.gateway.test_webhook_sender import self_signed
from zentra.gateway.outward.http import AddressPolicy, AddressRefused, OutwardHttp, webhook_policy, webhook_policy_of
from zentra.gateway.outward.webhooks import WebhookSender
from zentra.gateway.settings import Settings, SettingsError
from zentra.runtime.webhooks.standard import AttemptError, AttemptResult, WebhookCall

LIVE = webhook_policy(allow_private=False, https_only=True)
URL, ADDRESS = AttemptError.URL_REFUSED, AttemptError.ADDRESS_REFUSED

# What stands in the URL itself; nothing of it is ever resolved.
URLS: Sequence[tuple[str, AttemptError, str]] = (
    ("http://hooks.example/", URL, "scheme"),
    ("ftp://hooks.example/", URL, "scheme"),
    ("https://user@hooks.example/", URL, "userinfo"),
    ("https://user:pass@hooks.example/", URL, "userinfo"),
    ("https://hooks.example@127.0.0.1/", URL, "userinfo"),
    ("https://hooks.example:80/", URL, "port"),
    ("https://hooks.example:6379/", URL, "port"),
    ("https://hooks.example:22/", URL, "port"),
    ("https://93.184.216.34/", URL, "literal"),
    ("https://[2606:2800:220:1::1]/", URL, "literal"),
    ("https://127.0.0.1/", ADDRESS, "loopback"),
    ("https://[::1]/", ADDRESS, "loopback"),
    ("https://0.0.0.0/", ADDRESS, "unspecified"),
    ("https://[::]/", ADDRESS, "unspecified"),
    ("https://10.0.0.1/", ADDRESS, "private"),
    ("https://172.16.0.1/", ADDRESS, "private"),
    ("https://192.168.0.1/", ADDRESS, "private"),
    ("https://100.64.0.1/", ADDRESS, "carrier_nat"),
    ("https://169.254.169.254/latest/meta-data/", ADDRESS, "link_local"),
    ("https://[fd00:ec2::254]/latest/meta-data/", ADDRESS, "metadata"),
    ("https://100.100.100.200/", ADDRESS, "metadata"),
    ("https://metadata.google.internal/computeMetadata/v1/", ADDRESS, "metadata"),
    ("https://METADATA.google.internal./", ADDRESS, "metadata"),
    ("https://metadata/", ADDRESS, "metadata"),
    ("https://[fd12::1]/", ADDRESS, "private"),
    ("https://[fe80::1]/", ADDRESS, "link_local"),
    ("https://[ff02::1]/", ADDRESS, "multicast"),
    ("https://224.0.0.1/", ADDRESS, "multicast"),
    ("https://240.0.0.1/", ADDRESS, "reserved"),
    ("https://255.255.255.255/", ADDRESS, "reserved"),
    ("https://[::ffff:127.0.0.1]/", ADDRESS, "mapped"),
    ("https://[::ffff:7f00:1]/", ADDRESS, "mapped"),
    ("https://[::127.0.0.1]/", ADDRESS, "reserved"),
    ("https://[64:ff9b::7f00:1]/", ADDRESS, "tunnel"),
    ("https://[64:ff9b:1::7f00:1]/", ADDRESS, "tunnel"),
    ("https://[2002:7f00:1::]/", ADDRESS, "tunnel"),
    ("https://[2001:0:7f00:1::]/", ADDRESS, "tunnel"),
    ("https://2130706433/", ADDRESS, "not_an_address"),
    ("https://0x7f000001/", ADDRESS, "not_an_address"),
    ("https://0x7f.0.0.1/", ADDRESS, "not_an_address"),
    ("https://0x7F.1/", ADDRESS, "not_an_address"),
    ("https://017700000001/", ADDRESS, "not_an_address"),
    ("https://0177.0.0.1/", ADDRESS, "not_an_address"),
    ("https://127.1/", ADDRESS, "not_an_address"),
    ("https://0/", ADDRESS, "not_an_address"),
    ("https://127.0.0.1./", ADDRESS, "not_an_address"),
    ("https://127。0。0。1/", ADDRESS, "loopback"),
    ("https://127．0．0．1/", ADDRESS, "loopback"),
    ("https://１２７.0.0.1/", ADDRESS, "loopback"),
    ("https://①②⑦.0.0.1/", ADDRESS, "loopback"),
    ("https://metadata。google。internal/", ADDRESS, "metadata"),
    ("gopher://hooks.example/", URL, "scheme"),
    ("file:///etc/passwd", URL, "url_malformed"),
    ("https:///hooks", URL, "url_malformed"),
    ("https://@hooks.example/", URL, "userinfo"),
    ("https://:@hooks.example/", URL, "userinfo"),
    ("https://hooks.example\\@127.0.0.1/", URL, "url_malformed"),
    ("https://127.0.0.1#@hooks.example/", ADDRESS, "loopback"),
    ("https://127.0.0.1\t.hooks.example/", URL, "url_malformed"),
    ("https://hooks.exa\nmple/", URL, "url_malformed"),
    (" https://hooks.example/", URL, "url_malformed"),
    ("https://127.0.0.1%00.hooks.example/", URL, "url_malformed"),
    ("https://%31%32%37.0.0.1/", URL, "url_malformed"),
    ("https://127%2e0.0.1/", URL, "url_malformed"),
    ("https://hooks.example:0/", URL, "port"),
    ("https://hooks.example:4４3/", URL, "url_malformed"),
    ("https://hooks.example:+443/", URL, "url_malformed"),
    ("https://hooks.example../", URL, "url_malformed"),
    ("https://127.0.0.0x1/", ADDRESS, "not_an_address"),
    ("https://1.2.3.4.5/", ADDRESS, "not_an_address"),
    ("https://00000177.0.0.1/", ADDRESS, "not_an_address"),
    ("https://0.1.2.3/", ADDRESS, "private"),
    ("https://192.88.99.1/", ADDRESS, "tunnel"),
    ("https://192.0.0.192/opc/v2/", ADDRESS, "metadata"),
    ("https://168.63.129.16/machine", ADDRESS, "metadata"),
    ("https://[fd00:42::42]/conf", ADDRESS, "metadata"),
    ("https://[fd00:ec2::254%25eth0]/", ADDRESS, "metadata"),
    ("https://[fe80::1%25eth0]/", ADDRESS, "link_local"),
    ("https://[::1%25lo]/", ADDRESS, "loopback"),
    ("https://[2606:2800:220:1::1%25eth0]/", ADDRESS, "zone"),
    ("https://[::ffff:0:127.0.0.1]/", ADDRESS, "reserved"),
    ("https://[64:ff9b:1:ffff::1]/", ADDRESS, "tunnel"),
    ("https://[2606:2800:220:1:0:5efe:7f00:1]/", ADDRESS, "tunnel"),
    ("https://[2606:2800:220:1:200:5efe:a00:1]/", ADDRESS, "tunnel"),
    ("https://[fec0::1]/", ADDRESS, "reserved"),
    ("https://[3fff::1]/", ADDRESS, "reserved"),
    ("https://[2001:db8::1]/", ADDRESS, "private"),
    ("https://[v1.fe80::1]/", ADDRESS, "not_an_address"),
    ("https://instance-data.ec2.internal/", ADDRESS, "metadata"),
)  # fmt: skip

# What a name leads to: refused where any address is.
NAMED: Sequence[tuple[tuple[str, ...], str]] = (
    (("127.0.0.1",), "loopback"),
    (("93.184.216.34", "127.0.0.1"), "loopback"),
    (("93.184.216.34", "10.0.0.1"), "private"),
    (("::1",), "loopback"),
    (("169.254.169.254",), "link_local"),
    (("fd00:ec2::254",), "metadata"),
    (("2606:2800:220:1::1", "fd00::1"), "private"),
    (("::ffff:10.0.0.1",), "mapped"),
    (("64:ff9b::a00:1",), "tunnel"),
    (("2002:a00:1::1",), "tunnel"),
    (("2001:0:a00:1::1",), "tunnel"),
    (("100.64.3.4",), "carrier_nat"),
    (("0.0.0.0",), "unspecified"),
    (("224.0.0.251",), "multicast"),
    (("192.0.2.1",), "private"),
    (("198.18.0.1",), "private"),
    (("0.1.2.3",), "private"),
    (("93.184.216.34", "2606:2800:220:1::1", "::1"), "loopback"),
    (("168.63.129.16",), "metadata"),
    (("192.0.0.192",), "metadata"),
    (("fd00:42::42",), "metadata"),
    (("fd00:ec2::254%2",), "metadata"),
    (("fe80::1%2",), "link_local"),
    (("2606:2800:220:1::1%2",), "zone"),
    (("64:ff9b:1::a00:1",), "tunnel"),
    (("2606:2800:220:1:0:5efe:a00:1",), "tunnel"),
    (("::10.0.0.1",), "reserved"),
    (("::ffff:0:10.0.0.1",), "reserved"),
    (("192.88.99.1",), "tunnel"),
    (("3fff::1",), "reserved"),
    (("fec0::1",), "reserved"),
)


class Names(AbstractResolver):
    """A resolver that gives another answer each time it is asked, and the last one for ever."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers, self.asked = list(answers), 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(
                hostname=host, host=one, port=port, proto=0, flags=flags,
                family=socket.AF_INET6 if ":" in one else socket.AF_INET,
            )
            for one in addresses
        ]  # fmt: skip

    async def close(self) -> None:
        return None


class Server:
    """Answers every request on one address with the same bytes, and counts who came."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.requests = answer, list[bytes]()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        await writer.drain()
        writer.close()


FINE = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@asynccontextmanager
async def serving(address: str, answer: bytes, port: int = 0) -> AsyncIterator[tuple[Server, int]]:
    """Yield what listens on an address, and on which port."""
    server = Server(answer)
    async with await asyncio.start_server(server, address, port) as listening:
        yield server, listening.sockets[0].getsockname()[1]


async def attempt(url: str, policy: AddressPolicy = LIVE, names: Names | None = None) -> AttemptResult:
    """Return what one attempt to deliver meets."""
    http = OutwardHttp(policy, resolver=names or Names(()))
    try:
        return await WebhookSender(http, total_timeout_seconds=2).send(
            WebhookCall(url, "msg_1", b"{}", (b"s" * 32,), 1, "delivery-1")
        )
    finally:
        await http.aclose()


@pytest.mark.parametrize(("url", "error", "reason"), URLS)
async def test_a_url_that_leads_inside_is_refused_in_every_spelling(url: str, error: AttemptError, reason: str) -> None:
    names = Names(("127.0.0.1",))
    result = await attempt(url, names=names)
    assert (result.status, result.error, names.asked) == (None, error, 0)
    http = OutwardHttp(LIVE)
    with pytest.raises(AddressRefused) as caught:
        http.guard.vet_url(url)
    await http.aclose()
    assert caught.value.reason == reason


@pytest.mark.parametrize(("addresses", "reason"), NAMED)
async def test_a_name_that_leads_inside_is_refused_whole(addresses: tuple[str, ...], reason: str) -> None:
    names = Names(addresses)
    result = await attempt("https://hooks.example/", names=names)
    assert (result.status, result.error, names.asked) == (None, AttemptError.ADDRESS_REFUSED, 1)
    http = OutwardHttp(LIVE, resolver=Names(addresses))
    with pytest.raises(AddressRefused) as caught:
        await http.request("POST", "https://hooks.example/", body=b"")
    await http.aclose()
    assert caught.value.reason == reason


REBOUND = AddressPolicy(allowed=("127.0.0.2/32",))  # stands for the one public address; 127.0.0.1 stays inside


async def test_a_name_that_is_bound_anew_never_leads_inside() -> None:
    """The first answer is let through and dialled as it is; the second is judged like the first, and refused."""
    async with serving("127.0.0.2", FINE) as (outside, port), serving("127.0.0.1", FINE, port) as (inside, _):
        names = Names(("127.0.0.2",), ("127.0.0.1",))
        http = OutwardHttp(REBOUND, resolver=names)
        assert (await http.request("POST", f"http://hooks.example:{port}/", body=b"")).status == 200
        assert names.asked == 1  # between what was judged and what was dialled nobody was asked again
        with pytest.raises(AddressRefused, match="loopback"):
            await http.request("POST", f"http://hooks.example:{port}/", body=b"")
        await http.aclose()
    assert (len(outside.requests), len(inside.requests), names.asked) == (1, 0, 2)
    assert f"Host: hooks.example:{port}".encode() in outside.requests[0]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_that_leads_inside_is_not_followed(status: int) -> None:
    async with serving("127.0.0.1", FINE) as (inside, secret):
        to = f"HTTP/1.1 {status} Over there\r\nlocation: http://127.0.0.1:{secret}/\r\nconnection: close\r\n"
        async with serving("127.0.0.2", to.encode() + b"content-length: 0\r\n\r\n") as (outside, port):
            result = await attempt(f"http://hooks.example:{port}/", REBOUND, Names(("127.0.0.2",)))
    assert (result.status, result.error) == (status, None)
    assert (len(outside.requests), len(inside.requests)) == (1, 0)


@pytest.mark.parametrize(
    ("names", "host", "fits"),
    [
        ("hooks.internal", "hooks.internal", True),
        ("hooks.internal", "HOOKS.internal.", True),
        ("hooks.internal", "x.hooks.internal", False),
        (".internal", "a.b.internal", True),
        (".internal", "internal", False),
        (".internal", "evilinternal", False),
        ("", "hooks.internal", False),
    ],
)
async def test_names_that_are_allowed_may_lead_to_private_addresses(names: str, host: str, fits: bool) -> None:
    policy = webhook_policy(allow_private=False, https_only=False, names=names)
    async with serving("127.0.0.1", FINE) as (server, port):
        result = await attempt(f"http://{host}:{port}/", policy, Names(("127.0.0.1",)))
    assert (result.status == 200, len(server.requests)) == (fits, int(fits))


def test_the_policy_of_webhooks_is_what_the_settings_say() -> None:
    settings = Settings(profile="production", webhook_networks="10.1.0.0/16", webhook_names="hooks.internal")
    assert webhook_policy_of(settings) == webhook_policy(
        allow_private=False, https_only=True, allowed="10.1.0.0/16", names="hooks.internal"
    )
    with pytest.raises(SettingsError, match="ZENTRA_WEBHOOK_NETWORKS"):
        webhook_policy_of(Settings(webhook_networks="10.1.0.0/99"))


async def test_a_name_that_is_allowed_does_not_lead_to_metadata() -> None:
    policy = webhook_policy(allow_private=False, https_only=True, names=".internal")
    for address in ("169.254.169.254", "fd00:ec2::254", "fd00:ec2::254%2", "fd00:42::42", "168.63.129.16", "224.0.0.1"):
        result = await attempt("https://hooks.internal/", policy, Names((address,)))
        assert result.error is AttemptError.ADDRESS_REFUSED, address
    assert (await attempt("https://metadata.google.internal/", policy)).error is AttemptError.ADDRESS_REFUSED


async def test_networks_that_are_allowed_open_their_addresses_and_nothing_else() -> None:
    policy = webhook_policy(allow_private=False, https_only=False, allowed="127.0.0.2/32, 10.1.0.0/16")
    async with serving("127.0.0.2", FINE) as (server, port):
        refused = await attempt(f"http://hooks.example:{port}/", policy, Names(("127.0.0.2",)))
        assert refused.error is AttemptError.URL_REFUSED  # its port is still not one of webhooks
    assert server.requests == []
    assert (await attempt("https://hooks.example/", policy, Names(("10.2.0.1",)))).error is ADDRESS
    http = OutwardHttp(policy)
    assert http.guard.objection("10.1.2.3") is None
    await http.aclose()


async def test_where_there_is_a_proxy_it_alone_is_dialled_and_urls_are_judged_as_ever() -> None:
    async with serving("127.0.0.1", FINE) as (proxy, port):
        policy = structs.replace(
            webhook_policy(allow_private=False, https_only=False), proxy=f"http://proxy.internal:{port}"
        )
        names = Names(("127.0.0.1",))
        taken = await attempt("http://hooks.example:443/hooks", policy, names)
        for url, error, _ in URLS:
            if not url.startswith("http:"):
                assert (await attempt(url, policy, names)).error is error, url
    assert (taken.status, taken.error) == (200, None)
    (request,) = proxy.requests
    assert request.startswith(b"POST http://hooks.example:443/hooks HTTP/1.1\r\n")
    assert b"Host: hooks.example:443\r\n" in request
    assert names.asked == 1  # for the proxy: the name of the endpoint is asked for by nobody here


async def test_a_proxy_that_lets_nothing_pass_is_named_in_the_attempt() -> None:
    async with serving("127.0.0.1", b"HTTP/1.1 407 Denied\r\ncontent-length: 0\r\n\r\n") as (proxy, port):
        policy = structs.replace(LIVE, proxy=f"http://127.0.0.1:{port}")
        refused = await attempt("https://hooks.example/", policy)
    assert (refused.status, refused.error) == (None, AttemptError.PROXY_REFUSED)
    assert proxy.requests[0].startswith(b"CONNECT hooks.example:443 HTTP/1.1\r\n")
    gone = await attempt("https://hooks.example/", policy)
    assert gone.error is AttemptError.CONNECT_FAILED


async def test_through_a_proxy_tls_is_with_the_endpoint_by_its_name(tmp_path: Path) -> None:
    """The proxy opens the tunnel and is then the endpoint itself, whose certificate nobody vouches for."""
    context, asked = self_signed(tmp_path), list[str | None]()
    context.sni_callback = lambda handshake, name, _: asked.append(name)

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with suppress(OSError):
            await writer.start_tls(context)
        writer.close()

    async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as server:
        policy = structs.replace(LIVE, proxy=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        result = await attempt("https://hooks.example/", policy)
    assert (result.error, asked) == (AttemptError.TLS_FAILED, ["hooks.example"])


@pytest.mark.parametrize(
    ("proxy", "fits"),
    [
        ("http://proxy.internal:4750", True),
        ("proxy.internal:4750", False),
        ("https://proxy.internal", False),
        ("http://proxy.internal/x", False),
        ("socks5://proxy.internal", False),
    ],
)
def test_a_proxy_that_is_none_is_refused_by_name(proxy: str, fits: bool) -> None:
    if fits:
        assert webhook_policy_of(Settings(webhook_proxy=proxy)).proxy == proxy
        return
    with pytest.raises(SettingsError, match="ZENTRA_WEBHOOK_PROXY"):
        webhook_policy_of(Settings(webhook_proxy=proxy))


async def _print_table() -> None:
    refused = 0
    for url, _, _ in URLS:
        result = await attempt(url)
        refused += result.error in (URL, ADDRESS)
        sys.stdout.write(f"{result.error or result.status!s:18} {url}\n")
    for addresses, _ in NAMED:
        result = await attempt("https://hooks.example/", names=Names(addresses))
        refused += result.error is ADDRESS
        sys.stdout.write(f"{result.error or result.status!s:18} hooks.example -> {', '.join(addresses)}\n")
    sys.stdout.write(f"{refused} of {len(URLS) + len(NAMED)} refused before a socket was opened\n")


if __name__ == "__main__":
    asyncio.run(_print_table())
