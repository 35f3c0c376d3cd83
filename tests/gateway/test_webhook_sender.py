"""Which addresses are dialled, what is read of an answer, and what only a real socket can show of the sender."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from zentra.gateway.listening import Receive, Scope, Send, answer, listening
from zentra.gateway.outward.http import (
    RESPONSE_BYTES_MAX,
    AddressGuard,
    AddressPolicy,
    AddressRefused,
    OutwardHttp,
    VettingResolver,
)
from zentra.gateway.outward.lookups import SharedLookups
from zentra.gateway.outward.webhooks import WebhookSender, retry_after_seconds
from zentra.runtime.webhooks.standard import AttemptError, WebhookCall

PUBLIC, DEV = AddressPolicy(), AddressPolicy(allow_private=True)
LISTED = AddressPolicy(allowed=("10.1.0.0/16", "169.254.169.254/32", "fd00::/8"))
NOON = 1_775_044_800.0  # 2026-04-01 12:00:00 UTC

# fmt: off
ADDRESSES = [
    # address                     public           development      listed
    ("93.184.216.34",             None,            None,            None),
    ("2606:2800:220:1::1",        None,            None,            None),
    ("127.0.0.1",                 "loopback",      None,            "loopback"),
    ("127.255.255.254",           "loopback",      None,            "loopback"),
    ("::1",                       "loopback",      None,            "loopback"),
    ("10.1.2.3",                  "private",       None,            None),
    ("10.2.2.3",                  "private",       None,            "private"),
    ("172.16.0.1",                "private",       None,            "private"),
    ("192.168.1.1",               "private",       None,            "private"),
    ("192.0.2.1",                 "private",       None,            "private"),
    ("198.18.0.1",                "private",       None,            "private"),
    ("0.1.2.3",                   "private",       None,            "private"),
    ("fd00::1",                   "private",       None,            None),
    ("fc00::1",                   "private",       None,            "private"),
    ("100.64.0.1",                "carrier_nat",   None,            "carrier_nat"),
    ("169.254.169.254",           "link_local",    "link_local",    None),
    ("fe80::1",                   "link_local",    "link_local",    "link_local"),
    ("fe80::1%eth0",              "link_local",    "link_local",    "link_local"),
    ("fd00:ec2::254",             "metadata",      "metadata",      None),
    ("fd20:ce::254%eth0",         "metadata",      "metadata",      None),
    ("::1%lo",                    "loopback",      "zone",          "loopback"),
    ("2606:2800:220:1::1%eth0",   "zone",          "zone",          "zone"),
    ("168.63.129.16",             "metadata",      "metadata",      "metadata"),
    ("3fff::1",                   "reserved",      "reserved",      "reserved"),
    ("2606:2800:220:1:0:5efe:7f00:1", "tunnel",    "tunnel",        "tunnel"),
    ("0.0.0.0",                   "unspecified",   "unspecified",   "unspecified"),
    ("::",                        "unspecified",   "unspecified",   "unspecified"),
    ("224.0.0.1",                 "multicast",     "multicast",     "multicast"),
    ("ff02::1",                   "multicast",     "multicast",     "multicast"),
    ("240.0.0.1",                 "reserved",      "reserved",      "reserved"),
    ("255.255.255.255",           "reserved",      "reserved",      "reserved"),
    ("fec0::1",                   "reserved",      "reserved",      "reserved"),
    ("::ffff:127.0.0.1",          "mapped",        "mapped",        "mapped"),
    ("::ffff:93.184.216.34",      "mapped",        "mapped",        "mapped"),
    ("64:ff9b::7f00:1",           "tunnel",        "tunnel",        "tunnel"),
    ("2002:7f00:1::",             "tunnel",        "tunnel",        "tunnel"),
    ("not an address",            "not_an_address", "not_an_address", "not_an_address"),
    ("127.1",                     "not_an_address", "not_an_address", "not_an_address"),
]
# fmt: on


@pytest.mark.parametrize(("address", "public", "development", "listed"), ADDRESSES)
def test_an_address_is_dialled_only_where_the_policy_opens_it(
    address: str, public: str | None, development: str | None, listed: str | None
) -> None:
    policies = (PUBLIC, DEV, LISTED)
    assert tuple(AddressGuard(policy).objection(address) for policy in policies) == (public, development, listed)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://example.com/hook", None),
        ("http://example.com:8080/hook", None),
        ("https://93.184.216.34/hook", None),
        ("ftp://example.com/", "scheme"),
        ("file:///etc/passwd", "url_malformed"),
        ("/hook", "url_malformed"),
        ("", "url_malformed"),
        ("http://[::1", "url_malformed"),
        ("http://example.com:99999/", "url_malformed"),
        ("https://user@example.com/", "userinfo"),
        ("https://user:password@example.com/", "userinfo"),
        ("http://127.0.0.1/", "loopback"),
        ("http://[::1]/", "loopback"),
        ("http://[::ffff:10.0.0.1]/", "mapped"),
        ("http://2130706433/", "not_an_address"),
        ("http://0x7f000001/", "not_an_address"),
        ("http://0177.0.0.1/", "not_an_address"),
        ("http://127.1/", "not_an_address"),
        ("http://127.0.0.1./", "not_an_address"),
        ("https://example.com./hook", None),
        ("https://" + "a" * 63 + ".example/hook", None),
        ("https://" + "a" * 64 + ".example/hook", "url_malformed"),
        ("https://a..b.example/", "url_malformed"),
        ("https://.example/", "url_malformed"),
        ("https://" + "abc." * 70 + "example/", "url_malformed"),
    ],
)
def test_a_url_is_judged_before_anything_is_resolved(url: str, reason: str | None) -> None:
    guard = AddressGuard(PUBLIC)
    if reason is None:
        assert str(guard.vet_url(url)) == url
        return
    with pytest.raises(AddressRefused) as caught:
        guard.vet_url(url)
    assert caught.value.reason == reason


def test_where_only_https_is_allowed_http_is_refused() -> None:
    guard = AddressGuard(AddressPolicy(https_only=True))
    assert guard.vet_url("https://example.com/").scheme == "https"
    with pytest.raises(AddressRefused, match="scheme"):
        guard.vet_url("http://example.com/")


class Names(AbstractResolver):
    """A resolver with one answer for every name, which counts its questions."""

    def __init__(self, *addresses: str) -> None:
        self.addresses, self.asked = addresses, 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked += 1
        if not self.addresses:
            raise OSError("no such name")
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=flags)
            for address in self.addresses
        ]

    async def close(self) -> None:
        return None


class Endpoint:
    """Answers every request with one body and remembers the hosts that were asked for."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.hosts: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        self.hosts.extend(value.decode() for name, value in scope["headers"] if name == b"host")
        await answer(send, 200, self.body)


@pytest.fixture
async def endpoint() -> AsyncIterator[tuple[Endpoint, str]]:
    app = Endpoint(b"fine")
    async with listening(app) as url:
        yield app, url.rpartition(":")[2]


async def test_a_name_is_refused_whole_when_one_of_its_addresses_is_private(endpoint: tuple[Endpoint, str]) -> None:
    app, port = endpoint
    names = Names("93.184.216.34", "127.0.0.1")
    http = OutwardHttp(PUBLIC, resolver=names)
    with pytest.raises(AddressRefused, match=r"loopback: address of hooks\.example"):
        await http.request("POST", f"http://hooks.example:{port}/", body=b"")
    await http.aclose()
    assert (app.hosts, names.asked) == ([], 1)


@pytest.mark.parametrize("inner", [None, SharedLookups(2)], ids=["of the loop", "shared"])
@pytest.mark.parametrize("name", ["a..b.example", "a" * 64 + ".example", "a\x00b.example"])
async def test_a_name_that_cannot_be_asked_for_is_a_name_that_does_not_resolve(
    inner: AbstractResolver | None, name: str
) -> None:
    resolver = VettingResolver(AddressGuard(PUBLIC), inner or ThreadedResolver())
    with pytest.raises(socket.gaierror):
        await resolver.resolve(name, 443)


async def test_the_vetted_address_is_dialled_and_the_host_stays_the_name(endpoint: tuple[Endpoint, str]) -> None:
    app, port = endpoint
    names = Names("127.0.0.1")
    http = OutwardHttp(DEV, resolver=names)
    reply = await http.request("GET", f"http://hooks.example:{port}/")
    await http.aclose()
    assert (reply.status, reply.body, reply.cut) == (200, b"fine", False)
    assert (app.hosts, names.asked) == ([f"hooks.example:{port}"], 1)


async def test_the_proxy_of_the_environment_is_not_used(
    endpoint: tuple[Endpoint, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, port = endpoint
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    http = OutwardHttp(DEV)
    assert (await http.request("GET", f"http://127.0.0.1:{port}/")).status == 200
    await http.aclose()
    assert len(app.hosts) == 1


async def test_the_socket_itself_is_vetted_when_nothing_else_was(endpoint: tuple[Endpoint, str]) -> None:
    app, port = endpoint
    http = OutwardHttp(PUBLIC)
    with pytest.raises(AddressRefused, match="loopback"):
        # The session is used bare, as if the check of the URL had been forgotten.
        await http._session.get(f"http://127.0.0.1:{port}/")
    await http.aclose()
    assert app.hosts == []


@pytest.mark.parametrize(
    ("size", "kept", "cut"),
    [(0, 0, False), (RESPONSE_BYTES_MAX - 1, RESPONSE_BYTES_MAX - 1, False), (10**6, RESPONSE_BYTES_MAX, True)],
)
async def test_no_more_of_an_answer_is_read_than_is_kept(
    endpoint: tuple[Endpoint, str], size: int, kept: int, cut: bool
) -> None:
    app, port = endpoint
    app.body = b"x" * size
    http = OutwardHttp(DEV)
    for _ in range(2):  # the second call shows that the first one left no connection in disorder
        reply = await http.request("GET", f"http://127.0.0.1:{port}/")
        assert (len(reply.body), reply.cut) == (kept, cut)
    await http.aclose()


def call(url: str) -> WebhookCall:
    return WebhookCall(url, "msg_1", b"{}", (b"s" * 32,), 1, "delivery-1")


async def test_what_is_kept_of_an_answer_is_text_a_database_can_store(endpoint: tuple[Endpoint, str]) -> None:
    app, port = endpoint
    app.body = b"a\x00b\xffc"
    http = OutwardHttp(DEV)
    result = await WebhookSender(http).send(call(f"http://127.0.0.1:{port}/"))
    await http.aclose()
    assert result.response_excerpt == "a\ufffdb\ufffdc"


@pytest.mark.parametrize(
    ("addresses", "scheme", "error"),
    [
        ((), "http", AttemptError.NAME_NOT_RESOLVED),
        (("10.0.0.1",), "http", AttemptError.ADDRESS_REFUSED),
        (("127.0.0.1",), "https", AttemptError.TLS_FAILED),
    ],
)
async def test_a_failure_before_the_request_has_a_name(
    endpoint: tuple[Endpoint, str], addresses: tuple[str, ...], scheme: str, error: AttemptError
) -> None:
    app, port = endpoint
    policy = AddressPolicy(allowed=("127.0.0.0/8",))
    http = OutwardHttp(policy, resolver=Names(*addresses))
    result = await WebhookSender(http).send(call(f"{scheme}://hooks.example:{port}/"))
    await http.aclose()
    assert (result.status, result.error, app.hosts) == (None, error, [])


def self_signed(folder: Path) -> ssl.SSLContext:
    """Return a server's context with a certificate that nobody else vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


async def test_a_certificate_nobody_vouches_for_is_a_failure_of_tls(tmp_path: Path) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("a request was sent to a server without a trusted certificate")

    context, asked = self_signed(tmp_path), list[str | None]()
    context.sni_callback = lambda handshake, name, _: asked.append(name)
    async with await asyncio.start_server(never, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        http = OutwardHttp(DEV, resolver=Names("127.0.0.1"))
        result = await WebhookSender(http).send(call(f"https://hooks.example:{port}/"))
        await http.aclose()
    assert (result.status, result.error) == (None, AttemptError.TLS_FAILED)
    assert asked == ["hooks.example"]  # the name, whatever address it led to


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("9" * 40, 86_400),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("x" * 100, None),
        ("Wed, 01 Apr 2026 12:02:00 GMT", 120),
        ("Wed, 01 Apr 2026 12:02:00 -0000", 120),
        ("Wed, 01 Apr 2026 11:00:00 GMT", 0),
        ("Wed, 01 Apr 2099 12:00:00 GMT", 86_400),
        ("Wed, 99 Apr 2026 12:00:00 GMT", None),
        ("Mon, 01 Jan 2026 00:00:00 +99999999999999999999", None),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2300", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: int | None) -> None:
    assert retry_after_seconds(value, NOON) == seconds


@given(st.text(max_size=64))
def test_no_retry_after_can_break_the_sender(value: str) -> None:
    seconds = retry_after_seconds(value, NOON)
    assert seconds is None or 0 <= seconds <= 86_400
