"""What has to be true after a load, checked in the store, at the endpoint and by the public key; any of it fails a run.

A rate that was reached by losing or repeating something is not a rate. Each check says what it looked at."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import aiohttp
from msgspec import Struct

from zentra.bench.measuring.tally import LoadReport
from zentra.gateway.installation.installation import Installation
from zentra.runtime.evidence.heads import load_public_key
from zentra.runtime.evidence.packet import verify_packet
from zentra.storage.audit import audit_installation
from zentra.storage.errors import translated
from zentra.storage.pool import Pool

__all__ = ["Check", "check_load"]

DRAIN_SECONDS_MAX: Final = 15.0
DRAIN_POLL_SECONDS: Final = 0.1
PACKETS_CHECKED: Final = 25

_EFFECTS: Final = """
select count(*) from (
    select i.id from intents i left join postings p on p.intent = i.id and p.kind in ('post', 'book')
    where starts_with(i.key, $1) and exists (
        select from transitions t where t.intent = i.id and t.event = 'ledger.posted')
    group by i.id having count(p.intent) <> 1) unlike_one
"""
_UNSEALED: Final = """
select count(*) from intents i where starts_with(i.key, $1) and not exists (
    select from transitions t where t.intent = i.id and t.event = 'review.closed')
"""
_KEYS: Final = "select count(*), count(distinct (tenant, key)) from intents where starts_with(key, $1)"
_UNSENT: Final = "select count(*) from outbox where sent_at is null"
_DELIVERIES: Final = "select count(*), count(*) filter (where status = 'delivered') from delivery_states"
_SAMPLE: Final = """
select intent_id from intents where starts_with(key, $1) and tenant = $3 order by digest limit $2
"""


class Check(Struct, frozen=True):
    """One thing that has to be true, whether it is, and what was found."""

    name: str
    ok: bool
    found: str


async def check_load(
    pool: Pool,
    installation: Installation,
    *,
    prefix: str,
    report: LoadReport,
    distinct: int,
    tenant: str,
    taken: int | None,
) -> list[Check]:
    """Return every check of the load whose keys begin with `prefix`.

    `distinct` is how many different keys were sent; `taken` how many events the endpoint took, None without one.
    Raises Unavailable where the store cannot be asked."""
    return [
        await _invariants(pool),
        *await _keys(pool, prefix, report, distinct),
        await _sealed(pool, prefix),
        await _published(pool),
        *([] if taken is None else [await _delivered(pool, taken)]),
        await _evidence(pool, installation, prefix, tenant),
    ]


async def _invariants(pool: Pool) -> Check:
    audit = await audit_installation(pool)
    looked = f"{audit.intents} intents, {audit.postings} postings, {audit.records} chained records"
    if audit.clean:
        return Check("every invariant holds", True, looked)
    breaches = "; ".join(f"{b.letter} {b.where}: {b.detail}" for b in audit.breaches[:5])
    return Check("every invariant holds", False, f"{len(audit.breaches)} breaches in {looked}: {breaches}")


async def _keys(pool: Pool, prefix: str, report: LoadReport, distinct: int) -> list[Check]:
    with translated():
        row = await pool.fetchrow(_KEYS, prefix)
        unlike_one = await pool.fetchval(_EFFECTS, prefix)
    assert row is not None
    made, keys = row
    first = report.accepted - report.answered_again
    return [
        Check(
            "every acknowledged intent exists, and no other does",
            # without an answer an intent may exist or not; with a replay it exists already
            (made == distinct if not report.refused else first <= made <= distinct),
            f"{report.accepted} acknowledged, {report.answered_again} of them again; {made} exist for {distinct} keys",
        ),
        Check(
            "one mutation per key",
            made == keys and not unlike_one,
            f"{made} intents, {keys} keys, {unlike_one} intents posted other than once",
        ),
    ]


async def _sealed(pool: Pool, prefix: str) -> Check:
    with translated():
        unsealed = await pool.fetchval(_UNSEALED, prefix)
    return Check("every intent reached its last stage", not unsealed, f"{unsealed} have not")


async def _published(pool: Pool) -> Check:
    deadline = time.monotonic() + DRAIN_SECONDS_MAX
    while True:
        with translated():
            unsent = await pool.fetchval(_UNSENT)
        if not unsent or time.monotonic() > deadline:
            return Check("every event was published", not unsent, f"{unsent} frames of the outbox were not")
        await asyncio.sleep(DRAIN_POLL_SECONDS)


async def _delivered(pool: Pool, taken: int) -> Check:
    with translated():
        row = await pool.fetchrow(_DELIVERIES)
    assert row is not None
    found = f"{row[0]} deliveries, {row[1]} delivered, {taken} different ones taken by the endpoint"
    return Check("every event was delivered", row[0] == row[1] == taken, found)


async def _evidence(pool: Pool, installation: Installation, prefix: str, tenant: str) -> Check:
    """Export packets as an auditor would, and verify them by the public key alone."""
    with translated():
        rows = await pool.fetch(_SAMPLE, prefix, PACKETS_CHECKED, tenant)
    key = load_public_key(installation.public_key_path.read_bytes())
    headers = {"authorization": f"Bearer {installation.keys[tenant]['ops']}"}
    problems: list[str] = []
    async with aiohttp.ClientSession(headers=headers) as session:
        for row in rows:
            url = f"{installation.base_url}/runtime/intents/{row[0]}/evidence"
            async with session.get(url) as answer:
                packet = await answer.read()
                if answer.status != 200:
                    problems.append(f"{row[0]}: {answer.status}")
                    continue
            verdict = verify_packet(packet, key)
            if not verdict.ok:
                problems.append(f"{row[0]}: {verdict.problems[:1]}")
    found = f"{len(rows)} packets verified by the public key"
    return Check("evidence verifies", not problems and bool(rows), "; ".join(problems[:3]) or found)
