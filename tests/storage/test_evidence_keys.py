"""The history of keys in Postgres: begun once, continued by both keys, and what keeps a worker with a wrong key out."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from zentra.runtime.evidence.heads import key_id
from zentra.storage.engine.store import PostgresStore
from zentra.storage.errors import Misconfigured
from zentra.storage.intake import evidence_keys as keys
from zentra.storage.pool import Pool

LEAD = timedelta(seconds=keys.LEAD_SECONDS_MIN)
AT_ONCE = timedelta(microseconds=1)


def fresh() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def ids(*given: Ed25519PrivateKey) -> list[str]:
    return [key_id(key.public_key()) for key in given]


@pytest.fixture
async def clean(admin_pool: Pool) -> None:
    await admin_pool.execute("truncate evidence_key_entries, evidence_signers")


async def version(pool: Pool) -> int:
    return int(await pool.fetchval("select version from configuration_version"))


@pytest.mark.usefixtures("clean")
async def test_the_first_worker_begins_the_history_and_the_next_ones_find_it(writer_pool: Pool) -> None:
    key = fresh()
    before = await version(writer_pool)
    told = await asyncio.gather(*(keys.admit_keys(writer_pool, [key], by=f"w{n}") for n in range(4)))
    assert {one.envelopes for one in told} == {told[0].envelopes}
    assert [entry.key_id for entry in told[0].entries] == ids(key)
    assert await version(writer_pool) > before
    assert (await PostgresStore(writer_pool).configuration()).evidence_keys == keys.signing_keys(told[0])


@pytest.mark.usefixtures("clean")
async def test_a_worker_with_another_key_is_refused_and_told_the_fix(writer_pool: Pool) -> None:
    first, other = fresh(), fresh()
    await keys.admit_keys(writer_pool, [first], by="w1")
    with pytest.raises(Misconfigured, match="zentra evidence keys rotate"):
        await keys.admit_keys(writer_pool, [other], by="w2")
    await keys.admit_keys(writer_pool, [other, first], by="w2")


@pytest.mark.usefixtures("clean")
async def test_a_rotation_is_in_the_history_and_comes_into_force_later(writer_pool: Pool) -> None:
    first, second = fresh(), fresh()
    await keys.admit_keys(writer_pool, [first], by="w1")
    before = await version(writer_pool)
    history = await keys.rotate_key(writer_pool, [first], second, by="ada", reason="yearly", lead=LEAD)
    assert [entry.key_id for entry in history.entries] == ids(first, second)
    assert (history.entries[1].by, history.entries[1].reason) == ("ada", "yearly")
    assert await version(writer_pool) > before
    assert (await keys.signers(writer_pool)).key_id == ids(first)[0], "the old one is in force until then"
    await keys.admit_keys(writer_pool, [first], by="w1")
    await keys.admit_keys(writer_pool, [second], by="w2")
    with pytest.raises(Misconfigured, match="wait for that"):
        await keys.rotate_key(writer_pool, [first, second], fresh(), by="ada", reason="", lead=LEAD)


@pytest.mark.usefixtures("clean")
async def test_after_the_change_the_old_key_alone_is_not_enough(writer_pool: Pool) -> None:
    first, second = fresh(), fresh()
    await keys.admit_keys(writer_pool, [first], by="w1")
    await keys.rotate_key(writer_pool, [first], second, by="ada", reason="", lead=AT_ONCE)
    with pytest.raises(Misconfigured, match=ids(second)[0]):
        await keys.admit_keys(writer_pool, [first], by="w1")
    assert (await keys.signers(writer_pool)).key_id == ids(second)[0]


@pytest.mark.usefixtures("clean")
async def test_nobody_brings_in_a_key_that_a_worker_lacks_unless_workers_are_restarted(writer_pool: Pool) -> None:
    first, second = fresh(), fresh()
    await keys.admit_keys(writer_pool, [first], by="w1")
    await keys.sign_on(writer_pool, "w1", ids(first, second))
    await keys.sign_on(writer_pool, "w2", ids(first))
    with pytest.raises(Misconfigured, match="w2 do not hold"):
        await keys.rotate_key(writer_pool, [first], second, by="ada", reason="", lead=AT_ONCE)
    assert await keys.stopped_signers(writer_pool) == []
    await keys.rotate_key(writer_pool, [first], second, by="ada", reason="", lead=AT_ONCE, needed=False)
    assert await keys.stopped_signers(writer_pool) == ["w2"]
    await keys.sign_off(writer_pool, "w2")
    assert await keys.stopped_signers(writer_pool) == []


REFUSED = [
    ("without the key that signs now", [1], 2, "give it with --old"),
    ("to a key that was there before", [0], 0, "is in the history already"),
]


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(("old", "new", "said"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_a_rotation_is_refused(writer_pool: Pool, old: list[int], new: int, said: str) -> None:
    made = [fresh() for _ in range(3)]
    await keys.admit_keys(writer_pool, made[:1], by="w1")
    with pytest.raises(Misconfigured, match=said):
        await keys.rotate_key(writer_pool, [made[n] for n in old], made[new], by="ada", reason="", lead=LEAD)


@pytest.mark.usefixtures("clean")
async def test_before_any_worker_there_is_nothing_to_rotate(writer_pool: Pool) -> None:
    with pytest.raises(Misconfigured, match="start one first"):
        await keys.rotate_key(writer_pool, [fresh()], fresh(), by="ada", reason="", lead=LEAD)
    assert (await keys.key_history(writer_pool)).entries == ()


@pytest.mark.usefixtures("clean")
async def test_a_row_that_was_changed_by_hand_is_found(writer_pool: Pool, admin_pool: Pool) -> None:
    await keys.admit_keys(writer_pool, [fresh()], by="w1")
    await admin_pool.execute("update evidence_key_entries set envelope = convert_to('{}', 'UTF8')")
    with pytest.raises(Misconfigured, match="changed by hand"):
        await keys.key_history(writer_pool)


@pytest.mark.usefixtures("clean")
async def test_entries_cannot_be_changed_or_removed_by_a_worker(writer_pool: Pool) -> None:
    await keys.admit_keys(writer_pool, [fresh()], by="w1")
    for statement in ("update evidence_key_entries set number = 2", "delete from evidence_key_entries"):
        with pytest.raises(Exception, match="permission denied"):
            await writer_pool.execute(statement)
