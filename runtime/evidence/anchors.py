"""Anchors: checkpoints kept where the installation cannot change them, one line of JSON each.

- A line has the signed note and, for whoever searches, whose it is and of which size. What is believed is the note.
- A file is only ever appended to. A line that a crash or a full disk has cut off stays where it is, and other lines
  follow. It keeps nothing and is skipped, which whoever verifies the file is told (`torn_rows`): somebody who can cut a
  line off can leave it out as well. Any other line that is none is a flaw.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from zentra.runtime.evidence import canonical
from zentra.runtime.evidence.heads import TreeHead
from zentra.runtime.evidence.keyring import KeyRing
from zentra.runtime.evidence.notes import NoteFlaw, read_note

__all__ = ["AnchorLine", "anchor_line", "anchor_lines", "is_anchor_file", "read_anchors", "torn_rows"]

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
    for number, row in enumerate(data.split(b"\n"), 1):
        if not row:
            continue
        try:
            yield msgspec.json.decode(row, type=AnchorLine)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            if _is_torn(row):
                continue
            raise NoteFlaw("anchor_malformed", f"line {number} is no anchor: {error}") from error


def torn_rows(data: bytes) -> list[int]:
    """Return the numbers, from 1, of the lines of a file that were cut off."""
    return [number for number, row in enumerate(data.split(b"\n"), 1) if row and _is_torn(row)]


def _is_torn(row: bytes) -> bool:
    """Return whether a row is the beginning of a line and not all of it: only its end has a closing brace."""
    return row.startswith(_BEGINS[: len(row)]) and b"}" not in row


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
