"""Anchors: checkpoints kept where the installation cannot change them, one line of JSON each.

- A line has the signed note and, for whoever searches, whose it is and of which size. What is believed is the note.
- A file is only ever appended to. A line that was cut off by a crash is written again whole on the next line, so it is
  left alone when it is the beginning of that; any other line that is none is a flaw.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from zentra.runtime.evidence import canonical
from zentra.runtime.evidence.heads import TreeHead
from zentra.runtime.evidence.keyring import KeyRing
from zentra.runtime.evidence.notes import NoteFlaw, read_note

__all__ = ["AnchorLine", "anchor_line", "anchor_lines", "is_anchor_file", "read_anchors"]

_BEGINS: Final = b'{"at":'


class AnchorLine(msgspec.Struct, frozen=True):
    """A checkpoint as it is kept."""

    at: str
    checkpoint: str
    size: int
    tenant: str


def anchor_line(head: TreeHead, note: str) -> bytes:
    """Return the line that keeps a checkpoint, without its end."""
    return canonical.encode(AnchorLine(head.at, note, head.size, head.tenant))


def is_anchor_file(data: bytes) -> bool:
    """Return whether bytes begin like lines of anchors; a single head or note does not."""
    return data.startswith(_BEGINS) and b'"checkpoint":' in data[:400]


def anchor_lines(data: bytes) -> Iterator[AnchorLine]:
    """Yield the lines of a file, unverified; raise NoteFlaw for one that is none."""
    rows = data.split(b"\n")
    for number, row in enumerate(rows, 1):
        if not row:
            continue
        try:
            yield msgspec.json.decode(row, type=AnchorLine)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            if number == len(rows) or rows[number].startswith(row):
                continue  # torn by a crash: the end of the file as it is, or written once more behind it
            raise NoteFlaw("anchor_malformed", f"line {number} is no anchor: {error}") from error


def read_anchors(data: bytes, ring: KeyRing, tenant: str | None = None) -> list[TreeHead]:
    """Return the heads that a file keeps of a tenant, or of all; raise NoteFlaw where one is not signed by `ring`."""
    heads = []
    for line in anchor_lines(data):
        if tenant is not None and line.tenant != tenant:
            continue
        head = read_note(line.checkpoint.encode(), ring)
        if (head.tenant, head.size, head.at) != (line.tenant, line.size, line.at):
            raise NoteFlaw("anchor_malformed", f"the line says {line.tenant} {line.size}, its note says otherwise")
        heads.append(head)
    return heads
