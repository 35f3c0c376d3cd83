"""What a chaos run happens on: an installation of its own, journalled rails, a webhook consumer, and a look inside.

- The rails are processes of their own, tied to this one: two sandbox rails and two banks that speak their own dialects
  and call back in them. Half of them would pay a reference twice, so that a runtime that asks twice is caught.
- Every corridor leads over all of them, so that one that does not accept is followed by another.
- Everything the run reads past the doors goes through one pool of a superuser, which survives its server."""

import http.client
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from zentra.bench.chaos.consumer import Consumer
from zentra.bench.chaos.doors import HttpDoor
from zentra.bench.chaos.load import CURRENCY, TIGHT
from zentra.bench.chaos.moods import RailMood
from zentra.bench.chaos.rail import (
    CLIENT_ID,
    MOOD_PATH,
    RAILS,
    RailConfig,
    RailPayment,
    read_journal,
)
from zentra.gateway.devstack.directory import LOOPBACK, free_port, write_private
from zentra.gateway.devstack.processes import ServerProcess, ServerSpec
from zentra.gateway.installation.installation import Installation
from zentra.gateway.installation.seed import TENANTS, Keys
from zentra.gateway.outward.rail_kinds import rail_kind
from zentra.gateway.outward.rail_secrets import RailSecrets, put_rail
from zentra.runtime.rails.port import RailSettings
from zentra.runtime.rails.routing import Corridor, RailRoute
from zentra.runtime.webhooks.standard import parse_secret
from zentra.storage.administration import Administration
from zentra.storage.pool import Pool, open_pool

__all__ = ["CORRIDORS", "PROMOTER", "Rails", "Site", "SiteFailed", "set_up"]

# A silent rail has to be given up within a run, and a circuit to close again; the rest is as in production.
TIMING: Final[dict[str, Any]] = {
    "submit_timeout_seconds": 1.0, "poll_after_seconds": 0.5, "deadline_seconds": 10.0, "open_seconds": 1.0,
    "health_window_seconds": 3.0, "health_calls_min": 5,
}  # fmt: skip
CORRIDORS: Final = {
    # kind -> rail, priority, weight
    "transfer": (("chaos_gtbank", 1, 3), ("chaos_providus", 1, 3), ("chaos_1", 1, 3), ("chaos_2", 2, 1)),
    "payment": (("chaos_2", 1, 2), ("chaos_providus", 1, 1), ("chaos_gtbank", 1, 1), ("chaos_1", 2, 1)),
}
PROMOTER: Final = "ops2"
"""The second operator of each tenant: whoever drafts routes does not put them in force."""
READ_SECONDS_MAX: Final = 120.0  # the readings after the run walk every row
FEEL_SECONDS_MAX: Final = 5.0


class SiteFailed(Exception):
    """Raised where the installation did not become what a run needs; the sentence quotes the answer."""


class Rails:
    """The rail processes; a context manager that ends them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chaos-rails")
        self.secrets = {name: secrets.token_hex(16) for name in RAILS}
        self.ports: dict[str, int] = {}
        self.servers: dict[str, ServerProcess] = {}

    def __enter__(self) -> Self:
        """Start every rail; raises DevStackError where one does not come up."""
        try:
            for name in RAILS:
                self.ports[name] = free_port(None, self.ports.values())
                told = self._directory / f"{name}.json"
                secret = self.secrets[name]
                config = RailConfig(name, self.ports[name], str(self.journal(name)), secret, secret)
                write_private(told, msgspec.json.encode(config).decode())
                spec = ServerSpec(
                    name=name,
                    command=(sys.executable, "-m", "zentra.bench.chaos.rail", str(told)),
                    log=self._directory / f"{name}.log",
                    port=self.ports[name],
                    answers=partial(_answers, self.ports[name]),
                    stop_signal=signal.SIGTERM,
                )
                self.servers[name] = ServerProcess(spec, self._spawner, lambda: None)
                self.servers[name].spawn()
            for server in self.servers.values():
                server.wait_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def journal(self, name: str) -> Path:
        """Return where a rail keeps its record."""
        return self._directory / f"{name}.journal"

    def payments(self) -> list[RailPayment]:
        """Return what the rails' own records say."""
        return [
            payment
            for name, kind in RAILS.items()
            for payment in read_journal(name, self.journal(name), idempotent=kind.idempotent)
        ]

    def taken(self, name: str, since: float, until: float) -> int:
        """Return how many payments a rail's own record has of a time."""
        found = read_journal(name, self.journal(name), idempotent=RAILS[name].idempotent)
        return sum(since <= payment.at < until for payment in found)

    def feel(self, name: str, mood: RailMood) -> None:
        """Put a bank into a mood; raises OSError where it does not answer."""
        connection = http.client.HTTPConnection(LOOPBACK, self.ports[name], timeout=FEEL_SECONDS_MAX)
        try:
            connection.request("PUT", MOOD_PATH, mood)
            if connection.getresponse().status != http.client.OK:
                raise OSError(f"{name} was not put into the mood {mood}")
        finally:
            connection.close()

    def settings(self, name: str, base_url: str) -> RailSettings:
        """Return how an installation whose gateway is at `base_url` reaches a rail."""
        dialect, secret = RAILS[name].dialect, self.secrets[name]
        root = f"http://{LOOPBACK}:{self.ports[name]}"
        settings = RailSettings(
            name=name,
            kind=dialect,
            base_url=root if dialect == "sandbox" else f"{root}/partners/{name}",
            secret=secret,
            callback_url=f"{base_url}/providers/{name}/callbacks",
            idempotent_references=RAILS[name].idempotent,
            not_found_lies_seconds=rail_kind(dialect).declaration.not_found_lies_seconds,
            options={} if dialect == "sandbox" else {"client_id": CLIENT_ID, "simulator": "true"},
            secrets={"client_secret": secret} if dialect == "gtbank" else {},
        )
        return msgspec.structs.replace(settings, **TIMING)

    def _end(self) -> None:
        for server in self.servers.values():
            server.kill()
        self._spawner.shutdown()


class Site:
    """Everything that a fault can hit and a reading can look at."""

    def __init__(
        self, installation: Installation, rails: Rails, consumer: Consumer, http_door: HttpDoor, pool: Pool
    ) -> None:
        self.installation, self.rails, self.consumer = installation, rails, consumer
        self.http, self.pool = http_door, pool
        self.endpoints: dict[str, str] = {}
        """The webhook endpoint of each tenant."""

    @classmethod
    @asynccontextmanager
    async def opened(cls, installation: Installation, rails: Rails, consumer: Consumer) -> AsyncIterator[Self]:
        """Yield the site while its connections are open."""
        pool = await open_pool(
            installation.postgres_admin_url,
            name="zentra chaos",
            connections_max=4,
            transaction_seconds_max=READ_SECONDS_MAX,
        )
        try:
            keys = await _with_promoters(Administration(pool), installation.keys)
            async with HttpDoor(installation.base_url, keys) as door:
                yield cls(installation, rails, consumer, door, pool)
        finally:
            await pool.close()


async def set_up(site: Site, hook: str) -> None:
    """Route everything over the rails of this run, open the tight accounts, and register the webhook consumer.

    Raises SiteFailed where a door refuses, Unanswered where none answers, and what the store raises."""
    administration = Administration(site.pool)
    sealing = RailSecrets(site.installation.settings.secret_bytes())
    for name in RAILS:
        await put_rail(administration, site.rails.settings(name, site.installation.base_url), sealing)
    for tenant in TENANTS:
        for kind, rails in CORRIDORS.items():
            routes = tuple([RailRoute(rail, priority, weight) for rail, priority, weight in rails])
            names = tuple([rail for rail, _, _ in rails])
            corridor = Corridor(tenant, f"ng-{kind}", CURRENCY, kind, names, routes=routes)
            await administration.put_corridor(corridor)
        account = {"account_id": TIGHT, "owner": "chaos", "type": "customer", "currency": CURRENCY}
        await _made(site, tenant, "/accounts", f"open-{TIGHT}", account)
        asked = {"url": f"{hook}/{tenant}", "signatures": ["v1", "v1a"]}
        endpoint = await _made(site, tenant, "/webhooks/endpoints", "chaos-endpoint", asked)
        site.endpoints[tenant] = endpoint["id"]
        site.consumer.trust_secret(tenant, parse_secret(endpoint["secret"]), 0.0)
        site.consumer.trust_keys(tenant, [one["key"] for one in endpoint["public_keys"]], 0.0)


async def _with_promoters(administration: Administration, keys: Keys) -> Keys:
    """Return the keys with that of a second operator for each tenant."""
    made: Keys = {}
    for tenant, known in keys.items():
        await administration.create_principal(tenant, PROMOTER, name="Second operator", role="operator")
        made[tenant] = {**known, PROMOTER: (await administration.create_api_key(tenant, PROMOTER)).text}
    return made


async def _made(site: Site, tenant: str, path: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await site.http.ask("POST", path, tenant, "dev", key=key, body=body)
    if answer.status != http.client.CREATED:
        raise SiteFailed(f"POST {path} of {tenant}: {answer.status} {answer.body.decode(errors='replace')}")
    made: dict[str, Any] = msgspec.json.decode(answer.body)
    return made


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.client.NOT_FOUND
    except http.client.HTTPException as error:
        raise OSError("answer broke off") from error
    finally:
        connection.close()
