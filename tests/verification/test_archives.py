"""Archives: whole when they were made, and every change of them is found with nothing but the public key."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from tests.ledgers import KEY
from tests.verification.databases import KEYS, asked, silent
from tests.verification.test_periods import close, periods
from zentra.bench.twins.fleet import START
from zentra.runtime.errors import Refusal
from zentra.runtime.evidence.heads import key_id
from zentra.runtime.verification.differences import CHECKS
from zentra.runtime.verification.manifest import ArchiveFlaw, Manifest, read_manifest, signed_manifest
from zentra.storage.pool import open_pool
from zentra.storage.verification import archiving, rowfiles
from zentra.storage.verification.archived import ArchiveCheck, verify_archive
from zentra.storage.verification.archiving import MANIFEST, digest_of, make_archive, mark_archived
from zentra.storage.verification.rowfiles import Format

MIDDLE: Final = START + timedelta(seconds=300)
LATE: Final = START + timedelta(seconds=600)


def make(url: str, directory: Path, until: datetime = MIDDLE, format: Format = "csv") -> Manifest:
    return asyncio.run(
        make_archive(
            url, directory, KEY, tenant="acme", book="default", until=until, format=format, installation="this one",
            progress=silent,
        )
    )  # fmt: skip


def mark(url: str, found: ArchiveCheck) -> None:
    async def run() -> None:
        async with await open_pool(url, name="test") as pool:
            await mark_archived(pool, found.manifest, found.digest)

    asyncio.run(run())


def verify(directory: Path) -> ArchiveCheck:
    return verify_archive(directory, KEYS, silent)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_an_archive_is_whole_and_says_what_it_holds(copy: str, tmp_path: Path, format: Format) -> None:
    period, _ = close(copy, MIDDLE)
    made = make(copy, tmp_path / "a", format=format)
    found = verify(tmp_path / "a")
    assert (found.differences, found.clean) == ((), True)
    assert found.manifest == signed(tmp_path / "a")
    assert found.counts.postings == made.postings == period.postings
    assert found.counts.records > found.counts.intents > 4
    assert {file.kind for file in made.files} == {"accounts", "intents", "postings", "records", "log"}
    assert all(file.name.endswith(format) for file in made.files)
    mark(copy, found)
    assert periods(copy)[0].archived_at is not None


def signed(directory: Path) -> Manifest:
    return read_manifest((directory / MANIFEST).read_bytes(), KEYS)[0]


def test_archives_follow_one_another_and_each_stands_alone(copy: str, tmp_path: Path) -> None:
    close(copy, MIDDLE)
    make(copy, tmp_path / "one")
    first = verify(tmp_path / "one")
    mark(copy, first)
    close(copy, LATE)
    make(copy, tmp_path / "two", LATE)
    second = verify(tmp_path / "two")
    assert (second.clean, second.manifest.start, second.manifest.previous) == (
        True, first.manifest.until, first.digest,
    )  # fmt: skip
    until = f"tenant = 'acme' and coalesce(effective_at, at) < '{LATE}'"
    assert first.counts.postings + second.counts.postings == asked(copy, f"select count(*) from postings where {until}")


def test_files_are_cut_where_they_are_full(copy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "ROWS_PER_FILE", 3)
    monkeypatch.setattr(archiving, "INTENTS_AT_ONCE", 2)
    monkeypatch.setattr(rowfiles, "ROWS_AT_ONCE", 2)
    close(copy, MIDDLE)
    made = make(copy, tmp_path / "a", format="parquet")
    assert len([file for file in made.files if file.kind == "postings"]) > 2
    assert verify(tmp_path / "a").clean


def _replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        path = next(directory.glob(f"{name}-*"))
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def _line(name: str, number: int, change: Callable[[list[str]], str | None]) -> Callable[[Path], None]:
    """Return what changes, or drops, one line of a file."""

    def apply(directory: Path) -> None:
        path = next(directory.glob(f"{name}-*"))
        lines = path.read_text().splitlines()
        made = change(lines[number].split(","))
        lines[number : number + 1] = [] if made is None else [made]
        path.write_text("\n".join(lines) + "\n")

    return apply


def _cell(place: int, value: str) -> Callable[[list[str]], str]:
    return lambda cells: ",".join([*cells[:place], value, *cells[place + 1 :]])


def _resigned(directory: Path, **changes: Any) -> None:
    """Sign a manifest over the files as they are now: whoever has the key can say anything, but not make it add up."""
    manifest = signed(directory)
    files = []
    for file in manifest.files:
        size, digest = digest_of(directory / file.name)
        rows = len((directory / file.name).read_text().splitlines()) - 1
        files.append(structs.replace(file, bytes=size, sha256=digest, rows=rows))
    made = structs.replace(manifest, files=files, **changes)
    (directory / MANIFEST).write_bytes(signed_manifest(made, KEY))


# fmt: off
SIGNED: list[tuple[str, Callable[[Path], None], list[str]]] = [
    # what is done to an archive that is signed again afterwards, and what finds it
    ("an amount",           _line("postings", 1, _cell(7, "1")),
        ["archive_sum", "balance", "posting_hash", "posting_record"]),
    ("another account",     _line("postings", 1, _cell(3, "2")),    ["balance", "posting_hash", "posting_record"]),
    ("a lost posting",      _line("postings", 1, lambda _: None),   ["archive_sum", "balance", "posting_record"]),
    ("another period",      _line("postings", 1, _cell(8, "2027-01-01T00:00:00.000000Z")),
        ["archive_sum", "posting_record"]),
    ("a lost intent",       _line("intents", 1, lambda _: None),    ["archive_sum", "balance"]),
    ("another digest",      _line("intents", 1, _cell(2, "00")),    ["intent"]),
    ("a lost record",       _line("records", 2, lambda _: None),
        ["archive_sum", "chain", "record", "sequence", "transition"]),
    ("a changed record",    _replaced("records", "svc_policy", "svc_police"), ["chain"]),
    ("a closing balance",   _line("accounts", 1, _cell(12, "7")),   ["balance"]),
    ("an opening balance",  _line("accounts", 1, _cell(8, "7")),    ["balance"]),
    ("a leaf",              _line("log", 1, _cell(1, "00" * 32)),   ["leaf", "log"]),
    ("a lost leaf",         _line("log", 2, lambda _: None),        ["leaf", "log"]),
    ("no number",           _line("postings", 1, _cell(6, "x")),    ["archive_file"]),
    ("too few columns",     _line("postings", 1, lambda _: "1,2"),  ["archive_file"]),
]
UNSIGNED: list[tuple[str, Callable[[Path], object], str]] = [
    ("a changed file",      _replaced("postings", "book", "bock"),                              "postings-00001.csv"),
    ("a lost file",         lambda directory: next(directory.glob("log-*")).unlink(),           "log-00001.csv"),
    ("a file too many",     lambda directory: (directory / "more.csv").write_text("x"),         "more.csv"),
]
# fmt: on


@pytest.mark.parametrize(("name", "change", "checks"), SIGNED)
def test_who_has_the_key_cannot_make_it_add_up(
    copy: str, tmp_path: Path, name: str, change: Callable[[Path], None], checks: list[str]
) -> None:
    close(copy, MIDDLE)
    make(copy, tmp_path / "a")
    change(tmp_path / "a")
    _resigned(tmp_path / "a")
    assert sorted(verify(tmp_path / "a").differences_by_check) == sorted(set(checks))


@pytest.mark.parametrize(("name", "change", "named"), UNSIGNED)
def test_files_are_those_of_the_manifest(
    copy: str, tmp_path: Path, name: str, change: Callable[[Path], object], named: str
) -> None:
    close(copy, MIDDLE)
    make(copy, tmp_path / "a")
    change(tmp_path / "a")
    found = verify(tmp_path / "a")
    assert [(one.check, one.where) for one in found.differences] == [("archive_file", named)]


def test_a_manifest_is_believed_by_its_signature_alone(copy: str, tmp_path: Path) -> None:
    close(copy, MIDDLE)
    make(copy, tmp_path / "a")
    path = tmp_path / "a" / MANIFEST
    sound = path.read_bytes()
    other = Ed25519PrivateKey.generate()
    forged = signed_manifest(signed(tmp_path / "a"), other)
    for data, reason in (
        (sound.replace(b'"tenant":"acme"', b'"tenant":"acne"'), "signature"),
        (sound.replace(b"zentra.archive/1", b"zentra.archive/2"), "format"),
        (forged, "signed by key"),
        (forged.replace(key_id(other.public_key()).encode(), key_id(KEY.public_key()).encode()), "signature"),
        (sound[:-1], "not a manifest"),
        (b" " + sound, "not a manifest"),
    ):
        path.write_bytes(data)
        with pytest.raises(ArchiveFlaw, match=reason):
            verify(tmp_path / "a")
    path.unlink()
    with pytest.raises(ArchiveFlaw, match="is no archive"):
        verify(tmp_path / "a")


def test_only_what_was_closed_is_archived_and_only_into_a_new_place(
    copy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refusal, match="period_not_closed"):
        make(copy, tmp_path / "a")
    close(copy, MIDDLE)
    make(copy, tmp_path / "b")
    with pytest.raises(Refusal, match="directory_not_empty"):
        make(copy, tmp_path / "b")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Refusal, match=r"parquet_unavailable.*zentra\[archive\]"):
        make(copy, tmp_path / "c", format="parquet")


def test_every_word_of_an_archive_is_a_check() -> None:
    assert {check for _, _, checks in SIGNED for check in checks} <= set(CHECKS)
