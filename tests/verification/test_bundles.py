"""Bundles: the same range is the same bytes, both verifiers say that nothing was changed, and each attack is found."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from tests.ledgers import KEY
from tests.verification.bundles import (
    INCOMPLETE,
    OTHER_KEY,
    TAMPERED,
    VERIFIED,
    Files,
    both,
    changed_lines,
    exported,
    head_of,
    members,
    packed,
    pem,
    resigned,
    without,
)
from tests.verification.databases import asked, changed, silent, spoil
from zentra.gateway.cli.evidence import evidence_app
from zentra.runtime.evidence.bundle import CHECKPOINTS, MANIFEST, MANIFEST_SIGNATURE
from zentra.runtime.evidence.chain import GENESIS, chain
from zentra.runtime.evidence.heads import key_id, sign_head, signed_note
from zentra.runtime.evidence.keyring import RingKey
from zentra.runtime.evidence.merkle import Frontier, leaf_hash
from zentra.runtime.evidence.packet import leaf_data
from zentra.runtime.intents.transaction import timestamp
from zentra.storage.errors import Misconfigured
from zentra.storage.verification.bundle_files import verify_bundle

pytestmark = pytest.mark.service

LEAF = "(select intent from zentra.log_leaves where tenant = 'acme' and index = 4)"
HALF = 10


@pytest.fixture(scope="module")
def bundle(ledger: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evidence of a tenant, whole."""
    path = tmp_path_factory.mktemp("bundle") / "acme.tar"
    exported(ledger, path)
    return path


# What an honest bundle is.


def test_both_verifiers_find_nothing_in_a_sound_bundle(ledger: str, bundle: Path) -> None:
    records = asked(ledger, "select count(*) from transitions where tenant = 'acme'")
    open_ones = asked(
        ledger,
        "select count(*) from transitions t where tenant = 'acme' and sequence > (select coalesce(max("
        "(convert_from(data, 'utf8')::jsonb ->> 'records')::int), 0) from log_leaves l where l.intent = t.intent)",
    )
    head = head_of(ledger)
    found, said, _ = both(bundle, [head])
    assert (said, found.entries, found.leaves) == (VERIFIED, records - open_ones, head.size)
    assert (found.anchored, found.unanchored) == ((0, head.size), None)
    assert (both(bundle)[0].anchored, both(bundle)[0].unanchored) == (None, (0, head.size))
    assert both(bundle, [head_of(ledger, _size_of(ledger, HALF))])[0].unanchored == (_size_of(ledger, HALF), head.size)


def test_the_verifier_in_the_bundle_needs_nothing_but_python(ledger: str, bundle: Path, tmp_path: Path) -> None:
    files = members(bundle)
    (tmp_path / "verify.py").write_bytes(files["verify.py"])
    (tmp_path / "pub.pem").write_bytes(pem(KEY.public_key()))
    (tmp_path / "kept").write_text(signed_note(KEY.public_key(), head_of(ledger)), encoding="utf-8")
    words = [sys.executable, "-I", "-S", "verify.py", str(bundle), "pub.pem", "--anchor", "kept"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.startswith("evidence: verified")) == (0, True), done.stdout + done.stderr
    assert len(files["verify.py"].splitlines()) < 200
    none = subprocess.run(words[:5], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert none.returncode == 3


def test_the_same_range_is_the_same_bytes_whatever_came_later(copy: str, tmp_path: Path) -> None:
    ends = [row.replace(tzinfo=UTC) for row in (_time_of(copy, HALF), _time_of(copy, 3))]
    first = exported(copy, tmp_path / "first.tar", since=ends[1], until=ends[0])
    spoil(
        copy,
        "delete from log_heads h where tenant = 'acme' and not exists (select from log_heads where size > h.size)",
        "insert into denials (tenant, actor, role, action, reason, minute, first_at, last_at, request_id)"
        " values ('acme', 'eve', 'support', 'GET /x', 'permission_denied', now(), now(), now(), 'r')",
    )
    again = exported(copy, tmp_path / "again.tar", since=ends[1], until=ends[0])
    assert first == again
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "again.tar").read_bytes()
    assert first.sha256 == sha256((tmp_path / "first.tar").read_bytes()).hexdigest()
    assert both(tmp_path / "again.tar")[1] == VERIFIED
    assert [row[:2] for row in _exports(copy)][-2:] == [("ada", "shell")] * 2


def test_the_same_range_is_the_same_bytes_under_the_next_key_too(copy: str, tmp_path: Path) -> None:
    until = _time_of(copy, HALF).replace(tzinfo=UTC)
    old, new = (key_id(key.public_key()) for key in (KEY, OTHER_KEY))
    since, changed_at = timestamp(until - timedelta(days=400)), timestamp(until + timedelta(days=1))
    first = exported(copy, tmp_path / "first.tar", until=until, ring={old: RingKey(KEY.public_key(), since)})
    rotated = {old: RingKey(KEY.public_key(), since, changed_at), new: RingKey(OTHER_KEY.public_key(), changed_at)}
    assert exported(copy, tmp_path / "again.tar", until=until, key=OTHER_KEY, ring=rotated) == first
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "again.tar").read_bytes()
    assert verify_bundle(tmp_path / "again.tar", rotated, [], silent).ok


def test_intents_that_are_not_sealed_are_counted_as_of_the_end(copy: str, tmp_path: Path) -> None:
    until = _time_of(copy, HALF).replace(tzinfo=UTC)
    spoil(copy, "update intents set created_at = '2020-01-01' where tenant = 'acme'")
    exported(copy, tmp_path / "half.tar", until=until)
    sealed = asked(
        copy, f"select count(distinct intent) from log_leaves where tenant = 'acme' and index < {_size_of(copy, HALF)}"
    )
    found, said, _ = both(tmp_path / "half.tar")
    expected = asked(copy, "select count(*) from intents where tenant = 'acme'") - sealed
    assert (said, found.not_sealed) == (VERIFIED, expected)
    assert expected > 0


def test_what_cannot_be_exported_writes_nothing(ledger: str, tmp_path: Path) -> None:
    early, late = _time_of(ledger, 3).replace(tzinfo=UTC), _time_of(ledger, HALF).replace(tzinfo=UTC)
    with pytest.raises(Misconfigured, match="before that"):
        exported(ledger, tmp_path / "x.tar", since=late, until=early)
    with pytest.raises(Misconfigured, match="no tenant"):
        exported(ledger, tmp_path / "x.tar", tenant="nosuch")
    assert list(tmp_path.iterdir()) == []


def test_ranges_join_without_gap_or_overlap(copy: str, tmp_path: Path) -> None:
    middle = _time_of(copy, HALF).replace(tzinfo=UTC)
    whole = exported(copy, tmp_path / "whole.tar")
    before = exported(copy, tmp_path / "before.tar", until=middle)
    after = exported(copy, tmp_path / "after.tar", since=middle)
    assert (before.first, before.size, after.size) == (0, after.first, whole.size)
    assert before.counts.entries + after.counts.entries == whole.counts.entries
    for name in ("before.tar", "after.tar"):
        assert both(tmp_path / name)[1] == VERIFIED
    found, said, _ = both(tmp_path / "after.tar", [head_of(copy), head_of(copy, after.first)])
    assert (said, found.anchored) == (VERIFIED, (after.first, after.size))


def test_an_anchor_from_before_the_range_is_said_to_be_compared_with_nothing(
    copy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = exported(copy, tmp_path / "after.tar", since=_time_of(copy, HALF).replace(tzinfo=UTC))
    early = _size_of(copy, 1)
    found, said, words = both(tmp_path / "after.tar", [head_of(copy, early), head_of(copy)])
    assert (said, found.not_covered, early < made.first) == (VERIFIED, (early,), True)
    assert f"anchor of {early} leaves, which are before the range: not_covered" in capsys.readouterr().out
    told = CliRunner().invoke(evidence_app, ["verify", words[0], "--key", words[1], *words[2:]])
    assert (told.exit_code, f"not covered   anchors of {early} leaves" in told.output) == (0, True), told.output


def test_a_filter_leaves_out_entries_and_no_leaf(copy: str, tmp_path: Path) -> None:
    whole, some = exported(copy, tmp_path / "all.tar"), exported(copy, tmp_path / "some.tar", types=["hold"])
    found, said, _ = both(tmp_path / "some.tar", [head_of(copy)])
    assert (said, some.counts.leaves, found.left_out > 0) == (VERIFIED, whole.counts.leaves, True)
    assert 0 < some.counts.entries < whole.counts.entries


def test_refusals_and_exports_are_in_later_bundles(copy: str, tmp_path: Path) -> None:
    spoil(
        copy,
        "insert into denials (tenant, actor, role, action, reason, minute, first_at, last_at, request_id)"
        " values ('acme', '=eve', 'support', 'GET /x', 'permission_denied', '2026-01-05T12:01Z',"
        " '2026-01-05T12:01:02Z', '2026-01-05T12:01:09Z', 'r-1')",
        "insert into denials (tenant, actor, role, action, reason, minute, first_at, last_at, request_id)"
        " values ('globex', 'x', 'support', 'GET /x', 'permission_denied', '2026-01-05T12:01Z', now(), now(), 'r-2')",
        "insert into evidence_exports (tenant, actor, role, at, first_leaf, log_size, entries, manifest)"
        " values ('acme', 'bob', 'shell', '2026-01-05T12:02Z', 0, 1, 4, '\\x00')",
    )
    made = exported(
        copy, tmp_path / "b.tar", since=datetime(2026, 1, 1, tzinfo=UTC), until=datetime(2026, 2, 1, tzinfo=UTC)
    )
    files = members(tmp_path / "b.tar")
    lines = [
        json.loads(line) for name in sorted(files) if name.startswith("denials/") for line in files[name].splitlines()
    ]
    assert [(one["actor"], one["count"], one["request_id"]) for one in lines if one["request_id"] != "r-0"] == [
        ("=eve", 1, "r-1")
    ]
    exports = [json.loads(line) for line in files["exports/00001.jsonl"].splitlines()]
    assert [one["actor"] for one in exports] == ["bob"]
    assert (made.counts.denials, made.counts.exports) == (1, 1)
    changed(copy, "delete from denials", "delete from evidence_exports")


def test_ranges_that_meet_within_a_minute_share_no_refusal_and_lose_none(copy: str, tmp_path: Path) -> None:
    middle = datetime(2026, 1, 5, 12, 1, 30, tzinfo=UTC)
    moments = [middle + timedelta(seconds=seconds) for seconds in (-60, -20, 0, 20, 60)]
    spoil(
        copy,
        *(
            "insert into denials (tenant, actor, role, action, reason, minute, first_at, last_at, request_id)"
            f" values ('acme', 'eve', 'support', 'GET /{number}', 'permission_denied',"
            f" '{at.replace(second=0)}', '{at}', '{at}', 'r-{number}')"
            for number, at in enumerate(moments)
        ),
        *(
            "insert into evidence_exports (tenant, actor, role, at, first_leaf, log_size, entries, manifest)"
            f" values ('acme', 'bob', 'shell', '{at}', 0, 1, 4, '\\x00')"
            for at in moments
        ),
    )
    start, end = middle - timedelta(days=1), middle + timedelta(days=1)
    found: list[list[bytes]] = []
    for name, since, until in (("a", start, middle), ("b", middle, end)):
        exported(copy, tmp_path / f"{name}.tar", since=since, until=until)
        files = members(tmp_path / f"{name}.tar")
        rows = [files[one].splitlines() for one in files if one.startswith(("denials/", "exports/"))]
        found.append([line for lines in rows for line in lines])
    assert [len(rows) for rows in found] == [2, 8]
    assert len({*found[0], *found[1]}) == 10
    changed(copy, "delete from denials", "delete from evidence_exports")


def test_an_unknown_key_stops_an_export(copy: str, tmp_path: Path) -> None:
    spoil(copy, "update log_heads set key_id = 'ffffffff' where tenant = 'acme'")
    with pytest.raises(Misconfigured, match="ffffffff"):
        exported(copy, tmp_path / "b.tar")
    assert list(tmp_path.iterdir()) == []


# Attacks on the store: somebody rewrites rows without the key, and has the installation export what is left.


def _forged(url: str, key: Ed25519PrivateKey | None) -> None:
    """Change an amount and compute everything anew; sign it with this key, or leave the signatures as they were."""

    async def run() -> None:
        connection = await asyncpg.connect(url, server_settings={"search_path": "zentra"})
        await connection.execute("set session_replication_role = replica")
        intent = await connection.fetchval(f"select {LEAF.replace('zentra.', '')}")
        link, hashes = GENESIS, {}
        for row in await connection.fetch("select * from transitions where intent = $1 order by sequence", intent):
            record = row["record"].replace(b'"currency":"NGN"', b'"currency":"USD"')
            link = hashes[row["sequence"]] = chain(link, record)
            await connection.execute(
                "update transitions set record = $3, hash = $4 where intent = $1 and sequence = $2",
                intent, row["sequence"], record, link,
            )  # fmt: skip
        frontier = Frontier()
        heads = {row["size"]: row for row in await connection.fetch("select * from log_heads where tenant = 'acme'")}
        for row in await connection.fetch("select * from log_leaves where tenant = 'acme' order by index"):
            data = row["data"]
            if row["intent"] == intent:
                said = msgspec.json.decode(data)
                data = leaf_data(
                    tenant="acme", intent=said["intent"], kind=said["kind"], chain=hashes[said["records"]],
                    records=said["records"],
                )  # fmt: skip
            frontier, _ = frontier.append([leaf_hash(data)])
            await connection.execute(
                "update log_leaves set data = $2, hash = $3 where tenant = 'acme' and index = $1",
                row["index"], data, leaf_hash(data),
            )  # fmt: skip
            if frontier.size in heads:
                old = heads[frontier.size]
                signature, kid = old["signature"], old["key_id"]
                if key is not None:
                    at = timestamp(old["at"])
                    signed = sign_head(key, tenant="acme", size=frontier.size, root=frontier.root(), at=at)
                    signature, kid = bytes.fromhex(signed.signature), signed.key_id
                await connection.execute(
                    "update log_heads set root = $2, frontier = $3, signature = $4, key_id = $5"
                    " where tenant = 'acme' and size = $1",
                    frontier.size, frontier.root(), list(frontier.hashes), signature, kid,
                )  # fmt: skip
        await connection.close()

    asyncio.run(run())


def _rows(*statements: str) -> Callable[[str], None]:
    return lambda url: spoil(url, *statements)


_TAIL = "(select size from log_heads where tenant = 'acme' and size > 10 order by size limit 1)"
# fmt: off
ATTACKS: dict[str, tuple[Callable[[str], None], str, str]] = {
    # what is done to the rows, the verdict without an anchor, and with the last checkpoint from before
    "edit": (_rows(
        f"update transitions set record = replace(convert_from(record, 'utf8'), 'NGN', 'USD')::bytea"
        f" where intent = {LEAF} and sequence = 1"), TAMPERED, TAMPERED),
    "edit a record and its hash": (_rows(
        f"update transitions set record = 'x'::bytea, hash = sha256('x'::bytea)"
        f" where intent = {LEAF} and sequence = 2"), TAMPERED, TAMPERED),
    "delete from the middle of an intent": (_rows(
        f"delete from transitions where intent = {LEAF} and sequence = 2"), TAMPERED, TAMPERED),
    "delete the end of an intent": (_rows(
        f"delete from transitions t where intent = {LEAF} and sequence ="
        f" (select max(sequence) from transitions where intent = t.intent)"), TAMPERED, TAMPERED),
    "delete all of an intent": (_rows(
        f"delete from transitions where intent = {LEAF}"), TAMPERED, TAMPERED),
    "delete a leaf from the middle": (_rows(
        "delete from log_leaves where tenant = 'acme' and index = 4"), TAMPERED, TAMPERED),
    "delete the last leaves": (_rows(
        f"delete from log_leaves where tenant = 'acme' and index >= {_TAIL}"), TAMPERED, TAMPERED),
    "delete the tail, heads and all": (_rows(
        f"delete from log_leaves where tenant = 'acme' and index >= {_TAIL}",
        f"delete from log_heads where tenant = 'acme' and size > {_TAIL}"), VERIFIED, INCOMPLETE),
    "reorder leaves": (_rows(
        "update log_leaves set index = 6 - index - 1000 where tenant = 'acme' and index in (2, 4)",
        "update log_leaves set index = index + 1000 where tenant = 'acme' and index < 0"), TAMPERED, TAMPERED),
    "reorder records": (_rows(
        f"update transitions set sequence = 5 - sequence - 1000 where intent = {LEAF} and sequence in (2, 3)",
        f"update transitions set sequence = sequence + 1000 where intent = {LEAF} and sequence < 0"),
        TAMPERED, TAMPERED),
    "insert a record": (_rows(
        f"update transitions set sequence = sequence + 1000 where intent = {LEAF} and sequence > 1",
        f"insert into transitions (intent, sequence, tenant, at, state, event, record, hash)"
        f" select intent, 2, tenant, at, state, event, record, hash from transitions"
        f" where intent = {LEAF} and sequence = 1",
        f"update transitions set sequence = sequence - 999 where intent = {LEAF} and sequence > 1000"),
        TAMPERED, TAMPERED),
    "insert a leaf": (_rows(
        "update log_leaves set index = index + 1000 where tenant = 'acme' and index > 4",
        "insert into log_leaves select tenant, 5, intent, data, sha256(hash) from log_leaves"
        " where tenant = 'acme' and index = 4",
        "update log_leaves set index = index - 999 where tenant = 'acme' and index > 1000"), TAMPERED, TAMPERED),
    "truncate the whole tenant": (_rows(
        "delete from log_leaves where tenant = 'acme'", "delete from log_heads where tenant = 'acme'",
        "delete from transitions where tenant = 'acme'"), INCOMPLETE, INCOMPLETE),
    "recompute everything, with the old signatures": (lambda url: _forged(url, None), TAMPERED, TAMPERED),
    "recompute everything, with a key of one's own": (lambda url: _forged(url, OTHER_KEY), TAMPERED, TAMPERED),
    "recompute everything, with the key": (lambda url: _forged(url, KEY), VERIFIED, TAMPERED),
    "roll the clock of a record back": (_rows(
        f"update transitions set record = replace(convert_from(record, 'utf8'), ':\"2026-', ':\"2025-')::bytea"
        f" where intent = {LEAF} and sequence = 3"), TAMPERED, TAMPERED),
    "roll the clock of the heads back": (_rows(
        "update log_heads set at = at - interval '1 year' where tenant = 'acme'"), TAMPERED, TAMPERED),
    "replay an old checkpoint": (_rows(
        f"delete from log_heads where tenant = 'acme' and size > {_TAIL}"), VERIFIED, INCOMPLETE),
    "take the checkpoints of another tenant": (_rows(
        "delete from log_heads where tenant = 'acme'",
        "update log_heads set tenant = 'acme' where tenant = 'globex'"), TAMPERED, TAMPERED),
}
# fmt: on


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_on_the_rows_is_told_by_both_verifiers(attack: str, copy: str, tmp_path: Path) -> None:
    change, alone, anchored = ATTACKS[attack]
    kept = head_of(copy)
    change(copy)
    path = tmp_path / "acme.tar"
    exported(copy, path)
    assert both(path)[1] == alone
    found, said, _ = both(path, [kept])
    assert said == anchored
    if said == INCOMPLETE:
        assert (found.integrity, found.completeness) == (True, False)


def test_the_first_bad_record_is_named(copy: str, tmp_path: Path) -> None:
    intent = asked(copy, f"select {LEAF}::text").replace("-", "")
    change, _, _ = ATTACKS["edit"]
    change(copy)
    exported(copy, tmp_path / "acme.tar")
    found, _, _ = both(tmp_path / "acme.tar")
    first = found.problems[0]
    assert (first.code, first.where.partition(" (")[0]) == ("chain_broken", f"leaf 4, intent {intent} record 1")


# Attacks on the file.


def _record_dropped(files: Files) -> Files:
    """The first record of an addendum left out, and the addendum said to follow it."""
    rows = [json.loads(row) for row in files["leaves/00001.jsonl"].splitlines()]
    place = 0
    for row in rows:
        if row["after"] and len(row["hashes"]) > 1:
            break
        place += len(row["hashes"])
    else:
        raise AssertionError("the ledger has no addendum of two records")
    row["after"] = row["hashes"].pop(0)
    leaves = b"".join(json.dumps(one, separators=(",", ":"), sort_keys=True).encode() + b"\n" for one in rows)
    return changed_lines(files, lambda lines: lines.pop(place)) | {"leaves/00001.jsonl": leaves}


def _older(files: Files) -> bytes:
    text = files[CHECKPOINTS[1]].decode()
    return text.replace("2026-", "2025-").encode()


# fmt: off
FILE_ATTACKS: dict[str, Callable[[Files], Files]] = {
    "edit":                     lambda f: changed_lines(f, lambda at: at.__setitem__(5, at[5].replace(b"20", b"21"))),
    "delete from the middle":   lambda f: changed_lines(f, lambda lines: lines.pop(7)),
    "delete the tail":          lambda f: changed_lines(f, lambda lines: lines.pop()),
    "delete the last leaf":     lambda f: changed_lines(f, lambda lines: lines.pop(), "leaves/00001.jsonl"),
    "reorder":                  lambda f: changed_lines(f, lambda lines: lines.reverse()),
    "insert":                   lambda f: changed_lines(f, lambda lines: lines.insert(3, lines[3])),
    "insert another file":      lambda f: f | {"entries/00002.jsonl": f["entries/00001.jsonl"]},
    "leave a file out":         lambda f: without(f, "entries/00001.jsonl"),
    "leave the manifest out":   lambda f: without(f, MANIFEST),
    "leave the signature out":  lambda f: without(f, MANIFEST_SIGNATURE),
    "leave everything out":     lambda f: {},
    "another manifest":         lambda f: f | {MANIFEST: f[MANIFEST].replace(b'"tenant":"acme"', b'"tenant":"acm2"')},
    "sign it oneself":          lambda f: resigned(changed_lines(f, lambda lines: lines.pop(7)), OTHER_KEY),
    "roll the clock back":      lambda f: f | {CHECKPOINTS[1]: _older(f)},
    "replay an old checkpoint": lambda f: without(f, CHECKPOINTS[1]),
    "signed over an edit":      lambda f: resigned(changed_lines(f, lambda lines: lines.pop(7)), KEY),
    "signed over a record dropped between a packet and its addendum": lambda f: resigned(_record_dropped(f), KEY),
    "signed over an old clock": lambda f: resigned(f | {CHECKPOINTS[1]: _older(f)}, KEY),
    "signed for another tenant": lambda f: resigned(f, KEY, tenant="globex"),
    "signed with a line more":  lambda f: resigned(changed_lines(f, lambda lines: lines.append(lines[0])), KEY),
    "signed over loose lines":  lambda f: resigned(f | {"leaves/00001.jsonl": b"{}\n"}, KEY),
}
# fmt: on


@pytest.mark.parametrize("attack", FILE_ATTACKS)
def test_an_attack_on_the_file_is_told_by_both_verifiers(attack: str, bundle: Path, tmp_path: Path) -> None:
    packed(tmp_path / "attacked.tar", FILE_ATTACKS[attack](members(bundle)))
    assert both(tmp_path / "attacked.tar")[1] == TAMPERED


def test_what_is_packed_again_is_still_sound(bundle: Path, tmp_path: Path) -> None:
    packed(tmp_path / "sound.tar", members(bundle))
    assert both(tmp_path / "sound.tar")[1] == VERIFIED


def test_a_file_that_was_changed_is_followed_to_the_record(bundle: Path, tmp_path: Path) -> None:
    packed(tmp_path / "attacked.tar", FILE_ATTACKS["edit"](members(bundle)))
    found, _, _ = both(tmp_path / "attacked.tar")
    assert [one.code for one in found.problems[:2]] == ["file_differs", "chain_broken"]
    assert "record" in found.problems[1].where


def test_a_checkpoint_alone_is_incomplete(bundle: Path, tmp_path: Path) -> None:
    files = without(members(bundle), CHECKPOINTS[1], "leaves/00001.jsonl", "entries/00001.jsonl")
    counts = {"denials": 0, "entries": 0, "exports": 0, "leaves": 0}
    packed(tmp_path / "empty.tar", resigned(files, KEY, size=0, counts=counts))
    found, said, _ = both(tmp_path / "empty.tar")
    assert (said, [one.code for one in found.problems]) == (INCOMPLETE, ["not_sealed"])


def test_a_wrong_key_verifies_nothing(ledger: str, bundle: Path) -> None:
    assert both(bundle, public=OTHER_KEY.public_key())[1] == TAMPERED


def test_a_link_is_no_file(bundle: Path, tmp_path: Path) -> None:
    def linked(member: Any) -> None:
        if member.name == "entries/00001.jsonl":
            member.type, member.linkname, member.size = b"2", "/etc/passwd", 0

    packed(tmp_path / "linked.tar", members(bundle), linked)
    assert both(tmp_path / "linked.tar")[1] == TAMPERED


def test_half_a_file_is_told(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "half.tar").write_bytes(bundle.read_bytes()[:20_000])
    assert both(tmp_path / "half.tar")[1] == TAMPERED


# Helpers.


def _size_of(url: str, least: int) -> int:
    statement = f"select min(size) from log_heads where tenant = 'acme' and size >= {least}"
    return int(asked(url, statement))


def _time_of(url: str, least: int) -> datetime:
    at: datetime = asked(url, f"select at from log_heads where tenant = 'acme' and size = {_size_of(url, least)}")
    return at + timedelta(microseconds=1)


def _exports(url: str) -> list[tuple[Any, ...]]:
    async def run() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url, server_settings={"search_path": "zentra"})
        rows = await connection.fetch("select actor, role, first_leaf, log_size from evidence_exports order by at")
        await connection.close()
        return [tuple(row) for row in rows]

    return asyncio.run(run())
