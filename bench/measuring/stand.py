"""The test stand: an embedded installation with funded accounts, an endpoint of ours and an operator of ours.

Several loads can run on one stand, one after the other. Accounts are opened and funded through the public doors, as a
client would, so that the books are true before the first measured intent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import aiohttp

from zentra.bench.measuring.generating import GeneratorFault, generate
from zentra.bench.measuring.history import History, fill
from zentra.bench.measuring.load import Load
from zentra.bench.measuring.plans import Plan
from zentra.bench.measuring.resources import children_of
from zentra.bench.measuring.sidecar import Sidecar, sidecar
from zentra.gateway.installation.installation import Installation
from zentra.runtime.reviews import ReviewRules
from zentra.storage.pool import Pool, open_pool
from zentra.storage.reads.bench import leaves_logged, partitions_owned
from zentra.storage.review_rules import put_review_rules

__all__ = ["TENANTS", "Progress", "Stand", "is_shared", "open_stand"]

TENANTS: Final = ("acme", "globex")
FUNDS_MINOR: Final = 10_000_000_000
SETUP_IN_FLIGHT: Final = 64
POLL_SECONDS: Final = 0.05
SETTLED_SECONDS_MAX: Final = 30.0
TEMPLATES_MAX: Final = 2_000  # finished intents that a history is copied from: every account is in several
OPERATOR_PAUSE_SECONDS: Final = 0.2
REVIEWS_PER_LOOK: Final = 100

Progress = Callable[[str, int, int], None]


class Stand:
    """An installation that is ready for load; `open_stand` makes one."""

    def __init__(self, installation: Installation, pool: Pool, accounts: int) -> None:
        self.installation, self.pool = installation, pool
        half = max(1, accounts // 2)
        self.sources = tuple(f"bench-customer-{number}" for number in range(half))
        self.destinations = tuple(f"bench-merchant-{number}" for number in range(half))
        self.endpoint: Sidecar | None = None
        self.generators: list[int] = []
        self.loads = 0
        self.history = History(0, 0.0, 0.0)

    def groups(self) -> dict[str, list[int]]:
        """Return the process ids by name: the installation's, its servers' with their children, and our own."""
        processes, servers = self.installation.processes, self.installation.servers
        groups = {name: [pid] for name in processes if (pid := processes.pid(name)) is not None}
        started = {"postgres": [servers.postgres], "nats": servers.nats_servers, "redis": [servers.redis]}
        for name, some in started.items():
            if pids := [server.pid for server in some if server.pid is not None]:
                groups[name] = [*pids, *(child for pid in pids for child in children_of(pid))]
        if self.endpoint is not None:
            groups["endpoint"] = [self.endpoint.pid]
        if self.generators:
            groups["generator"] = self.generators
        return groups

    async def leaves(self) -> int:
        """Return how many leaves the logs of all tenants have: one for each sealed intent, and one more for each that
        had something added afterwards. Raises Unavailable."""
        return sum([await leaves_logged(self.pool, tenant) for tenant in TENANTS])

    async def settle(self, workers: int) -> None:
        """Return when that many workers share all partitions. Raises TimeoutError and Unavailable."""
        async with asyncio.timeout(SETTLED_SECONDS_MAX):
            while True:
                if is_shared(await partitions_owned(self.pool), workers):
                    return
                await asyncio.sleep(POLL_SECONDS)

    async def prepare(self, tenants: Iterable[str], progress: Progress) -> None:
        """Open and fund the accounts of these tenants. Raises RuntimeError where the gateway refuses."""
        for tenant in tenants:
            await self._open_accounts(tenant, progress)
            await self._fund(tenant, progress)

    async def age(self, intents: int, progress: Progress) -> None:
        """Let the first tenant have that many finished intents more: some that are made now, and copies of them.

        Every process is started anew after it. Raises GeneratorFault, CannotCopy and Unavailable."""
        tenant, installation, before = TENANTS[0], self.installation, await self.leaves()
        made = min(TEMPLATES_MAX, max(1, intents // 2))
        load = Load(
            transport="nats", url=installation.nats_url(tenant), intents=made, batch=100, sources=self.sources,
            destinations=self.destinations, prefix="past",
        )  # fmt: skip
        report = await generate(load)
        if report.accepted != made:
            raise GeneratorFault(f"the first intents of the history were refused: {report.refusals}")
        while (sealed := await self.leaves() - before) < made:
            progress("first of the history", sealed, made)
            await asyncio.sleep(POLL_SECONDS)
        key = installation.settings.evidence_key.encode()
        url = installation.postgres_admin_url
        self.history = await fill(url, tenant, f"{load.prefix}-", intents - made, key, progress)
        # Workers have the head of the log in memory, as it was before.
        await asyncio.to_thread(installation.restart_all)

    async def listen(self, endpoint: Sidecar, event: str) -> None:
        """Let this event of the first tenant, or all, be sent to our endpoint. Raises RuntimeError where the gateway
        refuses."""
        port = (await endpoint.hear())["port"]
        wanted = {"url": f"http://127.0.0.1:{port}/events"} | ({"events": [event]} if event else {})
        async with self._session(TENANTS[0], "dev") as session:
            await self._post(session, "/webhooks/endpoints", wanted, "endpoint")
        self.endpoint = endpoint

    async def taken(self) -> int | None:
        """Return how many different events our endpoint has taken; None without one. Raises SidecarFailed."""
        if self.endpoint is None:
            return None
        self.endpoint.say({"count": True})
        return int((await self.endpoint.hear())["taken"])

    async def operate(self) -> None:
        """Approve every review, as one operator would, until cancelled. Raises RuntimeError where that is refused."""
        async with await open_pool(self.installation.postgres_admin_url, name="bench", connections_max=1) as pool:
            await put_review_rules(pool, TENANTS[0], ReviewRules(nats_approvals=1), by="bench")
        async with self._session(TENANTS[0], "ops") as session:
            while True:
                url = f"{self.installation.base_url}/reviews?status=open&limit={REVIEWS_PER_LOOK}"
                async with session.get(url) as answer:
                    reviews = (await answer.json())["data"]
                for review in reviews:
                    path = f"/reviews/{review['id']}/approve"
                    body = {"reason": "looked at under load", "request_hash": review["request_hash"]}
                    await self._post(session, path, body, f"approve-{review['id']}")
                await asyncio.sleep(OPERATOR_PAUSE_SECONDS)

    async def _open_accounts(self, tenant: str, progress: Progress) -> None:
        fixed = {"owner": "bench", "currency": "NGN"}
        bodies = [{"account_id": name, "type": "customer", **fixed} for name in self.sources]
        bodies += [{"account_id": name, "type": "merchant", **fixed} for name in self.destinations]
        waiting = iter(bodies)
        done = 0

        async def open_some(session: aiohttp.ClientSession) -> None:
            nonlocal done
            for body in waiting:
                await self._post(session, "/accounts", body, f"open-{body['account_id']}")
                done += 1
                progress(f"accounts of {tenant}", done, len(bodies))

        async with self._session(tenant, "dev") as session, asyncio.TaskGroup() as group:
            for _ in range(SETUP_IN_FLIGHT):
                group.create_task(open_some(session))

    async def _fund(self, tenant: str, progress: Progress) -> None:
        """Fund every customer by a book transfer of its own, and wait until each is sealed."""
        before = await self.leaves()
        load = Load(
            transport="http", url=self.installation.base_url, key=self.installation.keys[tenant]["ops"],
            intents=len(self.sources), in_flight=SETUP_IN_FLIGHT, sources=("liquidity-ngn",),
            destinations=self.sources, each_destination=True, minor_fixed=FUNDS_MINOR, kind="book_transfer",
            prefix="fund",
        )  # fmt: skip
        report = await generate(load)
        if report.accepted != len(self.sources):
            raise GeneratorFault(f"funding was refused: {report.refusals}")
        while (sealed := await self.leaves() - before) < len(self.sources):
            progress(f"funds of {tenant}", sealed, len(self.sources))
            await asyncio.sleep(POLL_SECONDS)

    def _session(self, tenant: str, principal: str) -> aiohttp.ClientSession:
        key = self.installation.keys[tenant][principal]
        return aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"})

    async def _post(self, session: aiohttp.ClientSession, path: str, body: dict[str, Any], key: str) -> None:
        headers = {"x-idempotency-key": key}
        async with session.post(f"{self.installation.base_url}{path}", json=body, headers=headers) as answer:
            if answer.status not in (200, 201, 202):
                raise RuntimeError(f"POST {path} was refused: {answer.status} {await answer.text()}")


def is_shared(owned: Mapping[str | None, int], workers: int) -> bool:
    """Return whether that many workers, as far as there are partitions, own all of them in even shares."""
    shares = [count for worker, count in owned.items() if worker is not None]
    even = len(shares) == min(workers, sum(shares)) and max(shares, default=0) - min(shares, default=0) <= 1
    return even and None not in owned


@asynccontextmanager
async def open_stand(plan: Plan, progress: Progress = lambda label, done, total: None) -> AsyncIterator[Stand]:
    """Start an installation as the plan wants it, with what its loads need; stop it when the context ends.

    The load begins where partitions have come to rest: who measures a hand-over starts one. Raises DevStackError,
    RuntimeError, GeneratorFault, CannotCopy, SidecarFailed and, where workers do not share, TimeoutError."""
    installation = Installation(
        workers=plan.workers, gateways=plan.gateways, sandbox=plan.rail == "sandbox", nats_nodes=plan.nats_nodes,
        overrides={"commits_max": plan.commits_max} if plan.commits_max else None,
    )  # fmt: skip
    try:
        await asyncio.to_thread(installation.start)
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(
                await open_pool(installation.postgres_admin_url, name="zentra bench", connections_max=3)
            )
            stand = Stand(installation, pool, plan.accounts)
            await stand.settle(plan.workers)
            await stand.prepare(TENANTS if plan.mix.second_tenant else TENANTS[:1], progress)
            if plan.history:
                await stand.age(plan.history, progress)
                await stand.settle(plan.workers)
            if plan.endpoint:
                await stand.listen(await stack.enter_async_context(sidecar("receiver")), plan.endpoint_event)
            yield stand
    finally:
        await asyncio.to_thread(installation.stop)
