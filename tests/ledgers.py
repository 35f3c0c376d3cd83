"""A ledger with a past in a real database: what the engine made of some stories over its twins, row by row.

So a verification is tried on rows that the runtime really writes, and each fault is planted into these."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from tests.actors.world import configuration, transfer
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.evidence import canonical
from zentra.runtime.evidence.heads import sign_head
from zentra.runtime.intents.terms import HoldTerms, Leg
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.ports import Configuration
from zentra.storage.copying import copy_leaves, copy_postings, copy_tiles, copy_transitions
from zentra.storage.pool import Connection, Pool, transaction

__all__ = ["KEY", "STORIES", "TENANTS", "make_ledger", "played", "store_fleet"]

KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"the key of a test").digest())
TENANTS = ("acme", "globex")
FUNDS = 5_000_000

Story = Callable[[Fleet, str], Any]


def _transfers(fleet: Fleet, tenant: str) -> None:
    for _ in range(3):  # one tick seals them, so one head covers three leaves
        fleet.submit(transfer(), tenant=tenant)


def _declined(fleet: Fleet, tenant: str) -> None:
    fleet.submit(transfer(70_000, scenario="decline"), tenant=tenant)


def _denied(fleet: Fleet, tenant: str) -> None:
    fleet.submit(transfer(10_000_001), tenant=tenant)
    fleet.submit(transfer(5, source="poor"), tenant=tenant)


def _booked(fleet: Fleet, tenant: str) -> None:
    fleet.submit(transfer(4_000, kind=IntentKind.BOOK_TRANSFER), tenant=tenant)


def _reversed(fleet: Fleet, tenant: str) -> None:
    intent = fleet.submit(transfer(60_000), tenant=tenant)
    fleet.advance(10)
    for amount in ("25000", "full", "full"):
        fleet.command("reverse", intent, {"amount": amount}, tenant=tenant)
        fleet.advance(1)


def _held(fleet: Fleet, tenant: str) -> None:
    fleet.submit(transfer(33_000, scenario="never_answers"), tenant=tenant)


def _hold(fleet: Fleet, tenant: str) -> None:
    """Leave a hold that was captured in part, one that was voided and one that stands."""
    asked = transfer(9_000, kind=IntentKind.HOLD, hold=HoldTerms(86_400))
    first, second, _ = [fleet.submit(asked, tenant=tenant) for _ in range(3)]
    fleet.advance(1)
    fleet.command("capture_hold", first, {"amount": "4000", "final": True}, tenant=tenant)
    fleet.command("void_hold", second, {"reason": "no longer needed"}, tenant=tenant)


def _composed(fleet: Fleet, tenant: str) -> None:
    legs = (Leg(source="customer", destination="poor", minor="90", currency="NGN"),
            Leg(source="poor", destination="merchant", minor="80", currency="NGN"))  # fmt: skip
    both = transfer(170, kind=IntentKind.JOURNAL, legs=legs, effective_at="2026-01-01T00:00:00.000000Z")
    fleet.submit(both, tenant=tenant)
    given = fleet.submit(transfer(40, kind=IntentKind.BOOK_TRANSFER, destination="poor"), tenant=tenant)
    fleet.submit(transfer(40, kind=IntentKind.BOOK_TRANSFER, source="poor"), tenant=tenant)
    fleet.advance(1)
    fleet.command("reverse", given, {"force": True, "approved_by": "boss"}, tenant=tenant)


STORIES: tuple[Story, ...] = (_transfers, _declined, _denied, _booked, _reversed, _held, _hold, _composed)


def _configuration() -> Configuration:
    made = configuration()
    return structs.replace(
        made,
        policies=dict.fromkeys(TENANTS, made.policies["acme"]),
        corridors={name: tuple(structs.replace(c, tenant=name) for c in made.corridors["acme"]) for name in TENANTS},
    )


def _accounts() -> list[AccountRef]:
    """Return the accounts of both tenants, numbered from 1."""
    kinds = (
        ("customer", "customer"), ("merchant", "merchant"), ("settlement-ngn", "settlement"),
        ("liquidity-ngn", "liquidity"), ("poor", "customer"),
    )  # fmt: skip
    return [
        AccountRef(10 * place + number, tenant, name, kind, "NGN", "credit", kind not in ("settlement", "liquidity"))
        for place, tenant in enumerate(TENANTS)
        for number, (name, kind) in enumerate(kinds, 1)
    ]


def played(stories: tuple[Story, ...] = STORIES) -> Fleet:
    """Return a fleet of two tenants that has played these stories, funds first."""
    fleet = Fleet(_configuration())
    for ref in _accounts():
        fleet.store.open_account(ref)
    for tenant in TENANTS:
        fund = transfer(FUNDS // 4, kind=IntentKind.BOOK_TRANSFER, source="liquidity-ngn", destination="customer")
        for _ in range(4):
            fleet.submit(fund, tenant=tenant, principal="seed", role="admin")
            fleet.advance(1)
    for story in stories:
        for tenant in TENANTS:
            story(fleet, tenant)
            fleet.advance(70)
    fleet.advance(120)
    return fleet


async def make_ledger(pool: Pool) -> Fleet:
    """Fill an empty, migrated database with a played fleet, and return it."""
    fleet = played()
    await store_fleet(pool, fleet)
    return fleet


async def store_fleet(pool: Pool, fleet: Fleet) -> None:
    """Write the rows of a fleet that a verification reads."""
    rows = fleet.store.rows
    async with transaction(pool) as connection:
        await _store_accounts(connection, fleet)
        intents = []
        for (tenant, intent_id), row in fleet.store.intake.intents.items():
            first = rows.transitions[row.intent][0]
            record = msgspec.json.decode(first.record)
            command = canonical.encode(record["facts"]["command"])
            intents.append(
                (row.intent, tenant, intent_id, row.digest, command, record["actor"], record["facts"]["role"], row.key,
                 record["trace"], first.at)
            )  # fmt: skip
        await connection.executemany("insert into intents values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", intents)
        await connection.executemany(
            "insert into holds values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            [
                (
                    h.intent,
                    h.tenant,
                    h.intent_id,
                    h.account,
                    h.account_id,
                    h.currency,
                    h.minor,
                    h.remaining,
                    h.captured,
                    h.status,
                    h.placed_at,
                    h.expires_at,
                    h.ended_at,
                )
                for h in rows.holds.values()
            ],
        )
        await copy_transitions(connection, [one for found in rows.transitions.values() for one in found])
        await copy_postings(connection, list(rows.postings.values()))
        await copy_leaves(connection, [(t, n, intent, d, h) for (t, n), (intent, d, h) in rows.leaves.items()])
        await copy_tiles(connection, [(*place, digest) for place, digest in rows.tiles.items()])
        for head in rows.heads.values():
            signed = sign_head(KEY, tenant=head.tenant, size=head.size, root=head.root, at=timestamp(head.at))
            await connection.execute(
                "insert into log_heads values ($1, $2, $3, $4, $5, $6, $7)", head.tenant, head.size, head.root,
                list(head.frontier.hashes), head.at, signed.key_id, bytes.fromhex(signed.signature),
            )  # fmt: skip


async def _store_accounts(connection: Connection, fleet: Fleet) -> None:
    rows = fleet.store.rows
    await connection.executemany("insert into tenants (id, name) values ($1, $1)", [(name,) for name in TENANTS])
    await connection.executemany(
        "insert into accounts (id, tenant, account_id, owner, type, currency, normal_side, guarded,"
        " overdraft_limit, status, created_by) overriding system value"
        " values ($1, $2, $3, 'nobody', $4, $5, $6, $7, $8, $9, 'test')",
        [
            (
                r.id,
                r.tenant,
                r.account_id,
                r.type,
                r.currency,
                r.normal_side,
                r.guarded,
                r.overdraft_limit,
                r.status,
            )
            for r in fleet.store.refs.values()
        ],
    )
    tenant_of = {ref.id: ref.tenant for ref in fleet.store.refs.values()}
    await connection.executemany(
        "insert into balances values ($1, $2, $3, $4, $5, $6, $7)",
        [
            (account, stripe, tenant_of[account], *structs.astuple(balance))
            for (account, stripe), balance in rows.balances.items()
        ],
    )
