"""The production profile: TLS to every server, proven against an authority, or no start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from tests.gateway.asgi import call
from tests.gateway.authority import Authority, relayed
from tests.gateway.http.conftest import Keys
from tests.services import Database
from tests.streams.nats_server import run_nats_server
from zentra.gateway.devstack.servers import plain_nats_config
from zentra.gateway.devstack.stack import DevStack
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.production import assert_production, nats_tls
from zentra.gateway.settings import Settings, SettingsError
from zentra.runtime.errors import Unavailable
from zentra.runtime.limits import Ask, Quota
from zentra.storage.limits import RedisLimits
from zentra.storage.pool import open_pool
from zentra.streams.connection import connect
from zentra.streams.errors import StreamUnavailable

SOUND: dict[str, Any] = {
    "profile": "production",
    "postgres_writer_url": "postgresql://w:p@db.internal/z?sslmode=verify-full&sslrootcert=/etc/db.pem",
    "postgres_tenant_url": "postgresql://t:p@db.internal/z?sslmode=verify-full",
    "nats_url": "tls://u:p@nats-1.internal,tls://u:p@nats-2.internal",
    "redis_url": "rediss://:p@redis.internal/0?ssl_ca_certs=/etc/redis.pem",
}


def test_a_sound_configuration_is_let_through() -> None:
    assert_production(Settings(**SOUND))
    assert_production(Settings(**SOUND, postgres_admin_url=SOUND["postgres_tenant_url"]))


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("postgres_writer_url", "postgresql://w:secret@db.internal/z"),
        ("postgres_writer_url", "postgresql://w:secret@db.internal/z?sslmode=require"),
        ("postgres_writer_url", "postgresql://w:secret@db.internal/z?sslmode=verify-ca"),
        ("postgres_tenant_url", "postgresql://w:secret@db.internal/z?sslmode=verify-full&sslmode=prefer"),
        ("postgres_admin_url", "postgresql://w:secret@db.internal/z"),
        ("nats_url", "nats://u:secret@nats.internal"),
        ("nats_url", "tls://u:secret@nats.internal,nats://u:secret@other.internal"),
        ("redis_url", "redis://:secret@redis.internal"),
        ("redis_url", "rediss://:secret@redis.internal?ssl_cert_reqs=none"),
        ("redis_url", "rediss://:secret@redis.internal?ssl_cert_reqs=optional"),
        ("redis_url", "rediss://:secret@redis.internal?ssl_check_hostname=false"),
        ("redis_url", "redis://:secret@127.0.0.1"),
    ],
)
def test_what_is_not_proven_is_refused_by_name_and_without_the_password(name: str, url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        assert_production(Settings(**SOUND | {name: url}))
    assert f"ZENTRA_{name.upper()}" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("redis://127.0.0.1:6379", True), ("redis://localhost", True), ("redis://[::1]", True),
        ("redis://redis.internal", False), ("redis://127.0.0.1.evil.example", False), ("redis://10.0.0.1", False),
    ],
)  # fmt: skip
def test_plain_is_for_the_same_machine_and_where_it_was_allowed(url: str, allowed: bool) -> None:
    settings = Settings(**SOUND | {"redis_url": url, "plain_loopback": True})
    if allowed:
        assert_production(settings)
    else:
        with pytest.raises(SettingsError):
            assert_production(settings)


async def test_a_gateway_in_production_does_not_start_in_plain(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="production profile demands TLS"):
        async with GatewayApp.opened(msgspec.structs.replace(settings, profile="production")):
            raise AssertionError("it started")


def test_an_authority_that_cannot_be_read_is_named() -> None:
    with pytest.raises(SettingsError, match="ZENTRA_NATS_AUTHORITY"):
        nats_tls(Settings(nats_authority="/nowhere.pem"))
    assert nats_tls(Settings()) is None


class Secured:
    """Every server behind TLS of one authority; NATS speaks it itself, the builds of the others have none and stand
    behind a relay."""

    def __init__(self, directory: Path, authority: Authority, postgres: str, nats: str, redis: str) -> None:
        self.authority, self.stranger = authority, Authority(directory, "a stranger")
        self.postgres, self.nats, self.redis = postgres, nats, redis

    def settings(self, database: Database, authority: str, host: str = "localhost") -> Settings:
        def at(url: str) -> str:
            user = urlsplit(url).netloc.rpartition("@")[0]
            path = urlsplit(url).path
            return f"postgresql://{user}@{host}:{self.postgres}{path}?sslmode=verify-full&sslrootcert={authority}"

        return Settings(
            profile="production",
            postgres_writer_url=at(database.writer_url),
            postgres_tenant_url=at(database.tenant_url),
            nats_url=f"tls://{host}:{self.nats}",
            nats_authority=authority,
            redis_url=f"rediss://{host}:{self.redis}/0?ssl_ca_certs={authority}",
            secret="5e" * 32,
            postgres_connections_max=2,
        )


@pytest.fixture
async def secure(tmp_path: Path, stack: DevStack) -> AsyncIterator[Secured]:
    authority = Authority(tmp_path)
    pair = authority.server("localhost")
    block = f'tls {{ cert_file: "{pair.certificate}", key_file: "{pair.key}", timeout: 5 }}\n'
    ports = [urlsplit(url).port for url in (stack.postgres_url, stack.redis_url)]
    assert ports[0] is not None
    assert ports[1] is not None
    with ThreadPoolExecutor(1), run_nats_server(tmp_path, lambda ports: plain_nats_config(ports) + block) as nats:
        async with relayed(ports[0], pair, postgres=True) as postgres, relayed(ports[1], pair) as redis:
            yield Secured(tmp_path, authority, str(postgres), str(urlsplit(nats.url).port), str(redis))


async def test_a_gateway_serves_over_tls_to_every_server(secure: Secured, database: Database, keys: Keys) -> None:
    settings = secure.settings(database, secure.authority.path)
    async with GatewayApp.opened(settings) as gateway:
        ready = await call(gateway.application, "GET", "/readyz")
        assert (ready.status, {name: check["ok"] for name, check in ready.json["checks"].items()}) == (
            200, {"postgres": True, "redis": True, "nats": True, "sealing": True},
        )  # fmt: skip
        headers = {"authorization": f"Bearer {keys.of('acme', 'developer')}"}
        answer = await call(gateway.application, "GET", "/runtime/intents/unknown", headers=headers)
        assert answer.code == "not_found"
        assert b"zentra_limits_degraded_total 0.0" in (await call(gateway.application, "GET", "/metrics")).body


@pytest.mark.parametrize("fault", ["another authority", "another name"])
async def test_a_server_that_proves_nothing_is_not_spoken_to(secure: Secured, database: Database, fault: str) -> None:
    wrong = fault == "another authority"
    authority = secure.stranger.path if wrong else secure.authority.path
    settings = secure.settings(database, authority, "localhost" if wrong else "127.0.0.1")
    with pytest.raises(Unavailable):
        await open_pool(settings.postgres_tenant_url, name="test")
    with pytest.raises(StreamUnavailable):
        await connect(settings.nats_url, name="test", tls=nats_tls(settings), deadline_s=2)
    store = RedisLimits.open(settings.redis_url)
    assert await store.take([Ask("x", Quota(1, 1), 1)]) is None
    await store.aclose()
