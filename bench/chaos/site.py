"""What a chaos run happens on: an installation of its own, two journalled rails, a webhook consumer, and a look inside.

- The rails are processes of their own, tied to this one; the first takes a reference twice as one payment, the second
  would pay twice, so that a runtime that asks twice is caught.
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
from zentra.bench.chaos.rail import RailPayment, read_journal
from zentra.gateway.devstack.directory import LOOPBACK, free_port, write_private
from zentra.gateway.devstack.processes import ServerProcess, ServerSpec
from zentra.gateway.installation.installation import Installation
from zentra.gateway.installation.seed import TENANTS
from zentra.gateway.outward.rail_secrets import RailSecrets, put_rail
from zentra.runtime.rails.port import RailSettings
from zentra.runtime.rails.routing import Corridor
from zentra.runtime.webhooks.standard import parse_secret
from zentra.storage.administration import Administration
from zentra.storage.pool import Pool, open_pool

__all__ = ["RAILS", "Rails", "Site", "SiteFailed", "set_up"]

RAILS: Final = {"chaos_1": True, "chaos_2": False}
"""The rails, and whether the same reference twice is one payment there."""

# A silent rail has to be given up within a run; the rest is as in production.
TIMING: Final = {"submit_timeout_seconds": 1.0, "poll_after_seconds": 0.5, "deadline_seconds": 10.0}
CORRIDORS: Final = {"transfer": ("chaos_1", "chaos_2"), "payment": ("chaos_2", "chaos_1")}
READ_SECONDS_MAX: Final = 120.0  # the readings after the run walk every row
NOBODY_ANSWERS: Final = http.client.NOT_FOUND  # a rail that runs knows no such reference


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
            for name, idempotent in RAILS.items():
                self.ports[name] = free_port(None, self.ports.values())
                secret = self._directory / f"{name}.secret"
                write_private(secret, self.secrets[name])
                arguments = (name, str(self.ports[name]), str(self.journal(name)), str(secret))
                references = "idempotent" if idempotent else "plain"
                spec = ServerSpec(
                    name=name,
                    command=(sys.executable, "-m", "zentra.bench.chaos.rail", *arguments, references),
                    log=self._directory / f"{name}.log",
                    port=self.ports[name],
                    answers=partial(_answers, self.ports[name], name),
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
            for name, idempotent in RAILS.items()
            for payment in read_journal(name, self.journal(name), idempotent=idempotent)
        ]

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
            async with HttpDoor(installation.base_url, installation.keys) as door:
                yield cls(installation, rails, consumer, door, pool)
        finally:
            await pool.close()


async def set_up(site: Site, hook: str) -> None:
    """Route everything over the rails of this run, open the tight accounts, and register the webhook consumer.

    Raises SiteFailed where a door refuses, Unanswered where none answers, and what the store raises."""
    administration = Administration(site.pool)
    for name, idempotent in RAILS.items():
        settings = RailSettings(
            name=name,
            kind="sandbox",
            base_url=f"http://{LOOPBACK}:{site.rails.ports[name]}",
            secret=site.rails.secrets[name],
            callback_url=f"{site.installation.base_url}/providers/{name}/callbacks",
            idempotent_references=idempotent,
        )
        sealing = RailSecrets(site.installation.settings.secret_bytes())
        await put_rail(administration, msgspec.structs.replace(settings, **TIMING), sealing)
    for tenant in TENANTS:
        for kind, rails in CORRIDORS.items():
            await administration.put_corridor(Corridor(tenant, f"ng-{kind}", CURRENCY, kind, rails))
        account = {"account_id": TIGHT, "owner": "chaos", "type": "customer", "currency": CURRENCY}
        await _made(site, tenant, "/accounts", f"open-{TIGHT}", account)
        endpoint = await _made(site, tenant, "/webhooks/endpoints", "chaos-endpoint", {"url": f"{hook}/{tenant}"})
        site.consumer.secrets.append(parse_secret(endpoint["secret"]))


async def _made(site: Site, tenant: str, path: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await site.http.ask("POST", path, tenant, "dev", key=key, body=body)
    if answer.status != http.client.CREATED:
        raise SiteFailed(f"POST {path} of {tenant}: {answer.status} {answer.body.decode(errors='replace')}")
    made: dict[str, Any] = msgspec.json.decode(answer.body)
    return made


def _answers(port: int, rail: str) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=1)
    try:
        connection.request("GET", f"/rails/{rail}/payments/nobody")
        return connection.getresponse().status == NOBODY_ANSWERS
    except http.client.HTTPException as error:
        raise OSError("answer broke off") from error
    finally:
        connection.close()
