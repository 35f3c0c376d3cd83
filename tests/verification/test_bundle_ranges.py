"""A range that begins within the life of an intent: what its addenda follow is proven, and each attack on that told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.ledgers import KEY
from tests.verification.bundles import (
    INCOMPLETE,
    TAMPERED,
    VERIFIED,
    Files,
    both,
    exported,
    head_of,
    members,
    packed,
    resigned,
    without,
)
from tests.verification.databases import asked, spoil
from zentra.runtime.evidence import bundle
from zentra.storage.pool import open_pool
from zentra.storage.reads.proofs import inclusion

pytestmark = pytest.mark.service

EARLIER = "earlier/00001.jsonl"
_SPANNED = """
from log_heads h where tenant = 'acme' and (
    select count(distinct early.intent) from log_leaves early
    join log_leaves late on late.intent = early.intent and late.tenant = early.tenant
    where early.tenant = 'acme' and early.index < h.size and late.index >= h.size) >= 1
order by size limit 1
"""


def spanned(url: str) -> datetime:
    """Return a time at which an intent has been sealed, and is sealed again later."""
    at: datetime = asked(url, f"select at + interval '1 microsecond' {_SPANNED}")
    return at


@pytest.fixture(scope="module")
def ranged(ledger: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evidence of a tenant from such a time on."""
    path = tmp_path_factory.mktemp("range") / "after.tar"
    exported(ledger, path, since=spanned(ledger))
    return path


def test_an_addendum_to_what_was_sealed_before_the_range_is_verified(ledger: str, ranged: Path) -> None:
    found, said, _ = both(ranged, [head_of(ledger)])
    assert (said, found.problems, found.completeness) == (VERIFIED, (), True)
    earlier = [json.loads(line) for line in members(ranged)[EARLIER].splitlines()]
    assert earlier
    assert all(one["index"] < found.first for one in earlier)


def test_every_range_of_the_log_is_verified(ledger: str, tmp_path: Path) -> None:
    times = asyncio.run(_times(ledger))
    for number, at in enumerate(times):
        exported(ledger, tmp_path / "range.tar", since=at, until=times[number + 3] if number + 3 < len(times) else None)
        assert both(tmp_path / "range.tar")[1] == VERIFIED, at


async def _times(url: str) -> list[datetime]:
    async with await open_pool(url, name="test", connections_max=1) as pool:
        statement = "select at + interval '1 microsecond' from zentra.log_heads where tenant = 'acme' order by size"
        return [row[0] for row in await pool.fetch(statement)]


def test_such_a_range_is_the_same_bytes_whenever_it_is_made(
    ledger: str, ranged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = asked(ledger, "select max(at) + interval '1 second' from log_heads where tenant = 'acme'")
    first = exported(ledger, tmp_path / "first.tar", since=spanned(ledger), until=until)
    again = exported(ledger, tmp_path / "again.tar", since=spanned(ledger), until=until)
    assert (first, (tmp_path / "first.tar").read_bytes()) == (again, (tmp_path / "again.tar").read_bytes())
    monkeypatch.setattr(bundle, "PART_BYTES_MAX", 1)
    exported(ledger, tmp_path / "cut.tar", since=spanned(ledger), until=until)
    assert both(tmp_path / "cut.tar")[1] == VERIFIED


def test_a_range_whose_addenda_are_left_out_needs_no_earlier_leaves(ledger: str, tmp_path: Path) -> None:
    exported(ledger, tmp_path / "some.tar", since=spanned(ledger), types=["no such kind"])
    assert EARLIER not in members(tmp_path / "some.tar")
    assert both(tmp_path / "some.tar")[1] == VERIFIED


# Attacks on the file, by whoever has the key of the manifest or tampers with what an exporter reads.


def _earlier(files: Files, change: Callable[[list[dict[str, Any]]], Any]) -> Files:
    rows = [json.loads(line) for line in files[EARLIER].splitlines()]
    change(rows)
    lines = [json.dumps(row, separators=(",", ":"), sort_keys=True).encode() + b"\n" for row in rows]
    return files | {EARLIER: b"".join(lines)}


def _leaf(files: Files, **changes: Any) -> Files:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["data"] = json.dumps(json.loads(rows[0]["data"]) | changes, separators=(",", ":"), sort_keys=True)

    return _earlier(files, change)


def _proof(files: Files, change: Callable[[list[str]], Any]) -> Files:
    return _earlier(files, lambda rows: change(rows[0]["proof"]))


def _first(files: Files) -> int:
    return int(json.loads(files["manifest.json"])["first"])


def _later(files: Files) -> dict[str, Any]:
    """A leaf of the range, as if it lay before it."""
    line = json.loads(files["leaves/00001.jsonl"].splitlines()[0])
    return {"data": line["data"], "index": line["index"], "proof": json.loads(files[EARLIER].splitlines()[0])["proof"]}


# fmt: off
ATTACKS: dict[str, tuple[Callable[[Files], Files], str]] = {
    "none":                       (lambda f: f, VERIFIED),
    "the leaf left out":          (lambda f: _earlier(f, lambda rows: rows.pop()), INCOMPLETE),
    "the file left out":          (lambda f: without(f, EARLIER), INCOMPLETE),
    "fewer records sealed":       (lambda f: _leaf(f, records=1), TAMPERED),
    "another chain sealed":       (lambda f: _leaf(f, chain="11" * 32), TAMPERED),
    "said to be another tenant's": (lambda f: _leaf(f, tenant="globex"), TAMPERED),
    "said to be another intent's": (lambda f: _leaf(f, intent="0" * 32), TAMPERED),
    "no leaf":                    (lambda f: _earlier(f, lambda rows: rows[0].update(data="{}")), TAMPERED),
    "no JSON":                    (lambda f: f | {EARLIER: b"{\n"}, TAMPERED),
    "a line that does not end":   (lambda f: f | {EARLIER: f[EARLIER][:-1]}, TAMPERED),
    "a hash of the proof changed": (lambda f: _proof(f, lambda path: path.__setitem__(0, "11" * 32)), TAMPERED),
    "a hash of the proof left out": (lambda f: _proof(f, lambda path: path.pop()), TAMPERED),
    "a hash more in the proof":   (lambda f: _proof(f, lambda path: path.append("11" * 32)), TAMPERED),
    "the proof turned round":     (lambda f: _proof(f, lambda path: path.reverse()), TAMPERED),
    "no proof":                   (lambda f: _proof(f, lambda path: path.clear()), TAMPERED),
    "no hashes in the proof":     (lambda f: _proof(f, lambda path: path.__setitem__(0, "x")), TAMPERED),
    "another place":              (lambda f: _earlier(f, lambda rows: rows[0].update(index=0)), TAMPERED),
    "a place below none":         (lambda f: _earlier(f, lambda rows: rows[0].update(index=-1)), TAMPERED),
    "a place behind the range":   (lambda f: _earlier(f, lambda rows: rows[0].update(index=_first(f))), TAMPERED),
    "a later leaf planted":       (lambda f: _earlier(f, lambda rows: rows.append(_later(f))), TAMPERED),
    "the leaf twice":             (lambda f: _earlier(f, lambda rows: rows.append(rows[0])), TAMPERED),
    "the leaf twice, apart":      (lambda f: f | {"earlier/00002.jsonl": f[EARLIER]}, TAMPERED),
}
# fmt: on


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_on_an_earlier_leaf_is_told_by_both_verifiers(attack: str, ranged: Path, tmp_path: Path) -> None:
    change, said = ATTACKS[attack]
    packed(tmp_path / "attacked.tar", resigned(change(members(ranged)), KEY))
    found, word, _ = both(tmp_path / "attacked.tar")
    assert word == said, found.problems
    if said == INCOMPLETE:
        assert {one.code for one in found.problems} == {"beginning_missing"}


def _proven(url: str, files: Files, tenant: str, intent: str) -> dict[str, Any]:
    """The first leaf of an intent with its proof under the opening checkpoint of the files, as an exporter has it."""

    async def run() -> dict[str, Any]:
        async with await open_pool(url, name="test", connections_max=1) as pool:
            size = _first(files) if tenant == "acme" else None
            found = await inclusion(pool, tenant, intent_id="", uuid=intent, addenda=0, size=size)
        assert found is not None
        return {"data": found.data.decode(), "index": found.index, "proof": [node.hex() for node in found.proof]}

    return asyncio.run(run())


def test_a_leaf_of_somebody_else_is_no_leaf_of_this_intent(ledger: str, ranged: Path, tmp_path: Path) -> None:
    files = members(ranged)
    intent = json.loads(json.loads(files[EARLIER].splitlines()[0])["data"])["intent"]
    own = _proven(ledger, files, "acme", intent)
    assert own == json.loads(files[EARLIER].splitlines()[0])
    stranger = asked(ledger, f"select intent::text from log_leaves where tenant = 'acme' and intent <> '{intent}'"
                             " order by index limit 1").replace("-", "")  # fmt: skip
    foreign = asked(ledger, "select intent::text from log_leaves where tenant = 'globex' order by index limit 1")
    of_another = _proven(ledger, files, "acme", stranger)
    of_globex = _proven(ledger, files, "globex", foreign.replace("-", ""))
    rows: list[tuple[list[dict[str, Any]], set[str]]] = [
        ([of_another], {"beginning_missing", "leaf_unexpected"}),
        ([own, of_another], {"leaf_unexpected"}),
        ([of_globex], {"beginning_missing", "leaf_unexpected", "proof_invalid", "tenant_differs"}),
    ]
    for planted, codes in rows:
        lines = b"".join(json.dumps(row, separators=(",", ":"), sort_keys=True).encode() + b"\n" for row in planted)
        packed(tmp_path / "b.tar", resigned(files | {EARLIER: lines}, KEY))
        found, said, _ = both(tmp_path / "b.tar")
        assert (said, {one.code for one in found.problems}) == (TAMPERED, codes)


def test_an_older_leaf_of_the_intent_does_not_stand_for_the_one_before(ledger: str, tmp_path: Path) -> None:
    """Of an intent with two addenda, the range holds the second: only the first addendum's leaf is what it follows."""
    many = asked(
        ledger,
        "select string_agg(index::text, ',' order by index) || ' ' || intent from log_leaves where tenant = 'acme'"
        " group by intent having count(*) > 2 order by intent limit 1",
    )
    places, intent = many.split()
    second = int(places.split(",")[2])
    since = asked(
        ledger,
        f"select at + interval '1 microsecond' from log_heads where tenant = 'acme' and size <= {second}"
        " order by size desc limit 1",
    )
    exported(ledger, tmp_path / "b.tar", since=since)
    files = members(tmp_path / "b.tar")
    rows = [json.loads(line) for line in files[EARLIER].splitlines()]
    place = next(at for at, row in enumerate(rows) if json.loads(row["data"])["intent"] == intent.replace("-", ""))
    assert rows[place]["index"] == int(places.split(",")[1])
    older = _proven(ledger, files, "acme", intent.replace("-", ""))
    packed(tmp_path / "b.tar", resigned(_earlier(files, lambda found: found.__setitem__(place, older)), KEY))
    found, said, _ = both(tmp_path / "b.tar")
    assert (said, [one.code for one in found.problems]) == (TAMPERED, ["records_missing"])


# Attacks on the store.

_INTENT = f"""
(select late.intent from zentra.log_leaves late join zentra.log_leaves early using (tenant, intent)
 where tenant = 'acme' and early.index < (select size {_SPANNED.replace("log_", "zentra.log_")})
 and late.index >= (select size {_SPANNED.replace("log_", "zentra.log_")}) order by late.index limit 1)
"""
_PACKET = f"(select index from zentra.log_leaves where intent = {_INTENT} order by index limit 1)"
# fmt: off
ROWS: dict[str, tuple[tuple[str, ...], str]] = {
    "the earlier leaf deleted": ((f"delete from log_leaves where tenant = 'acme' and index = {_PACKET}",), TAMPERED),
    "the earlier leaf changed": ((f"update log_leaves set data = replace(convert_from(data, 'utf8'), 'records\":', "
                                  f"'records\":1')::bytea where tenant = 'acme' and index = {_PACKET}",), TAMPERED),
    "a hash of the log changed": ((f"update log_leaves set hash = sha256(hash) where tenant = 'acme'"
                                   f" and index = ({_PACKET}::bigint # 1)",), TAMPERED),
    "a leaf beside it deleted": ((f"delete from log_leaves where tenant = 'acme'"
                                  f" and index = ({_PACKET}::bigint # 1)",), INCOMPLETE),
    "the first record of the addendum deleted": ((
        f"delete from transitions where intent = {_INTENT} and sequence = (select (convert_from(data, 'utf8')::jsonb"
        f" ->> 'records')::int + 1 from zentra.log_leaves where tenant = 'acme' and index = {_PACKET})",), TAMPERED),
}
# fmt: on


@pytest.mark.parametrize("attack", ROWS)
def test_an_attack_on_the_rows_before_the_range_is_told_by_both_verifiers(
    attack: str, copy: str, tmp_path: Path
) -> None:
    statements, said = ROWS[attack]
    since = spanned(copy)
    spoil(copy, *statements)
    exported(copy, tmp_path / "b.tar", since=since)
    assert both(tmp_path / "b.tar")[1] == said
