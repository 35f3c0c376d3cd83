"""A tenant reads what is its own and nothing else, whichever of the two fences is asked; pages have no gaps."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from zentra.runtime.evidence import merkle
from zentra.runtime.evidence.heads import sign_head
from zentra.runtime.evidence.merkle import Frontier
from zentra.runtime.evidence.packet import leaf_data, verify_packet
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.transaction import Transition, register, timestamp
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.ports import DenialRow
from zentra.storage.pool import Pool, tenant_transaction
from zentra.storage.reads import endpoints as endpoint_reads
from zentra.storage.reads import lists
from zentra.storage.reads import reviews as review_reads
from zentra.storage.reads import tenant as reads
from zentra.storage.reads import work as work_reads
from zentra.storage.reads.entries import entries
from zentra.storage.reads.evidence import evidence, packet_of
from zentra.storage.reads.tenant import account, intent, intent_states, record_denials
from zentra.storage.reads.walking import Slice

AT = datetime(2026, 4, 1, 12, tzinfo=UTC)
ACME, GLOBEX = "a" * 32, "b" * 32
COMMAND = IntentCommand(kind=IntentKind.PAYMENT, minor="5", currency="NGN", source="c-1", destination="m-1")


def _transition(uuid: str, tenant: str) -> Transition:
    return register(
        intent=uuid, tenant=tenant, intent_id="order-1", command=COMMAND, digest=b"d", key="k", principal="ada",
        role="developer", trace="t", at=AT, cause="req_1",
    )  # fmt: skip


@pytest.fixture(scope="module")
def filled() -> list[bool]:
    return []


async def book(admin_pool: Pool, tenant: str, uuid: str) -> None:
    """Open two accounts and post between them."""
    ids = [
        await admin_pool.fetchval(
            "insert into accounts (tenant, account_id, owner, type, currency, normal_side, guarded, created_by)"
            " values ($1, $2, 'o', 'customer', 'NGN', 'credit', true, 'ada') returning id",
            tenant, name,
        )
        for name in ("c-1", "m-1")
    ]  # fmt: skip
    for stripe in (0, 1):
        await admin_pool.execute("insert into balances values ($1, $2, $3, 1, 2, 3, 4)", ids[0], stripe, tenant)
    for ordinal in range(5):
        await admin_pool.execute(
            "insert into postings values ($1, $2, $3, 'book', $4, $5, 'NGN', 0, 7, $6, 'h')",
            uuid, ordinal, tenant, ids[ordinal % 2], ids[1 - ordinal % 2], AT + timedelta(seconds=ordinal // 2),
        )  # fmt: skip


@pytest.fixture(autouse=True)
async def rows(admin_pool: Pool, filled: list[bool]) -> None:
    """Two tenants whose rows look the same, once per module."""
    if filled:
        return
    filled.append(True)
    for tenant, uuid in (("acme", ACME), ("globex", GLOBEX)):
        made = _transition(uuid, tenant)
        await admin_pool.execute("insert into tenants (id, name) values ($1, $1)", tenant)
        await admin_pool.execute(
            "insert into intents values ($1, $2, 'order-1', 'd', $4, 'ada', 'developer', 'k', 't', $3)",
            uuid,
            tenant,
            AT,
            msgspec.json.encode(COMMAND),
        )
        await admin_pool.execute(
            "insert into transitions values ($1, 1, $2, $3, $4, $5, $6, $7)",
            uuid, tenant, AT, made.state, made.event, made.record, made.hash,
        )  # fmt: skip
        await book(admin_pool, tenant, uuid)
        await admin_pool.execute(
            "insert into reviews (id, tenant, intent_id, created_by, rules, version, status, opened_at, expires_at)"
            " values ($1, $2, 'order-1', 'ada', '[]', 1, 'open', $3, $3)",
            uuid,
            tenant,
            AT,
        )
        await admin_pool.execute(
            "insert into cases (id, tenant, intent, kind, status, detail, opened_at, deadline)"
            " values ($1, $2, $1, 'outcome_unknown', 'open', '{}', $3, $3)",
            uuid, tenant, AT,
        )  # fmt: skip
        await admin_pool.execute(
            "insert into deliveries values ($1, $2, 'we_1', $1, 1, 'e', 'body', $3)", uuid, tenant, AT
        )
        await admin_pool.execute(
            "insert into delivery_attempts values ($1, 1, $2, 'automatic', $3, 500, null, 3, '')", uuid, tenant, AT
        )
        await admin_pool.execute(
            "insert into endpoints values ($1, 'we_1', 'https://x', '{*}', array['s'::bytea], 'enabled', 'ada', $2)",
            tenant,
            AT,
        )
        await admin_pool.execute(
            "insert into commands values ($1, $2, 'cancel', 'order-1', 'ada', 'developer', '{}')", uuid, tenant
        )
        await admin_pool.execute(
            "insert into callbacks values ('sandbox', $2, 'r', $2, $1, '{}', '{}', 'd', $3)", uuid, tenant, AT
        )
        await admin_pool.execute("insert into callback_repeats values ('sandbox', $1, 2, $2)", tenant, AT)


TABLES = (
    "tenants", "intents", "transitions", "accounts", "balances", "postings", "reviews", "cases", "deliveries",
    "delivery_attempts", "endpoints", "commands", "callbacks", "callback_repeats",
)  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
async def test_without_a_tenant_there_is_nothing(tenant_pool: Pool, table: str) -> None:
    assert await tenant_pool.fetchval(f"select count(*) from {table}") == 0


@pytest.mark.parametrize("table", TABLES)
async def test_row_security_alone_keeps_tenants_apart(tenant_pool: Pool, admin_pool: Pool, table: str) -> None:
    everything = await admin_pool.fetchval(f"select count(*) from {table}")
    async with tenant_transaction(tenant_pool, "acme") as connection:
        assert await connection.fetchval(f"select count(*) from {table}") == everything // 2
    async with tenant_transaction(tenant_pool, "nobody") as connection:
        assert await connection.fetchval(f"select count(*) from {table}") == 0


async def test_the_tenant_predicate_alone_keeps_tenants_apart(writer_pool: Pool) -> None:
    """The writer's role sees through row security, so only the statements stand between the tenants."""
    assert await intent(writer_pool, "acme", id=GLOBEX) is None
    found = await intent(writer_pool, "acme", intent_id="order-1")
    assert found is not None
    assert found.id == ACME
    assert await intent_states(writer_pool, "acme", [GLOBEX]) == {}
    seen = await account(writer_pool, "acme", "c-1")
    page = await entries(writer_pool, "acme", "c-1", {})
    assert seen is not None
    assert page is not None
    assert {entry.intent for entry in page.rows} == {ACME}
    listed: tuple[Callable[..., Awaitable[Slice[Any, Any]]], ...] = (
        lists.intents, review_reads.reviews, lists.cases, lists.deliveries,
    )  # fmt: skip
    for walk in listed:
        assert [one.id for one in (await walk(writer_pool, "acme", {}, after=None, limit=10)).rows] == [ACME]
    names = [one.account_id for one in (await lists.accounts(writer_pool, "acme", {}, after=None, limit=10)).rows]
    assert names == ["m-1", "c-1"]
    assert len(await endpoint_reads.endpoints(writer_pool, "acme")) == 1
    for read in (review_reads.review, work_reads.case, work_reads.command):
        assert await read(writer_pool, "acme", GLOBEX) is None
    assert await evidence(writer_pool, "acme", id=GLOBEX) is None


async def test_an_intent_is_seen_whole(tenant_pool: Pool) -> None:
    for found in (await intent(tenant_pool, "acme", intent_id="order-1"), await intent(tenant_pool, "acme", id=ACME)):
        assert found is not None
        made = _transition(ACME, "acme")
        assert [bytes(record) for record in found.timeline] == [made.record]
        assert (found.last.sequence, found.last.state, found.last.event) == (1, "ACCEPTED", "ingress.accepted")
        assert found.review is not None
        assert len(found.cases) == len(found.deliveries) == len(found.deliveries[0].attempts) == 1
        assert found.leaves == ()
    assert await intent(tenant_pool, "acme", intent_id="order-2") is None


async def test_states_of_many_intents_are_one_question(tenant_pool: Pool) -> None:
    found = await intent_states(tenant_pool, "acme", [ACME, GLOBEX, "c" * 32])
    assert {uuid: state.sequence for uuid, state in found.items()} == {ACME: 1}


async def test_counters_are_summed_over_stripes(tenant_pool: Pool) -> None:
    found = await account(tenant_pool, "acme", "c-1")
    assert found is not None
    assert (found.debits_pending, found.credits_pending, found.debits_posted, found.credits_posted) == (2, 4, 6, 8)
    untouched = await account(tenant_pool, "acme", "m-1")
    assert untouched is not None
    assert untouched.credits_posted == 0
    assert await account(tenant_pool, "acme", "c-2") is None


async def test_refusals_are_counted_by_minute(writer_pool: Pool, admin_pool: Pool) -> None:
    row = DenialRow("acme", "eve", "support", "GET /accounts/{id}", "not_found", AT, "req_1")
    later = DenialRow("acme", "eve", "support", "GET /accounts/{id}", "not_found", AT + timedelta(seconds=59), "req_2")
    next_minute = DenialRow(
        "acme", "eve", "support", "GET /accounts/{id}", "not_found", AT + timedelta(seconds=60), "req_3"
    )
    await record_denials(writer_pool, [])
    await record_denials(writer_pool, [later, row])
    await record_denials(writer_pool, [row, next_minute])
    found = await admin_pool.fetch("select count, first_at, last_at, request_id from denials order by minute")
    assert [tuple(one) for one in found] == [
        (3, AT, AT + timedelta(seconds=59), "req_1"),
        (1, next_minute.at, next_minute.at, "req_3"),
    ]


async def test_a_packet_is_built_with_a_proof_that_its_head_signs(admin_pool: Pool, tenant_pool: Pool) -> None:
    key = Ed25519PrivateKey.generate()
    made = _transition(ACME, "acme")
    data = leaf_data(tenant="acme", intent=ACME, kind="packet", chain=made.hash, records=1)
    frontier, tiles = Frontier().append([hashlib.sha256(b"%d" % n).digest() for n in range(300)])
    leaves = [(n, GLOBEX, b"", hashlib.sha256(b"%d" % n).digest()) for n in range(300)]
    frontier, more = frontier.append([merkle.leaf_hash(data)])
    leaves.append((300, ACME, data, merkle.leaf_hash(data)))
    await admin_pool.executemany("insert into log_leaves values ('acme', $1, $2, $3, $4)", leaves)
    await admin_pool.executemany(
        "insert into log_tiles values ('acme', $1, $2, $3)", [(t.level, t.index, t.hash) for t in (*tiles, *more)]
    )
    unsigned = await evidence(tenant_pool, "acme", intent_id="order-1")
    assert unsigned is not None
    verdict = verify_packet(packet_of(unsigned), key.public_key())
    assert {problem.code for problem in verdict.problems} == {"not_sealed"}
    head = sign_head(key, tenant="acme", size=frontier.size, root=frontier.root(), at=timestamp(AT))
    await admin_pool.execute(
        "insert into log_heads values ('acme', $1, $2, $3, $4, $5, $6)",
        frontier.size, frontier.root(), list(frontier.hashes), AT, head.key_id, bytes.fromhex(head.signature),
    )  # fmt: skip
    ground = await evidence(tenant_pool, "acme", id=ACME)
    assert ground is not None
    assert verify_packet(packet_of(ground), key.public_key()).problems == ()
    seen = await reads.intent(tenant_pool, "acme", id=ACME)
    assert seen is not None
    assert [(leaf.index, leaf.signed) for leaf in seen.leaves] == [(300, True)]
