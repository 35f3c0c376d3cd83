"""Mutual TLS over real sockets: who a service is follows from what it proved, and from nothing else."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import uvicorn

from tests.gateway.authority import Authority, Pair
from tests.gateway.http.conftest import Keys
from zentra.gateway.access.certificates import CertificateProtocol, assert_enforced, identity_of, secured
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.listening import Receive, Scope, Send, quiet_config
from zentra.gateway.settings import Settings, SettingsError
from zentra.storage.administration import Administration
from zentra.storage.pool import Pool

PAYROLL = "spiffe://acme/payroll"
_NONE: Mapping[str, str] = {}


class Site:
    """An authority, and a gateway that knows `PAYROLL` as acme's developer and `cn-only` as globex's auditor."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.authority = Authority(directory)
        self.server = self.authority.server("localhost", "127.0.0.1")
        self.directory, self.plain = directory, settings
        self.gone = f"spiffe://acme/{uuid.uuid4().hex}"

    def settings(self, demand: str = "required", **changes: Any) -> Settings:
        return msgspec.structs.replace(
            self.plain, tls_certificate=self.server.certificate, tls_key=self.server.key,
            tls_client_authority=self.authority.path if demand != "none" else "", client_certificates=demand, **changes,
        )  # fmt: skip

    @asynccontextmanager
    async def serving(self, settings: Settings) -> AsyncIterator[str]:
        ready: asyncio.Queue[str] = asyncio.Queue()
        async with GatewayApp.opened(settings) as gateway:
            running = asyncio.create_task(gateway.serve("127.0.0.1", 0, on_ready=ready.put))
            yield await ready.get()
            running.cancel()
            await asyncio.wait([running])

    def context(self, pair: Pair | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.path)
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return context

    async def ask(self, base: str, pair: Pair | None, headers: Mapping[str, str] = _NONE, times: int = 1) -> Any:
        """Return the latest answer's status and code over one connection."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connector = aiohttp.TCPConnector(ssl=self.context(pair))
        async with aiohttp.ClientSession(connector=connector) as session:
            for _ in range(times):
                async with session.get(f"{base}/runtime/intents/unknown", headers=named) as answer:
                    told = msgspec.json.decode(await answer.read())
        return answer.status, told["code"]


@pytest.fixture
async def site(tmp_path: Path, settings: Settings, keys: Keys, admin_pool: Pool) -> Site:
    administration = Administration(admin_pool)
    await administration.put_certificate("acme", "developer", PAYROLL)
    await administration.put_certificate("globex", "auditor", "cn-only")
    await administration.put_certificate("acme", "finance", "spiffe://acme/narrow", scopes=["accounts:read"])
    site = Site(tmp_path, settings)
    await administration.put_certificate("acme", "developer", site.gone)
    await administration.revoke_certificate("acme", site.gone)
    return site


async def test_a_service_is_who_its_certificate_says(site: Site, keys: Keys) -> None:
    payroll = site.authority.client("ignored beside a URI", uris=[PAYROLL])
    bearer = f"Bearer {keys.of('acme', 'auditor')}"
    cases = [
        (payroll, {}, (404, "not_found")),
        (site.authority.client("cn-only"), {}, (404, "not_found")),
        (site.authority.client(uris=["spiffe://acme/narrow"]), {}, (403, "permission_denied")),
        (site.authority.client(uris=[site.gone]), {}, (401, "certificate_revoked")),
        (site.authority.client(uris=["spiffe://acme/nobody"]), {}, (401, "certificate_unknown")),
        (site.authority.client(uris=[PAYROLL, "spiffe://acme/other"]), {}, (401, "certificate_unknown")),
        (site.authority.client(PAYROLL.upper()), {}, (401, "certificate_unknown")),
        # A key beside a certificate: both good, of one tenant.
        (payroll, {"authorization": bearer}, (404, "not_found")),
        (payroll, {"authorization": "Bearer zk_test_nonsense"}, (401, "key_invalid")),
        (site.authority.client("cn-only"), {"authorization": bearer}, (401, "credentials_disagree")),
        (site.authority.client("unknown"), {"authorization": bearer}, (401, "certificate_unknown")),
    ]  # fmt: skip
    async with site.serving(site.settings()) as base:
        assert base.startswith("https://")
        for pair, headers, answer in cases:
            assert await site.ask(base, pair, headers, times=2) == answer


SPOOFED = {
    "x_client_cert": PAYROLL, "x_forwarded_client_cert": f"URI={PAYROLL}", "x_ssl_client_s_dn": f"CN={PAYROLL}",
    "x_ssl_client_verify": "SUCCESS", "zentra_certificate": PAYROLL, "x_forwarded_for": "127.0.0.1",
    "client_cert": ":" + "QQ==" + ":",
}  # fmt: skip


@pytest.mark.parametrize("demand", ["none", "optional"])
async def test_no_header_makes_anybody_somebody(site: Site, demand: str) -> None:
    async with site.serving(site.settings(demand)) as base:
        assert await site.ask(base, None, SPOOFED) == (401, "authentication_required")


async def test_a_header_changes_nothing_about_what_was_proved(site: Site) -> None:
    async with site.serving(site.settings()) as base:
        nobody = site.authority.client("nobody")
        assert await site.ask(base, nobody, SPOOFED) == (401, "certificate_unknown")


async def test_where_certificates_are_required_nobody_connects_without(site: Site, keys: Keys) -> None:
    other = Authority(site.directory, "somebody else")
    async with site.serving(site.settings()) as base:
        for pair in (
            None,
            other.client(uris=[PAYROLL]),
            site.authority.client(uris=[PAYROLL], lasts=-timedelta(hours=1)),
        ):
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await site.ask(base, pair, {"authorization": f"Bearer {keys.of('acme', 'developer')}"})


async def test_where_they_are_optional_a_key_alone_is_enough(site: Site, keys: Keys) -> None:
    async with site.serving(site.settings("optional")) as base:
        key = f"Bearer {keys.of('acme', 'developer')}"
        assert await site.ask(base, None, {"authorization": key}) == (404, "not_found")
        assert await site.ask(base, site.authority.client(uris=[PAYROLL])) == (404, "not_found")


async def test_a_certificate_that_expires_while_connected_opens_nothing_more(site: Site) -> None:
    brief = site.authority.client(uris=[PAYROLL], lasts=timedelta(seconds=2))
    async with site.serving(site.settings()) as base:
        connector = aiohttp.TCPConnector(ssl=site.context(brief))
        async with aiohttp.ClientSession(connector=connector) as session:
            codes: list[str] = []
            while not codes or codes[-1] == "not_found":
                async with session.get(f"{base}/runtime/intents/unknown") as answer:
                    codes.append(msgspec.json.decode(await answer.read())["code"])
    assert codes[0] == "not_found"
    assert codes[-1] == "certificate_expired"


async def test_a_refused_certificate_is_a_denial_of_whom_it_was(site: Site, admin_pool: Pool) -> None:
    async with site.serving(site.settings()) as base:
        await site.ask(base, site.authority.client(uris=[site.gone]))
    row = await admin_pool.fetchrow(
        "select tenant, actor, role, action from denials where reason = 'certificate_revoked' order by last_at desc"
    )
    assert row is not None
    assert tuple(row) == ("acme", "developer", "developer", "GET /runtime/intents/{id}")


# It starts only where it is enforced.


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"client_certificates": "required", "tls_client_authority": ""}, "CLIENT_AUTHORITY"),
        ({"client_certificates": "optional", "tls_certificate": "", "tls_key": ""}, "TLS_CERTIFICATE"),
        ({"tls_key": ""}, "go together"),
        ({"client_certificates": "none"}, "says nothing"),
        ({"tls_client_authority": "/nowhere.pem"}, "cannot be used"),
        ({"tls_certificate": "/nowhere.pem"}, "cannot be used"),
    ],
)
async def test_what_would_not_be_enforced_does_not_start(site: Site, changes: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        async with GatewayApp.opened(msgspec.structs.replace(site.settings(), **changes)):
            raise AssertionError("it started")


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve nobody."""


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda config: setattr(config.ssl, "verify_mode", ssl.CERT_OPTIONAL), "without a certificate"),
        (lambda config: setattr(config, "ssl", None), "no TLS"),
        (lambda config: setattr(config, "ssl", _unknowing(config)), "no authority"),
        (lambda config: setattr(config, "http_protocol_class", CertificateProtocol.__mro__[1]), "who its clients are"),
    ],
)
def test_a_listener_is_looked_at_once_more(site: Site, spoil: Callable[[uvicorn.Config], None], says: str) -> None:
    config = secured(quiet_config(_nothing), site.settings())
    assert_enforced(config, required=True)
    spoil(config)
    with pytest.raises(SettingsError, match=says):
        assert_enforced(config, required=True)


def _unknowing(config: uvicorn.Config) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize(
    ("peer", "identity"),
    [
        ({"subjectAltName": (("URI", "spiffe://a"), ("DNS", "b"))}, "spiffe://a"),
        ({"subjectAltName": (("URI", "spiffe://a"), ("URI", "spiffe://b"))}, ""),
        ({"subjectAltName": (("DNS", "b"),), "subject": ((("commonName", "c"),),)}, "c"),
        ({"subject": ((("commonName", "c"),), (("commonName", "d"),))}, ""),
        ({"subject": ((("organizationName", "o"),),)}, ""),
        ({"subject": ((("commonName", "x" * 256),),)}, ""),
        ({}, ""),
    ],
)
def test_an_identity_is_the_only_uri_or_the_only_name(peer: dict[str, Any], identity: str) -> None:
    assert identity_of(peer) == identity
