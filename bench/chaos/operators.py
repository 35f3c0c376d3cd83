"""The people beside the load: now and then they give money back, and decide what waits for a decision.

- A reversal is asked for in part or in full, sometimes twice at once with the same key, of intents that clients were
  told of; what becomes of it is read from the books afterwards.
- Reviews are approved or rejected by the operator of the tenant; some are left to wait.
- Nobody here minds an answer that does not come: that is what the run is about."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec

from zentra.bench.chaos.doors import HttpDoor, Unanswered
from zentra.bench.chaos.load import Asked

__all__ = ["Operators"]

EVERY_SECONDS: Final = 0.4
REACH: Final = (20, 400)  # how many requests back a reversal looks: done by then, as a rule
LEFT_TO_WAIT: Final = 0.3  # of all reviews looked at


class Operators:
    """Acts until told to stop; `heard` counts the answers by kind and status."""

    def __init__(self, door: HttpDoor, asked: Callable[[], list[Asked]], seed: int) -> None:
        self.heard: Counter[str] = Counter()
        self._door, self._asked = door, asked
        self._draw = random.Random(f"operators/{seed}")  # noqa: S311  # a choice of work, not a secret
        self._stopping = asyncio.Event()
        self._number = 0

    def stop(self) -> None:
        """Act no more."""
        self._stopping.set()

    async def run(self) -> None:
        """Act at a steady pace until stopped."""
        while not self._stopping.is_set():
            try:
                await (self._reverse() if self._draw.random() < 0.6 else self._decide())
            except Unanswered:
                self.heard["unanswered"] += 1
            await asyncio.sleep(EVERY_SECONDS)

    async def _reverse(self) -> None:
        nearest, farthest = REACH
        known = [one for one in self._asked()[-farthest:-nearest] if one.outcome == "accepted"]
        if not known:
            return
        one = self._draw.choice(known)
        amount = "full" if self._draw.random() < 0.5 else str(self._draw.randint(1, int(one.body["amount"])))
        path, key = f"/runtime/intents/{one.intent_id}/reversals", self._key()
        times = 2 if self._draw.random() < 0.3 else 1
        body = {"amount": amount, "reason": "chaos"}
        asking = (self._door.ask("POST", path, one.tenant, "dev", key=key, body=body) for _ in range(times))
        for heard in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(heard, Unanswered):
                self.heard["reverse unanswered"] += 1
            elif isinstance(heard, BaseException):
                raise heard
            else:
                self.heard[f"reverse {heard.status} {heard.code}".strip()] += 1

    async def _decide(self) -> None:
        tenant = self._draw.choice(("acme", "globex"))
        listed = await self._door.ask("GET", "/reviews?status=open", tenant, "ops")
        if listed.status != 200:
            return
        reviews: list[dict[str, Any]] = msgspec.json.decode(listed.body)["data"]
        if not reviews or self._draw.random() < LEFT_TO_WAIT:
            return
        verdict = self._draw.choice(("approve", "approve", "reject"))
        review = self._draw.choice(reviews)
        body = {"reason": "chaos", "request_hash": review["request_hash"]}
        path = f"/reviews/{review['id']}/{verdict}"
        heard = await self._door.ask("POST", path, tenant, "ops", key=self._key(), body=body)
        self.heard[f"{verdict} {heard.status} {heard.code}".strip()] += 1

    def _key(self) -> str:
        self._number += 1
        return f"operators-{self._number}"
