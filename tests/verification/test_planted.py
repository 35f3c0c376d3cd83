"""Every kind of fault that can be planted into a ledger is found, and named where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from tests.ledgers import KEY
from tests.services import Database
from tests.verification.databases import KEYS, asked, silent, spoil
from zentra.bench.twins.fleet import START
from zentra.runtime.errors import Refusal
from zentra.runtime.verification.differences import CHECKS
from zentra.runtime.verification.points import PointFlaw
from zentra.runtime.verification.postings import Counters
from zentra.storage.errors import Misconfigured
from zentra.storage.verification import parts, windows
from zentra.storage.verification.chains import ChainCheck, check_chains
from zentra.storage.verification.checking import Check, Opening, Plan, Totals, check_ledger
from zentra.storage.verification.pointfile import read_point, write_point

SETTLED: Final = "(select intent from transitions where event = 'review.closed' and tenant = 'acme' order by 1 limit 1)"
POSTED: Final = "(select intent from postings where kind = 'post' and tenant = 'acme' order by 1 limit 1)"


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
    assert chained.leaves > chained.heads > 4, "a head over several leaves is among them"


# Which rows: of an intent that was posted, its posting, its settlement, its fourth record; and other rows made of them.
_POST: Final = f"where intent = {POSTED} and kind = 'post'"
_SETTLE: Final = f"where intent = {POSTED} and kind = 'settle'"
_FOURTH: Final = f"where intent = {POSTED} and sequence = 4"
_ONE_MORE: Final = (
    "insert into postings select {intent}, {ordinal}, tenant, '{kind}', debit, credit, currency, {effect}, at, hash"
)
_X: Final = "overlay(record placing '{put}'::bytea from 20 for {instead})"
_LEAF: Final = "where tenant = 'acme' and index = 2"
_HEAD: Final = "where tenant = 'acme' and size = 2"
_HASHED: Final = (
    "hash = sha256(convert_to(concat_ws('|', p.tenant, replace(p.intent::text, '-', ''), p.ordinal, p.kind,"
    " (select account_id from accounts where id = p.debit), (select account_id from accounts where id = p.credit),"
    " p.currency, p.pending, p.posted + 1), 'utf8'))"
)
_LINKED: Final = "hash = sha256((select hash from transitions where intent = t.intent and sequence = 3) || {record})"


def _record(put: str, instead: int = 1) -> str:
    """Return what puts some bytes into a record."""
    return f"update transitions set record = {_X.format(put=put, instead=instead)} {_FOURTH}"


def _posting(ordinal: int, *, intent: str = "intent", kind: str = "book", effect: str = "0, 1", of: str = _POST) -> str:
    """Return what adds a posting that is like another one."""
    made = _ONE_MORE.format(intent=intent, ordinal=ordinal, kind=kind, effect=effect)
    return f"{made} from postings {of}"


Fault = tuple[str, str, list[str], str]
# fmt: off
FAULTS: list[Fault] = [
    # what is done, what does it, what finds it, and what is named
    ("a balance a unit too high", "update balances set debits_posted = debits_posted + 1 where account = 1",
        ["balance", "conservation"], "balance acme customer debits_posted"),
    ("both sides a unit too high",
        "update balances set credits_posted = credits_posted + 1, debits_posted = debits_posted + 1 where account = 2",
        ["balance"], "balance acme merchant debits_posted"),
    ("a pending counter off", "update balances set debits_pending = debits_pending + 1 where account = 1",
        ["balance", "conservation", "holds"], "holds acme customer debits_pending"),
    ("a lost counter", "delete from balances where account = 3",
        ["balance", "conservation"], "balance acme settlement-ngn"),
    ("counters of another tenant", "update balances set tenant = 'globex' where account = 2",
        ["balance"], "tenant of its counters"),
    ("counters of no account", "insert into balances (account, stripe, tenant) values (99, 0, 'acme')",
        ["balance"], "balance - account number 99 account"),
    ("below the floor", "update accounts set guarded = true where id = 4",
        ["floor"], "floor acme liquidity-ngn available"),
    ("below what force left owing", "update balances set debits_posted = debits_posted + 5 where account = 5",
        ["balance", "conservation", "floor"], "floor acme poor available"),
    ("a posting a unit too high", f"update postings set posted = posted + 1 {_POST}",
        ["balance", "posting_hash", "posting_record"], "posting_hash acme {posted}/1 hash"),
    ("the same with its hash", f"update postings p set posted = posted + 1, {_HASHED} {_POST}",
        ["balance", "posting_record"], "posting_record acme {posted}/1 posted"),
    ("a posting of another account", f"update postings set credit = 1 {_SETTLE}",
        ["balance", "posting_hash", "posting_record"], "posting_record acme {posted}/2 credit"),
    ("a posting of a strange tenant", f"update postings set credit = 12 {_SETTLE}",
        ["balance", "pairing"], "pairing acme {posted}/2 tenant of the credit account"),
    ("a posting of no account", f"update postings set credit = 99 {_SETTLE}",
        ["balance", "pairing", "posting_record"], "pairing acme {posted}/2 account"),
    ("a posting in other money", f"update postings set currency = 'USD' {_SETTLE}",
        ["pairing", "posting_hash", "posting_record"], "pairing acme {posted}/2 currency of the debit account"),
    ("a posting at another time", f"update postings set at = at - interval '1 day' {_SETTLE}",
        ["posting_record"], "posting_record acme {posted}/2 at"),
    ("a lost posting", f"delete from postings {_SETTLE}",
        ["balance", "posting_record"], "posting_record acme {posted}/2 posting"),
    ("a posting that nobody made", _posting(7),
        ["balance", "posting_hash", "posting_record"], "posting_record acme {posted}/7 entry"),
    ("a posting of no intent", _posting(0, intent="gen_random_uuid()"),
        ["balance", "posting_hash", "posting_record"], "posting_record acme"),
    ("a hold that ends twice", _posting(7, kind="release", effect="pending, 0"),
        ["balance", "holds", "posting_hash", "posting_record"], "holds acme {posted}/7 pending"),
    ("more given back than posted",
        _posting(17, kind="reversal", effect="0, posted", of="where kind = 'reversal' and debit = 2 limit 1"),
        ["balance", "posting_hash", "posting_record", "reversal"], "reversal acme"),
    ("a hold that is not shown", "delete from holds where status = 'open' and tenant = 'acme'",
        ["holds"], "row of the hold"),
    ("a hold that shows too much", "update holds set remaining = remaining - 1 where status = 'open'",
        ["holds"], "remaining"),
    ("a hold that shows that it stands", "update holds set status = 'open', ended_at = null where status = 'voided'",
        ["holds"], "stands"),
    ("more of a fee given back than charged",
        _posting(17, kind="fee_refund", effect="0, posted", of="where kind = 'reversal' and debit = 2 limit 1"),
        ["balance", "posting_hash", "posting_record", "reversal"], "reversal acme"),
    ("a changed record", _record("X"),
        ["chain"], "chain acme {posted} record 4 byte 19 is 'X' and was"),
    ("a record with its hash",
        f"update transitions t set record = {_X.format(put='X', instead=1)},"
        f" {_LINKED.format(record=_X.format(put='X', instead=1))} {_FOURTH}",
        ["chain"], "chain acme {posted} record 5"),
    ("a changed hash", f"update transitions set hash = overlay(hash placing '\\x0000' from 3) {_FOURTH}",
        ["chain"], "chain acme {posted} record 4 its stored hash was changed, from byte 2 on"),
    ("a lost record", f"delete from transitions where intent = {POSTED} and sequence = 3",
        ["chain", "posting_record", "sequence", "transition"], "sequence acme {posted} record 4 number"),
    ("a record too many",
        "insert into transitions select intent, 99, tenant, at + interval '1 day', state, event, record, hash"
        f" from transitions {_FOURTH}",
        ["chain", "record", "sequence", "transition"], "sequence acme {posted} record 99 number"),
    ("a state never reached", f"update transitions set state = 'FAILED' {_FOURTH}",
        ["record", "transition"], "record acme {posted} record 4 state"),
    ("an earlier time", f"update transitions set at = at - interval '1 day' {_FOURTH}",
        ["record", "sequence"], "sequence acme {posted} record 4 time"),
    ("a record that is none", f"update transitions set record = 'nothing' {_FOURTH}",
        ["chain", "record"], "record acme {posted} record 4 bytes"),
    ("a lost intent", f"delete from intents where id = {POSTED}",
        ["intent"], "intent acme {posted} row of the intent"),
    ("an intent without records",
        "insert into intents select gen_random_uuid(), tenant, 'new', digest, command, principal, role, 'new', trace,"
        f" created_at from intents where id = {POSTED}",
        ["intent"], "intent acme"),
    ("another digest", f"update intents set digest = '\\x00' where id = {POSTED}",
        ["intent"], "intent acme {posted} digest"),
]
CHAIN_FAULTS: list[Fault] = [
    ("a changed byte", _record("X"), ["chain"], "chain acme {posted} record 4 byte 19 is 'X' and was"),
    ("a byte that was put in", _record("X", 0), ["chain"], "chain acme {posted} record 4 byte 19 ('X') was put in"),
    ("a byte that is missing", _record(""), ["chain"], "chain acme {posted} record 4 byte 19 is missing: it was"),
    ("two bytes changed", _record("xy", 2).replace("from 20", "from 12"),
        ["chain"], "chain acme {posted} record 4 more than one byte"),
    ("a rewritten chain",
        f"update transitions set hash = sha256('any') where intent = {SETTLED} and event = 'review.closed'",
        ["chain", "leaf"], "leaf acme"),
    ("a lost leaf", f"delete from log_leaves {_LEAF}", ["leaf", "log"], "log acme leaf 3 index"),
    ("a changed leaf", f"update log_leaves set data = overlay(data placing 'X'::bytea from 20) {_LEAF}",
        ["leaf", "log"], "log acme leaf 2 hash"),
    ("a leaf of nothing",
        f"insert into log_leaves select tenant, 900, intent, data, sha256(data) from log_leaves {_LEAF}",
        ["leaf", "log"], "log acme leaf 900 index"),
    ("a changed root", f"update log_heads set root = sha256('x') {_HEAD}",
        ["log", "signature"], "log acme head of 2 root"),
    ("a changed frontier", f"update log_heads set frontier = array[sha256('x')] {_HEAD}",
        ["log"], "log acme head of 2 frontier"),
    ("a lost head", "delete from log_heads where tenant = 'acme' and size > 3",
        ["log"], "log acme last head size"),
    ("a changed signature", f"update log_heads set signature = overlay(signature placing '\\x00' from 9) {_HEAD}",
        ["signature"], "signature acme head of 2 signature"),
    ("another time", f"update log_heads set at = at + interval '1 second' {_HEAD}",
        ["signature"], "signature acme head of 2 signature"),
    ("a strange key", f"update log_heads set key_id = '00000000' {_HEAD}",
        ["signature"], "signature acme head of 2 key"),
    ("a subtree that nobody made", "insert into log_tiles values ('acme', 8, 0, sha256('x'))",
        ["log"], "log acme subtree 0 of level 8 hash"),
]
# fmt: on


def _named(result: Check | ChainCheck) -> list[str]:
    return [f"{one.check} {one.tenant} {one.where} {one.what}" for one in result.differences]


def _posted(url: str) -> str:
    return str(asked(url, f"select {POSTED}").hex)


@pytest.mark.parametrize(
    ("name", "statement", "checks", "named"),
    FAULTS,
)
def test_the_check_finds_each_planted_fault_and_names_it(
    ledger: str, copy: str, name: str, statement: str, checks: list[str], named: str
) -> None:
    posted = _posted(ledger)
    spoil(copy, statement)
    result = check(copy)
    assert found(result) == checks
    assert any(line.startswith(named.format(posted=posted)) or named in line for line in _named(result)), _named(result)


@pytest.mark.parametrize(("name", "statement", "checks", "named"), CHAIN_FAULTS)
def test_the_chain_finds_each_planted_fault_and_names_it(
    ledger: str, copy: str, name: str, statement: str, checks: list[str], named: str
) -> None:
    posted = _posted(ledger)
    spoil(copy, statement)
    result = chains(copy)
    assert found(result) == checks
    assert any(named.format(posted=posted) in line for line in _named(result)), _named(result)


def test_a_row_that_an_index_misses_is_seen(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_POSTINGS", windows._POSTINGS.replace("where", "where ordinal < 2 and"))
    result = check(ledger)
    assert [one.where for one in result.differences if one.check == "rows"] == ["postings"]
    monkeypatch.undo()
    monkeypatch.setattr(windows, "_RECORDS", windows._RECORDS.replace("where", "where false and"))
    assert "rows" in check(ledger).differences_by_check


def test_every_check_has_found_a_fault() -> None:
    seen = {check for _, _, checks, _ in (*FAULTS, *CHAIN_FAULTS) for check in checks}
    assert set(CHECKS) - seen == {"rows", "opening", "archive_file", "archive_sum"}, "these have tests of their own"


def test_all_processes_together_find_what_one_does(copy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "INTENTS", 3)
    spoil(copy, f"update postings set posted = posted + 1 {_POST}")
    alone, together = check(copy), check(copy, Plan(jobs=3))
    assert together.differences_by_check == alone.differences_by_check
    assert set(together.differences) == set(alone.differences)
    assert together.counts == alone.counts


def test_windows_and_sums_that_do_not_fit_are_cut(ledger: str, copy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "ROWS_MAX", 4)
    monkeypatch.setattr(windows, "ACCOUNTS_MAX", 3)
    monkeypatch.setattr(parts, "FOLD_ACCOUNTS_MAX", 1)
    whole = check(ledger)
    assert (whole.clean, whole.counts.postings > 30) == (True, True)
    spoil(copy, f"update postings set posted = posted + 1 {_POST}")
    assert found(check(copy)) == ["balance", "posting_hash", "posting_record"]


async def test_a_role_under_row_security_cannot_check(ledger: str, database: Database) -> None:
    with pytest.raises(Misconfigured, match="row_security"):
        await check_ledger(database.tenant_url, Plan(), silent)


# From a point on.


def _point(url: str, path: Path, at: datetime, opening: Opening | None = None) -> Check:
    """Check, and keep what was verified as of `at`."""

    def keep(taken_at: datetime, totals: Totals, accounts: Iterator[tuple[int, Counters]]) -> None:
        write_point(
            path, KEY, accounts, at=at, taken_at=taken_at, totals=totals, tenant=None, installation="this one"
        )  # fmt: skip

    return check(url, Plan(opening=opening, until=at, keep=keep))


def _read(path: Path) -> Opening:
    return read_point(path, KEYS, tenant=None, installation="this one")


MIDDLE: Final = START + timedelta(seconds=300)
LATE: Final = START + timedelta(seconds=600)


def test_a_check_goes_on_from_the_point_that_an_earlier_one_kept(ledger: str, tmp_path: Path) -> None:
    whole = _point(ledger, tmp_path / "one", MIDDLE)
    assert whole.clean
    later = _point(ledger, tmp_path / "two", LATE, _read(tmp_path / "one"))
    assert later.clean
    assert 0 < later.counts.postings < whole.counts.postings
    _point(ledger, tmp_path / "whole", LATE)
    body = [(tmp_path / name).read_bytes().splitlines()[1:-1] for name in ("two", "whole")]
    assert body[0] == body[1], "what is kept is the same whichever way one came there"


# fmt: off
SINCE: list[Fault] = [
    ("a balance", "update balances set debits_posted = debits_posted + 1 where account = 1",
        ["balance", "conservation"], ""),
    ("a posting from before, to nobody's account", f"update postings set posted = posted + 1 {_POST}",
        ["opening"], ""),
    ("a posting from before that is lost", f"delete from postings {_POST}", ["opening"], ""),
    ("a late posting", "update postings set posted = posted + 1 where kind = 'reversal' and tenant = 'acme'",
        ["balance", "posting_hash", "posting_record", "reversal"], ""),
]
# fmt: on


@pytest.mark.parametrize(("name", "statement", "checks", "named"), SINCE)
def test_what_is_found_from_a_point_on(
    ledger: str, copy: str, tmp_path: Path, name: str, statement: str, checks: list[str], named: str
) -> None:
    _point(ledger, tmp_path / "point", MIDDLE)
    spoil(copy, statement)
    assert found(check(copy, Plan(opening=_read(tmp_path / "point")))) == checks


def test_a_check_from_a_time_on_takes_the_rows_before_it_as_they_stand(ledger: str, copy: str) -> None:
    since = Plan(opening=Opening(MIDDLE))
    result = check(ledger, since)
    assert (result.clean, result.since) == (True, MIDDLE)
    spoil(copy, f"update postings set posted = posted + 1 {_POST}")
    assert found(check(copy, since)) == ["balance"], "their sums, but not their hashes"


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        (lambda data: data.replace(b"\n1 0", b"\n1 1"), "its signature is not over"),
        (lambda data: data.replace(b'"postings":"', b'"postings":"1'), "its signature is not over"),
        (lambda data: data[:-140], "ends without a signature"),
        (lambda data: data + b"1 0 0 0 0\n", "stands behind the signature"),
        (lambda data: b"nothing", "not a point"),
        (lambda data: data.replace(b"ledger-point/1", b"ledger-point/2"), "not a point of a format"),
        (lambda data: data.replace(b"this one", b"that one"), "its signature is not over"),
        (lambda data: data.replace(b"\n2 ", b"\n0 "), "stands behind account"),
        (lambda data: data.replace(b"\n2 ", b"\ntwo "), "not a line of an account"),
    ],
)
def test_a_point_that_was_changed_is_refused(
    ledger: str, tmp_path: Path, spoilt: Callable[[bytes], bytes], reason: str
) -> None:
    path = tmp_path / "point"
    _point(ledger, path, MIDDLE)
    changed = spoilt(path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    with pytest.raises(PointFlaw, match=reason):
        _read(path)


def test_a_point_of_somebody_else_is_refused(ledger: str, tmp_path: Path) -> None:
    path = tmp_path / "point"
    _point(ledger, path, MIDDLE)
    for keys, tenant, installation, reason in (
        ({}, None, "this one", "signed by key"),
        (KEYS, "acme", "this one", "it is of all tenants"),
        (KEYS, None, "that one", "installation"),
    ):
        with pytest.raises(PointFlaw, match=reason):
            read_point(path, keys, tenant=tenant, installation=installation)


def test_nothing_is_kept_where_something_differs(copy: str, tmp_path: Path) -> None:
    spoil(copy, "update balances set debits_posted = debits_posted + 1 where account = 1")
    assert not _point(copy, tmp_path / "point", MIDDLE).clean
    assert not (tmp_path / "point").exists()


def test_chains_of_named_intents_are_verified_alone(ledger: str, copy: str) -> None:
    result = chains(ledger, "intent-1", "intent-9", tenant=None)
    assert (result.intents, result.heads, result.clean) == (2, 0, True)
    with pytest.raises(Refusal, match="intent_not_found"):
        chains(ledger, "intent-1", tenant="globex")
    posted = _posted(ledger)
    spoil(copy, _record("X"))
    assert chains(copy, "intent-1").clean
    assert found(chains(copy, posted)) == ["chain"]
