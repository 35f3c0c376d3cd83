"""What has to be true after a load, checked in the store, at the endpoint and by the public key; any of it fails a run.

A rate that was reached by losing or repeating something is not a rate. Each check says what it looked at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct
from msgspec.structs import asdict

from zentra.bench.measuring.books import Books, read_books, read_imbalances
from zentra.bench.measuring.load import Load, distinct_numbers
from zentra.bench.measuring.logs import read_logs, sealed_other_than_once
from zentra.bench.measuring.marks import Marks
from zentra.bench.measuring.tally import LoadReport
from zentra.gateway.installation.installation import Installation
from zentra.runtime.evidence.heads import load_public_key
from zentra.runtime.evidence.packet import verify_packet
from zentra.storage.audit import audit_installation
from zentra.storage.errors import translated
from zentra.storage.pool import Pool

__all__ = ["Check", "check_entries", "check_keys", "check_load"]

DRAIN_SECONDS_MAX: Final = 15.0
DRAIN_POLL_SECONDS: Final = 0.1
PACKETS_CHECKED: Final = 25

_EFFECTS: Final = """
select count(*) from (
    select i.tenant, i.key from intents i left join postings p on p.intent = i.id and p.kind in ('post', 'book')
    where starts_with(i.key, $1) and exists (
        select from transitions t where t.intent = i.id and t.event = 'ledger.posted')
    group by i.tenant, i.key having count(p.intent) <> 1) unlike_one
"""
_UNSEALED: Final = """
select count(*) from intents i where starts_with(i.key, $1) and not exists (
    select from transitions t where t.intent = i.id and t.event = 'review.closed')
"""
_UNSENT: Final = "select count(*) from outbox where sent_at is null"
_DELIVERIES: Final = "select count(*), count(*) filter (where status = 'delivered') from delivery_states"
_SAMPLE: Final = """
select intent_id from intents where starts_with(key, $1) and tenant = $3 order by digest limit $2
"""


class Check(Struct, frozen=True):
    """One thing that has to be true, whether it is, what was found, and the numbers that were compared."""

    name: str
    ok: bool
    found: str
    figures: dict[str, Any] = {}


async def check_load(
    pool: Pool,
    installation: Installation,
    *,
    load: Load,
    report: LoadReport,
    tenants: Sequence[str],
    taken: int | None,
    whole: bool = True,
) -> list[Check]:
    """Return every check of a load, whose tenants are of `tenants`.

    `taken` is how many events the endpoint took, None without one. Without `whole` only what the load added is looked
    at, and the sums of all balances: every record and leaf of before is left to a check that has the time.
    Raises Unavailable without a store."""
    prefix, key = f"{load.prefix}-", load_public_key(installation.public_key_path.read_bytes())
    books = await read_books(pool, load, tenants[0])
    return [
        *([await _invariants(pool)] if whole else []),
        check_keys(load, report, books),
        await _once(pool, prefix, report, books),
        check_entries(books),
        await _balance(pool),
        await _sealed(pool, prefix),
        await _published(pool),
        *([] if taken is None else [await _delivered(pool, taken)]),
        await (_logged(pool, prefix, key) if whole else _logged_once(pool, prefix)),
        await _evidence(pool, installation, prefix, tenants[0], key),
    ]


async def _invariants(pool: Pool) -> Check:
    audit = await audit_installation(pool)
    looked = f"{audit.intents} intents, {audit.postings} postings, {audit.records} chained records"
    if audit.clean:
        return Check("every invariant holds", True, looked)
    breaches = "; ".join(f"{b.letter} {b.where}: {b.detail}" for b in audit.breaches[:5])
    return Check("every invariant holds", False, f"{len(audit.breaches)} breaches in {looked}: {breaches}")


def check_keys(load: Load, report: LoadReport, books: Books) -> Check:
    """Return whether the keys sent, those acknowledged and those that have an intent are the same: sets, not counts."""
    sent, acknowledged = distinct_numbers(load), Marks(report.acknowledged)
    lost = sum(1 for number in acknowledged if number not in books.distinct)
    unanswered = sum(1 for number in books.distinct if number not in acknowledged)
    # Without an answer, or with one from a store in trouble, an intent may exist or not.
    unknown = sum(count for why, count in report.refusals.items() if not why.startswith("4"))
    whole = len(acknowledged) == len(sent) == books.intents
    figures = {
        "sent": load.sends,
        "repeated": report.repeated,
        "distinct_keys": len(sent),
        "acknowledged_keys": len(acknowledged),
        "intents": books.intents,
        "acknowledged_and_absent": lost,
        "existing_and_unacknowledged": unanswered,
        "existing_and_never_asked_for": books.unasked,
    }
    return Check(
        "every acknowledged intent exists, and no other does",
        not lost and not books.unasked and unanswered <= unknown and (whole or bool(report.refused)),
        f"{load.sends:,} sent, {report.repeated:,} of them repeats: {len(sent):,} different keys,"
        f" {len(acknowledged):,} acknowledged, {books.intents:,} intents; {lost} lost, {books.unasked} never asked for",
        figures,
    )


async def _once(pool: Pool, prefix: str, report: LoadReport, books: Books) -> Check:
    with translated():
        unlike_one = await pool.fetchval(_EFFECTS, prefix)
    made, keys = books.intents, len(books.distinct)
    first = report.accepted - report.answered_again
    return Check(
        "one mutation per key",
        made == keys and first <= made and not unlike_one,
        f"{made:,} intents for {keys:,} keys, {first:,} told that they were the first and {report.answered_again:,}"
        f" that they were not, {unlike_one} keys posted other than once",
        {
            "intents": made, "keys": keys, "answered_first": first, "answered_again": report.answered_again,
            "posted_other_than_once": unlike_one,
        },
    )  # fmt: skip


def check_entries(books: Books) -> Check:
    """Return whether every intent has the entries that its own content asks for, and no others."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(books.by_kind.items()))
    found = (
        f"{books.completed:,} completed, {books.entries:,} entries of {books.entries_expected:,} ({kinds}),"
        f" {books.moved_minor:,} of {books.moved_minor_expected:,} minor units moved"
    )
    if books.unlike:
        found += f"; {books.unlike_count} intents have others: {'; '.join(books.unlike)}"
    agreed = books.entries == books.entries_expected and books.moved_minor == books.moved_minor_expected
    return Check(
        "each intent has its own entries",
        agreed and not books.unlike_count and books.intents > 0,
        found,
        {
            "completed": books.completed, "entries": books.entries, "entries_expected": books.entries_expected,
            "by_kind": dict(books.by_kind), "moved_minor": books.moved_minor,
            "moved_minor_expected": books.moved_minor_expected, "intents_with_others": books.unlike_count,
        },
    )  # fmt: skip


async def _balance(pool: Pool) -> Check:
    sums = await read_imbalances(pool)
    shown = [
        f"{each.tenant} {each.currency} posted {each.posted_imbalance}, pending {each.pending_imbalance}"
        f" of {each.posted_minor:,} and {each.pending_minor:,}"
        for each in sums
        if each.posted_minor or each.pending_minor or each.posted_imbalance or each.pending_imbalance
    ]
    level = not any(each.posted_imbalance or each.pending_imbalance or each.pending_minor for each in sums)
    return Check(
        "the ledger is in balance, and holds nothing", level and bool(shown), f"imbalance: {'; '.join(shown)}",
        {"by_tenant_and_currency": [asdict(each) for each in sums]},
    )  # fmt: skip


async def _logged(pool: Pool, prefix: str, key: Ed25519PublicKey) -> Check:
    logs, unlike_one = await read_logs(pool, key), await sealed_other_than_once(pool, prefix)
    found = "; ".join(
        f"{log.tenant}: {log.leaves:,} leaves under {log.heads:,} signed heads, root {log.root[:16]}" for log in logs
    )
    flaws = [flaw for log in logs for flaw in log.flaws]
    return Check(
        "the log holds every packet once, and its heads are signed",
        not flaws and not unlike_one and bool(logs),
        "; ".join([f"{unlike_one} packets logged other than once; {found}", *flaws]),
        {"logged_other_than_once": unlike_one, "logs": [asdict(log) for log in logs]},
    )


async def _logged_once(pool: Pool, prefix: str) -> Check:
    unlike_one = await sealed_other_than_once(pool, prefix)
    found = f"{unlike_one} packets of this load logged other than once; the whole log was not walked"
    return Check("the log holds every packet once", not unlike_one, found, {"logged_other_than_once": unlike_one})


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


async def _evidence(pool: Pool, installation: Installation, prefix: str, tenant: str, key: Ed25519PublicKey) -> Check:
    """Export packets as an auditor would, and verify them by the public key alone."""
    with translated():
        rows = await pool.fetch(_SAMPLE, prefix, PACKETS_CHECKED, tenant)
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
    figures = {"packets": len(rows), "packets_with_problems": len(problems)}
    return Check("evidence verifies", not problems and bool(rows), "; ".join(problems[:3]) or found, figures)
