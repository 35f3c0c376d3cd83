"""The checks after a load tell a run that lost, doubled, mixed up or left something unproven from one that did not."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from zentra.bench.measuring.books import Books, compare
from zentra.bench.measuring.correctness import check_entries, check_keys
from zentra.bench.measuring.load import Load
from zentra.bench.measuring.logs import Tree, read_logs
from zentra.bench.measuring.marks import Marks
from zentra.bench.measuring.tally import LoadReport, Tally
from zentra.runtime.evidence.heads import sign_head
from zentra.runtime.evidence.merkle import Frontier, leaf_hash
from zentra.runtime.evidence.packet import leaf_data
from zentra.runtime.intents.transaction import timestamp
from zentra.storage.pool import Pool

LOAD = Load(transport="nats", url="", intents=3, sources=("ada",), destinations=("shop",), minor_fixed=7, prefix="load")
HELD = "reserve ada settlement 7 0"
POSTED, SETTLED = "post ada settlement -7 7", "settle settlement shop 0 7"
WHOLE = [HELD, POSTED, SETTLED]


def books_of(*rows: tuple[str, bool, list[str]]) -> Books:
    books = Books()
    for row in rows:
        compare(books, LOAD.workload(), "settlement", LOAD.sends, row)
    return books


@pytest.mark.parametrize(("completed", "entries", "ok"), [
    (True,  WHOLE,                                             True),
    (False, [],                                                True),
    (False, [HELD, "release ada settlement -7 0"],             True),
    (True,  [],                                                False),   # said to have moved, and did not
    (True,  [HELD, POSTED],                                    False),   # never reached the destination
    (True,  [*WHOLE, SETTLED],                                 False),   # twice
    (True,  [HELD, POSTED, "settle settlement mall 0 7"],      False),   # another's
    (True,  [HELD, POSTED, "settle settlement shop 0 8"],      False),   # more
    (True,  [HELD, "release ada settlement -7 0", *WHOLE[1:]], False),
    (False, WHOLE,                                             False),   # moved, and not said to
    (False, [HELD],                                            False),   # held for ever
])  # fmt: skip
def test_an_intent_has_the_entries_that_its_own_content_asks_for(completed: bool, entries: list[str], ok: bool) -> None:
    assert check_entries(books_of(("load-0", True, WHOLE), ("load-1", completed, entries))).ok is ok


def test_entries_are_counted_by_kind_and_the_money_that_they_moved() -> None:
    found = check_entries(books_of(*((f"load-{number}", True, WHOLE) for number in range(3)))).figures
    assert (found["entries"], found["entries_expected"], found["by_kind"]) == (
        9, 9, {"reserve": 3, "post": 3, "settle": 3}
    )  # fmt: skip
    assert (found["moved_minor"], found["moved_minor_expected"]) == (21, 21)


def report_of(acknowledged: list[int], refusals: dict[str, int]) -> LoadReport:
    tally = Tally(0.0)
    tally.refusals, tally.refused = refusals, sum(refusals.values())
    for number in acknowledged:
        tally.acknowledged.add(number)
    return tally.report(seconds=1.0, started_at=0.0, cpu_seconds=0.0)


@pytest.mark.parametrize(("acknowledged", "refusals", "existing", "ok"), [
    ([0, 1, 2],    {},                       [0, 1, 2],    True),
    ([0, 1, 2],    {},                       [0, 1],       False),   # lost
    ([0, 1],       {"no_answer": 1},         [0, 1, 2],    True),    # unknown until it is looked at
    ([0, 1],       {"no_answer": 1},         [0, 1],       True),
    ([0, 1],       {"409 in_flight": 1},     [0, 1, 2],    False),   # refused, and made all the same
    ([0, 1],       {"503 overloaded": 1},    [0, 2],       False),   # one lost hides behind one too many
    ([0, 1],       {},                       [0, 1, 2],    False),   # nobody heard of it
    ([0, 1],       {},                       [0, 1],       False),   # never sent
    ([0, 1, 2],    {},                       [0, 1, 2, 3], False),   # nobody asked for it
])  # fmt: skip
def test_what_was_sent_acknowledged_and_made_are_the_same_keys(
    acknowledged: list[int], refusals: dict[str, int], existing: list[int], ok: bool
) -> None:
    books: Any = books_of(*((f"load-{number}", True, WHOLE) for number in existing))
    assert check_keys(LOAD, report_of(acknowledged, refusals), books).ok is ok
    assert set(books.distinct) == set(existing) == set(Marks(bytes(books.distinct)))


@given(st.lists(st.binary(max_size=20), max_size=70))
def test_the_tree_of_the_check_is_that_of_the_product_and_made_otherwise(leaves: list[bytes]) -> None:
    tree, frontier = Tree(), Frontier()
    assert tree.root() == frontier.root()
    for leaf in leaves:
        tree.add(leaf)
        frontier, _ = frontier.append([leaf_hash(leaf)])
        assert (tree.size, tree.root()) == (frontier.size, frontier.root())


KEY = Ed25519PrivateKey.generate()
AT = datetime(2026, 1, 1, tzinfo=UTC)


async def plant(pool: Pool, tenant: str, **tampered: Any) -> None:
    """Log five intents under heads of two and of five leaves; `tampered` says what is not as it should be."""
    tree = Tree()
    for index in range(5):
        intent, link = uuid.uuid4(), sha256(b"%d" % index).digest()
        await pool.execute(
            "insert into transitions values ($1, 1, $2, $3, 'SUCCESSFUL', 'review.closed', '', $4)",
            intent.hex, tenant, AT, tampered.get("chain", link) if index == 1 else link,
        )  # fmt: skip
        data = leaf_data(tenant=tenant, intent=intent.hex, kind="packet", chain=link, records=1)
        tree.add(data)
        hashed = tampered.get("hash", leaf_hash(data)) if index == 1 else leaf_hash(data)
        if index != tampered.get("lost"):
            await pool.execute(
                "insert into log_leaves values ($1, $2, $3, $4, $5)", tenant, index, intent.hex, data, hashed
            )
        if tree.size in tampered.get("heads", (2, 5)):
            root = tampered.get("root", tree.root())
            head = sign_head(tampered.get("key", KEY), tenant=tenant, size=tree.size, root=root, at=timestamp(AT))
            await pool.execute(
                "insert into log_heads values ($1, $2, $3, '{}', $4, $5, $6)",
                tenant, tree.size, root, AT, head.key_id, bytes.fromhex(head.signature),
            )  # fmt: skip


@pytest.mark.service
@pytest.mark.parametrize(("tampered", "flaws"), [
    ({},                                      []),
    ({"heads": (1, 2, 3, 4, 5)},              []),
    ({"chain": bytes(32)},                    ["leaf 1 does not name the records that there are"]),
    ({"hash": bytes(32)},                     ["leaf 1 has another hash"]),
    ({"root": bytes(32)},                     ["the head of 2 leaves has another root",
                                               "the head of 5 leaves has another root"]),
    ({"key": Ed25519PrivateKey.generate()},   ["the head of 2 leaves: it names key", "the head of 5 leaves: it names"]),
    ({"heads": (2,)},                         ["has 5 leaves, and its last head covers 2"]),
    ({"lost": 4},                             ["the head of 5 leaves covers more", "has 4 leaves, and its last head"]),
    ({"lost": 3},                             ["leaf 3 is missing, 4 follows", "the head of 5 leaves covers more",
                                               "has 4 leaves"]),
])  # fmt: skip
async def test_a_log_that_was_tampered_with_is_told_from_one_that_was_not(
    admin_pool: Pool, tampered: dict[str, Any], flaws: list[str]
) -> None:
    tenant = f"t{uuid.uuid4().hex[:12]}"
    await plant(admin_pool, tenant, **tampered)
    logs = await read_logs(admin_pool, KEY.public_key())
    found = next(log for log in logs if log.tenant == tenant)
    assert len(found.flaws) == len(flaws) == found.flaw_count
    for flaw, expected in zip(found.flaws, flaws, strict=True):
        assert flaw.startswith(f"{tenant} {expected}")
    if not tampered:
        assert (found.leaves, found.heads, found.signed) == (5, 2, 5)
