"""The file of anchors: each line once, whole or not at all, whatever else the file has."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from zentra.gateway import anchoring
from zentra.gateway.anchoring import AnchorFile, SinkContradicts, SinkFailed

FIRST, SECOND, THIRD = (b'{"at":"t","checkpoint":"c","size":%d,"tenant":"acme"}' % size for size in (1, 2, 3))


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """Let no file grow beyond `size`, as a full disk does."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_line_is_kept_once_also_by_who_has_not_written_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for file in (AnchorFile(path), AnchorFile(path)):
        for line in (FIRST, SECOND, FIRST):
            file.keep(line)
    assert path.read_bytes() == FIRST + b"\n" + SECOND + b"\n"


@pytest.mark.parametrize("torn", [b"", SECOND[:20]], ids=["behind a line", "behind half a line"])
def test_half_a_line_on_a_full_disk_is_taken_back_and_counts_as_nothing(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "a.jsonl"
    file = AnchorFile(path)
    file.keep(FIRST)
    path.write_bytes(before := path.read_bytes() + torn)
    with full_at(len(before) + 10), pytest.raises(SinkFailed, match="disk full"):
        file.keep(SECOND)
    assert path.read_bytes() == before
    file.keep(THIRD)
    file.keep(SECOND)
    assert path.read_bytes() == b"\n".join((FIRST, *([torn] if torn else []), THIRD, SECOND, b""))


def test_half_a_line_in_a_file_that_only_grows_counts_as_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(descriptor: int, length: int) -> None:
        raise PermissionError("append only")

    monkeypatch.setattr(os, "ftruncate", refused)
    path = tmp_path / "a.jsonl"
    file = AnchorFile(path)
    with full_at(10), pytest.raises(SinkFailed, match="disk full"):
        file.keep(FIRST)
    file.keep(FIRST)
    assert path.read_bytes() == FIRST[:10] + b"\n" + FIRST + b"\n"


def test_what_another_worker_has_written_behind_half_a_line_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "a.jsonl", os.write

    def half(descriptor: int, data: bytes) -> int:
        written = write(descriptor, data[:10])
        with path.open("ab") as other:
            other.write(b"\n" + SECOND + b"\n")
        return written

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(SinkFailed, match="10 of"):
        AnchorFile(path).keep(FIRST)
    assert path.read_bytes() == FIRST[:10] + b"\n" + SECOND + b"\n"


def test_somebody_elses_line_stands_for_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        FIRST.replace(b'"size":1', b'"size":999999999') + b"\n" + SECOND.replace(b'"c"', b'"forged"') + b"\n"
    )
    file = AnchorFile(path)
    for line in (FIRST, SECOND):
        file.keep(line)
    assert path.read_bytes().endswith(b"\n" + FIRST + b"\n" + SECOND + b"\n")


def test_lines_are_remembered_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchoring, "LINES_KNOWN_MAX", 1)
    path = tmp_path / "a.jsonl"
    for line in (FIRST, SECOND, SECOND):
        AnchorFile(path).keep(line)
    assert path.read_bytes().count(b"\n") == 2


def line(size: int, root: str, at: int, tenant: str = "acme") -> bytes:
    note = f"origin\\n{size}\\n{root}\\n\\n- signature\\n"
    return b'{"at":"2026-01-%02d","checkpoint":"%b","size":%d,"tenant":"%b"}' % (
        at,
        note.encode(),
        size,
        tenant.encode(),
    )


@pytest.mark.parametrize(
    ("kept", "later", "taken"),
    [
        (line(5, "A", 1), line(5, "B", 2), False),
        (line(5, "A", 1), line(4, "C", 2), False),
        (line(5, "A", 2), line(4, "C", 1), True),  # late, but of the same history as far as anybody can see
        (line(5, "A", 1), line(5, "A", 2), True),  # signed again, by another key perhaps
        (line(5, "A", 1), line(6, "B", 2), True),
        (line(5, "A", 1, "globex"), line(5, "B", 2), True),
        (b"what somebody else has written", line(5, "B", 2), True),
    ],
)
def test_a_file_takes_no_second_history(tmp_path: Path, kept: bytes, later: bytes, taken: bool) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(kept + b"\n")
    if taken:
        AnchorFile(path).keep(later)
    else:
        with pytest.raises(SinkContradicts, match="restored from a backup"):
            AnchorFile(path).keep(later)
    assert path.read_bytes() == kept + b"\n" + (later + b"\n" if taken else b"")
