"""Whether the time of an answer tells a foreign id from an unknown one: medians of both, and their ratio, per route.

    .venv/bin/python -m tests.gateway.http.timing --tries 1000

Foreign and unknown ids are asked for in turns, so what disturbs the machine disturbs both. Exits with 1 where a ratio
is at or above `RATIO_MAX`. This is a figure of a quiet machine and no test: a busy one would fail it for no reason."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
import uuid
from typing import Final

import aiohttp

from tests.gateway.http.conftest import intent_body
from zentra.gateway.installation.installation import Installation

__all__ = ["ratios"]

RATIO_MAX: Final = 1.2
WARM: Final = 50
# Method, path, and which id of acme's is asked for.
DOORS: Final = (
    ("GET", "/runtime/intents/{}", "id"),
    ("GET", "/runtime/intents/{}", "intent_id"),
    ("GET", "/runtime/intents/{}/events", "intent_id"),
    ("GET", "/runtime/intents/{}/evidence", "intent_id"),
    ("POST", "/runtime/intents/{}/cancel", "id"),
    ("GET", "/accounts/{}", "account"),
    ("GET", "/accounts/{}/entries", "account"),
    ("GET", "/webhooks/deliveries?intent={}", "intent_id"),
)


async def ratios(installation: Installation, tries: int) -> dict[str, tuple[float, float]]:
    """Return the median microseconds of a foreign and of an unknown id, by method, path and sort of id."""
    ours, theirs = (f"Bearer {installation.keys[tenant]['ops']}" for tenant in ("acme", "globex"))
    async with aiohttp.ClientSession(installation.base_url) as session:
        key = {"authorization": ours, "x-idempotency-key": uuid.uuid4().hex}
        async with session.post("/runtime/intents", json=intent_body(), headers=key) as answer:
            made = await answer.json()
        account = {"account_id": f"int-{uuid.uuid4().hex}", "owner": "o", "type": "customer", "currency": "NGN"}
        key = {"authorization": ours, "x-idempotency-key": uuid.uuid4().hex}
        async with session.post("/accounts", json=account, headers=key) as answer:
            if answer.status != 201:
                raise RuntimeError(f"no account: {answer.status}")
        foreign = {"id": made["id"], "intent_id": made["intent_id"], "account": account["account_id"]}

        async def seconds(method: str, target: str) -> float:
            headers = {"authorization": theirs, "x-idempotency-key": uuid.uuid4().hex}
            began = time.perf_counter()
            async with session.request(method, target, json={} if method == "POST" else None, headers=headers) as given:
                await given.read()
            took = time.perf_counter() - began
            if given.status != 404:
                raise RuntimeError(f"{method} {target} was answered {given.status}")
            return took

        found = {}
        for method, path, sort in DOORS:
            taken: tuple[list[float], list[float]] = ([], [])
            for number in range(tries + WARM):
                unknown = uuid.uuid4().hex if sort == "id" else f"int-{uuid.uuid4().hex}"
                for place, given in enumerate((foreign[sort], unknown)):
                    took = await seconds(method, path.format(given))
                    if number >= WARM:
                        taken[place].append(took * 1e6)
            found[f"{method} {path.format(sort)}"] = (statistics.median(taken[0]), statistics.median(taken[1]))
    return found


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=1_000)
    tries = parser.parse_args().tries
    with Installation() as installation:
        found = asyncio.run(ratios(installation, tries))
    worst = 0.0
    for name, (foreign, unknown) in found.items():
        ratio = max(foreign, unknown) / min(foreign, unknown)
        worst = max(worst, ratio)
        sys.stdout.write(f"{name:48} foreign {foreign:7.0f} us   unknown {unknown:7.0f} us   ratio {ratio:.3f}\n")
    return 0 if worst < RATIO_MAX else 1


if __name__ == "__main__":
    sys.exit(_main())
