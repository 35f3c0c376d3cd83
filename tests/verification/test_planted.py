"""Every kind of fault that can be planted into a ledger is found, and named where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.ledgers import KEY, make_ledger
from tests.services import Database
from zentra.runtime.evidence.heads import key_id
from zentra.runtime.verification.differences import CHECKS
from zentra.storage.errors import Misconfigured
from zentra.storage.pool import open_pool
from zentra.storage.verification.chains import ChainCheck, check_chains
from zentra.storage.verification.checking import Check, Opening, Plan, check_ledger
from zentra.storage.verification.pointfile import read_point, write_point

KEYS: Final = {key_id(KEY.public_key()): KEY.public_key()}
SETTLED: Final = "(select intent from transitions where event = 'review.closed' and tenant = 'acme' order by 1 limit 1)"
POSTED: Final = "(select intent from postings where kind = 'post' and tenant = 'acme' order by 1 limit 1)"


def silent(label: str, done: int, total: int) -> None:
    """Take note of nothing."""


@pytest.fixture(scope="module")
def ledger(database: Database) -> str:
    """The URL of a database that holds a sound ledger, to be copied."""

    async def fill() -> None:
        async with await open_pool(database.admin_url, name="test") as pool:
            await make_ledger(pool)

    asyncio.run(fill())
    return database.admin_url


def _renamed(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@pytest.fixture
def copy(ledger: str) -> Iterator[str]:
    """The URL of a copy of the ledger that may be spoilt."""
    template = urlsplit(ledger).path.strip("/")

    async def run(sql: str) -> None:
        connection = await asyncpg.connect(_renamed(ledger, "postgres"))
        await connection.execute(sql)
        await connection.close()

    asyncio.run(run(f"create database spoilt template {template}"))
    yield _renamed(ledger, "spoilt")
    asyncio.run(run("drop database spoilt with (force)"))


def spoil(url: str, *statements: str) -> None:
    """Change a database behind everybody's back."""

    async def run() -> None:
        connection = await asyncpg.connect(url, server_settings={"search_path": "zentra"})
        await connection.execute("set session_replication_role = replica")  # no trigger, no foreign key
        for statement in statements:
            assert int((await connection.execute(statement)).split()[-1]) > 0, statement
        await connection.close()

    asyncio.run(run())


def check(url: str, plan: Plan = Plan()) -> Check:  # noqa: B008  # frozen
    return asyncio.run(check_ledger(url, plan, silent))


def chains(url: str, *intents: str, tenant: str | None = None) -> ChainCheck:
    return asyncio.run(check_chains(url, tenant=tenant, intents=intents, keys=KEYS, progress=silent))


def found(result: Check | ChainCheck) -> list[str]:
    """Return the checks that found something."""
    return sorted(result.differences_by_check)


def test_a_sound_ledger_is_clean_whatever_part_of_it_is_asked_for(ledger: str) -> None:
    whole, halves = check(ledger), [check(ledger, Plan(tenant)) for tenant in ("acme", "globex")]
    for result in (whole, *halves):
        assert (result.differences, result.clean) == ((), True)
    assert whole.counts.postings == sum(half.counts.postings for half in halves) > 30
    assert whole.accounts == sum(half.accounts for half in halves) == 10
    chained = chains(ledger)
    assert (chained.differences, chained.clean) == ((), True)
    assert (chained.records, chained.intents) == (whole.counts.records, whole.counts.intents)
    assert chained.leaves > chained.heads > 4


RECORD: Final = f"select record from transitions where intent = {POSTED} and sequence = 4"
_HASHED: Final = (
    "hash = sha256(convert_to(concat_ws('|', p.tenant, replace(p.intent::text, '-', ''), p.ordinal, p.kind,"
    " (select account_id from accounts where id = {debit}), (select account_id from accounts where id = p.credit),"
    " p.currency, p.pending, {posted}), 'utf8'))"
)

# fmt: off
FAULTS: list[tuple[str, str, list[str], str]] = [
    # what is done, to which row, what finds it, and what is named
    ("a balance a unit too high",    "update balances set debits_posted = debits_posted + 1 where account = 1",
     ["balance", "conservation"],                       "balance acme customer debits_posted"),
    ("two balances a unit too high", "update balances set credits_posted = credits_posted + 1, debits_posted = debits_posted + 1"
     " where account = 2",           ["balance"],       "balance acme merchant debits_posted"),
    ("a pending counter off",        "update balances set debits_pending = debits_pending + 1 where account = 1",
     ["balance", "conservation", "holds"],              "holds acme customer debits_pending"),
    ("a lost counter",               "delete from balances where account = 3",
     ["balance", "conservation"],                       "balance acme settlement-ngn"),
    ("counters of another tenant",   "update balances set tenant = 'globex' where account = 2",
     ["balance"],                                       "tenant of its counters"),
    ("below the floor",              "update accounts set guarded = true where id = 4",
     ["floor"],                                         "floor acme liquidity-ngn available"),
    ("a posting a unit too high",    f"update postings set posted = posted + 1 where intent = {POSTED} and kind = 'post'",
     ["balance", "posting_hash", "posting_record"],     "posting_hash acme {posted}/1 hash"),
    ("the same with its hash",       f"update postings p set posted = posted + 1, {_HASHED.format(debit='p.debit', posted='p.posted + 1')}"
     f" where intent = {POSTED} and kind = 'post'",
     ["balance", "posting_record"],                     "posting_record acme {posted}/1 posted"),
    ("a posting of another account", f"update postings set credit = 5 where intent = {POSTED} and kind = 'settle'",
     ["balance", "posting_hash", "posting_record"],     "posting_record acme {posted}/2 credit"),
    ("a posting of a strange tenant", f"update postings set credit = 12 where intent = {POSTED} and kind = 'settle'",
     ["balance", "pairing", "posting_hash"],            "pairing acme {posted}/2 tenant of the credit account"),
    ("a posting of no account",      f"update postings set credit = 99 where intent = {POSTED} and kind = 'settle'",
     ["balance", "pairing", "posting_record"],          "pairing acme {posted}/2 account"),
    ("a posting in other money",     f"update postings set currency = 'USD' where intent = {POSTED} and kind = 'settle'",
     ["pairing", "posting_hash", "posting_record"],     "pairing acme {posted}/2 currency of the debit account"),
    ("a posting at another time",    f"update postings set at = at - interval '1 day' where intent = {POSTED} and kind = 'settle'",
     ["posting_record"],                                "posting_record acme {posted}/2 at"),
    ("a lost posting",               f"delete from postings where intent = {POSTED} and kind = 'settle'",
     ["balance", "posting_record"],                     "posting_record acme {posted}/2 posting"),
    ("a posting that nobody made",   f"insert into postings select intent, 7, tenant, 'book', debit, credit, currency, 0, 1, at, hash"
     f" from postings where intent = {POSTED} and kind = 'post'",
     ["balance", "posting_hash", "posting_record"],     "posting_record acme {posted}/7 entry"),
    ("a posting of no intent",       "insert into postings select gen_random_uuid(), 0, tenant, 'book', debit, credit, currency, 0, 1, at, hash"
     f" from postings where intent = {POSTED} and kind = 'post'",
     ["balance", "posting_hash", "posting_record"],     "posting_record acme"),
    ("a hold that was ended twice",  f"insert into postings select intent, 7, tenant, 'release', debit, credit, currency, pending, 0, at, hash"
     f" from postings where intent = {POSTED} and kind = 'post'",
     ["balance", "holds", "posting_hash", "posting_record"], "holds acme {posted}/7 pending"),
    ("more given back than posted",  "insert into postings select intent, 17, tenant, kind, debit, credit, currency, 0, posted, at, hash"
     " from postings where kind = 'reversal' and tenant = 'acme' and debit = 2 limit 1",
     ["balance", "posting_hash", "posting_record", "reversal"], "reversal acme"),
    ("a changed record",             f"update transitions set record = overlay(record placing 'X'::bytea from 20) where intent = {POSTED} and sequence = 4",
     ["chain"],                                         "chain acme {posted} record 4 byte 19 is 'X' and was"),
    ("a record with its hash",       f"update transitions t set record = overlay(record placing 'X'::bytea from 20),"
     f" hash = sha256((select hash from transitions where intent = t.intent and sequence = 3) || overlay(record placing 'X'::bytea from 20))"
     f" where intent = {POSTED} and sequence = 4",
     ["chain"],                                         "chain acme {posted} record 5"),
    ("a changed hash",               f"update transitions set hash = overlay(hash placing '\\x0000' from 3) where intent = {POSTED} and sequence = 4",
     ["chain"],                                         "chain acme {posted} record 4 its stored hash was changed, from byte 2 on"),
    ("a lost record",                f"delete from transitions where intent = {POSTED} and sequence = 3",
     ["chain", "record", "sequence", "transition"],     "sequence acme {posted} record 4 number"),
    ("a record too many",            f"insert into transitions select intent, 99, tenant, at + interval '1 day', state, event, record, hash"
     f" from transitions where intent = {POSTED} and sequence = 4",
     ["chain", "record", "sequence", "transition"],     "sequence acme {posted} record 99 number"),
    ("a state that was never reached", f"update transitions set state = 'FAILED' where intent = {POSTED} and sequence = 4",
     ["record", "transition"],                          "record acme {posted} record 4 state"),
    ("an earlier time",              f"update transitions set at = at - interval '1 day' where intent = {POSTED} and sequence = 4",
     ["record", "sequence"],                            "sequence acme {posted} record 4 time"),
    ("a record that is none",        f"update transitions set record = 'nothing' where intent = {POSTED} and sequence = 4",
     ["chain", "record"],                               "record acme {posted} record 4 bytes"),
    ("a lost intent",                f"delete from intents where id = {POSTED}",
     ["intent"],                                        "intent acme {posted} row of the intent"),
    ("an intent without records",    "insert into intents select gen_random_uuid(), tenant, 'new', digest, command, principal, role, 'new', trace, created_at"
     f" from intents where id = {POSTED}",
     ["intent"],                                        "intent acme"),
    ("another digest",               f"update intents set digest = '\\x00' where id = {POSTED}",
     ["intent"],                                        "intent acme {posted} digest"),
]
CHAIN_FAULTS: list[tuple[str, str, list[str], str]] = [
    ("a changed record",             f"update transitions set record = overlay(record placing 'X'::bytea from 20) where intent = {POSTED} and sequence = 4",
     ["chain"],                                         "chain acme {posted} record 4 byte 19 is 'X' and was"),
    ("a byte that was put in",       f"update transitions set record = overlay(record placing 'X'::bytea from 20 for 0) where intent = {POSTED} and sequence = 4",
     ["chain"],                                         "chain acme {posted} record 4 byte 19 ('X') was put in"),
    ("a byte that is missing",       f"update transitions set record = overlay(record placing ''::bytea from 20 for 1) where intent = {POSTED} and sequence = 4",
     ["chain"],                                         "is missing: it was"),
    ("two bytes changed",            f"update transitions set record = overlay(record placing 'XX'::bytea from 20) where intent = {POSTED} and sequence = 4",
     ["chain"],                                         "more than one byte"),
    ("a rewritten chain",            f"update transitions t set hash = sha256('anything') where intent = {SETTLED} and event = 'review.closed'",
     ["chain", "leaf"],                                 "leaf acme"),
    ("a lost leaf",                  "delete from log_leaves where tenant = 'acme' and index = 2",
     ["leaf", "log"],                                   "log acme leaf 3 index"),
    ("a changed leaf",               "update log_leaves set data = overlay(data placing 'X'::bytea from 20) where tenant = 'acme' and index = 2",
     ["leaf", "log"],                                   "log acme leaf 2 hash"),
    ("a leaf of nothing",            "insert into log_leaves select tenant, 900, intent, data, sha256(data) from log_leaves where tenant = 'acme' and index = 2",
     ["leaf", "log"],                                   "log acme leaf 900 index"),
    ("a changed root",               "update log_heads set root = sha256('x') where tenant = 'acme' and size = 2",
     ["log", "signature"],                              "log acme head of 2 root"),
    ("a changed frontier",           "update log_heads set frontier = array[sha256('x')] where tenant = 'acme' and size = 2",
     ["log"],                                           "log acme head of 2 frontier"),
    ("a lost head",                  "delete from log_heads where tenant = 'acme' and size > 3",
     ["log"],                                           "log acme last head size"),
    ("a changed signature",          "update log_heads set signature = overlay(signature placing '\\x00' from 9) where tenant = 'acme' and size = 2",
     ["signature"],                                     "signature acme head of 2 signature"),
    ("another time",                 "update log_heads set at = at + interval '1 second' where tenant = 'acme' and size = 2",
     ["signature"],                                     "signature acme head of 2 signature"),
    ("a strange key",                "update log_heads set key_id = '00000000' where tenant = 'acme' and size = 2",
     ["signature"],                                     "signature acme head of 2 key"),
    ("a subtree that nobody made",   "insert into log_tiles values ('acme', 8, 0, sha256('x'))",
     ["log"],                                           "log acme subtree 0 of level 8 hash"),
]
# fmt: on


def _named(result: Check | ChainCheck) -> list[str]:
    return [f"{one.check} {one.tenant} {one.where} {one.what}" for one in result.differences]


async def _posted(url: str) -> str:
    connection = await asyncpg.connect(url, server_settings={"search_path": "zentra"})
    intent = await connection.fetchval(f"select {POSTED}")
    await connection.close()
    return str(intent.hex)


@pytest.mark.parametrize(
    ("name", "statement", "checks", "named"),
    FAULTS,
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_the_check_finds_each_planted_fault_and_names_it(
    ledger: str, copy: str, name: str, statement: str, checks: list[str], named: str
) -> None:
    posted = asyncio.run(_posted(ledger))
    spoil(copy, statement)
    result = check(copy)
    assert found(result) == checks
    assert any(line.startswith(named.format(posted=posted)) or named in line for line in _named(result)), _named(result)


@pytest.mark.parametrize(("name", "statement", "checks", "named"), CHAIN_FAULTS)
def test_the_chain_finds_each_planted_fault_and_names_it(
    ledger: str, copy: str, name: str, statement: str, checks: list[str], named: str
) -> None:
    posted = asyncio.run(_posted(ledger))
    spoil(copy, statement)
    result = chains(copy)
    assert found(result) == checks
    assert any(named.format(posted=posted) in line for line in _named(result)), _named(result)
