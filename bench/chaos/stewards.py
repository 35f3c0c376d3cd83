"""Who looks after the installation while it breaks: routes are promoted, secrets and keys rotated, an endpoint is
disabled and has what it missed recovered, evidence is exported.

- One after another, each until there is an answer: whoever asks again after silence asks with the same key.
- A secret that was made in an answer nobody heard is followed by another rotation."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from zentra.bench.chaos.doors import Answer, Unanswered
from zentra.bench.chaos.keeping import EvidenceKept
from zentra.bench.chaos.load import CURRENCY
from zentra.bench.chaos.site import CORRIDORS, PROMOTER, Site
from zentra.gateway.installation.seed import TENANTS
from zentra.runtime.errors import ZentraError
from zentra.runtime.webhooks.standard import parse_secret

__all__ = ["Stewards"]

EVERY_SECONDS: Final = 3.0
AGAIN_SECONDS: Final = 0.5
DISABLED_SECONDS: Final = 1.5
OVERLAP_SECONDS: Final = 20  # less than it takes until the same endpoint has its turn again


class Stewards:
    """Acts until told to stop; `heard` counts what was done."""

    def __init__(self, site: Site, kept: EvidenceKept, seed: int) -> None:
        self.heard: Counter[str] = Counter()
        self._site, self._kept = site, kept
        self._draw = random.Random(f"stewards/{seed}")  # noqa: S311  # a choice of work, not a secret
        self._stopping = asyncio.Event()
        self._number = 0

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()

    async def run(self) -> None:
        """Do one thing after another until stopped."""
        acts: tuple[tuple[str, Callable[[str], Awaitable[None]]], ...] = (
            ("routes promoted", self._promote),
            ("webhook secret rotated", self._rotate_secret),
            ("endpoint recovered", self._recover),
            ("webhook key rotated", self._rotate_key),
            ("evidence exported", self._export),
        )
        turn, rotated = 0, False
        while not await self._stopped(EVERY_SECONDS):
            rotated = rotated or await self._rotate_evidence()
            word, act = acts[turn // len(TENANTS) % len(acts)]
            await act(tuple(TENANTS)[turn % len(TENANTS)])
            self.heard[word] += 1
            turn += 1

    async def _promote(self, tenant: str) -> None:
        """Draft other weights, and have somebody else put them in force."""
        corridors = [
            {
                "name": f"ng-{kind}", "currency": CURRENCY, "kind": kind,
                "rails": [
                    {"rail": rail, "priority": priority, "weight": self._draw.randint(1, 5)}
                    for rail, priority, _ in rails
                ],
            }
            for kind, rails in CORRIDORS.items()
        ]  # fmt: skip
        body = {"document": {"corridors": corridors}, "note": "chaos"}
        version = msgspec.json.decode((await self._ask("POST", "/routes", tenant, "ops", body)).body)["version"]
        await self._ask("POST", f"/routes/{version}/validate", tenant, "ops", {})
        await self._ask("POST", f"/routes/{version}/promote", tenant, PROMOTER, {})

    async def _rotate_secret(self, tenant: str) -> None:
        body = {"signature": "v1", "overlap_seconds": OVERLAP_SECONDS}
        secret = None
        while secret is None:
            secret = (await self._rotated(tenant, body))["secret"]
        self._site.consumer.trust_secret(tenant, parse_secret(secret), OVERLAP_SECONDS)

    async def _rotate_key(self, tenant: str) -> None:
        shown = await self._rotated(tenant, {"signature": "v1a", "overlap_seconds": OVERLAP_SECONDS})
        live = [one["key"] for one in shown["public_keys"] if one["expires_at"] is None]
        self._site.consumer.trust_keys(tenant, live, OVERLAP_SECONDS)

    async def _rotated(self, tenant: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._ask(
            "POST", f"/webhooks/endpoints/{self._site.endpoints[tenant]}/rotate", tenant, "ops", body
        )
        shown: dict[str, Any] = msgspec.json.decode(answer.body)
        return shown

    async def _recover(self, tenant: str) -> None:
        """Take the consumer away for a moment, and have sent to it what it was not told meanwhile."""
        path, since = f"/webhooks/endpoints/{self._site.endpoints[tenant]}", datetime.now(UTC)
        await self._ask("POST", f"{path}/disable", tenant, "ops", {})
        await asyncio.sleep(DISABLED_SECONDS)
        await self._ask("POST", f"{path}/enable", tenant, "ops", {})
        await self._ask("POST", f"{path}/recover", tenant, "ops", {"since": since.isoformat(), "which": "undelivered"})

    async def _export(self, tenant: str) -> None:
        name = f"during-{len(self._kept.exports)}"
        code, _ = await self._kept.export(self._site.installation.environment_path, tenant, name)
        self.heard["exports without a store"] += bool(code)

    async def _rotate_evidence(self) -> bool:
        """Return whether the second key follows now; it does not while the store is away or a worker is silent."""
        try:
            await self._kept.rotate(self._site.pool)
        except ZentraError:
            self.heard["evidence key waits"] += 1
            return False
        self.heard["evidence key rotated"] += 1
        return True

    async def _ask(self, method: str, path: str, tenant: str, who: str, body: dict[str, Any]) -> Answer:
        """Ask until there is an answer that is no refusal for now, and return it."""
        self._number += 1
        while True:
            try:
                answer = await self._site.http.ask(method, path, tenant, who, key=f"steward-{self._number}", body=body)
            except Unanswered:
                answer = Answer(503, b"")
            if answer.status < 400:
                return answer
            self.heard[f"{path.rpartition('/')[2]} {answer.status} {answer.code}".strip()] += 1
            if answer.status not in (409, 429, 500, 503):
                raise RuntimeError(f"{method} {path} of {tenant}: {answer.status} {answer.body.decode()}")
            await asyncio.sleep(AGAIN_SECONDS)

    async def _stopped(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True
