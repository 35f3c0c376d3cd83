"""Files of anchors: what was cut off is skipped and told, and whatever else is no anchor is a flaw."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from zentra.runtime.evidence.anchors import anchor_line, read_anchors, torn_rows
from zentra.runtime.evidence.heads import sign_head, signed_note
from zentra.runtime.evidence.keyring import ring_of
from zentra.runtime.evidence.notes import NoteFlaw

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RING = ring_of([KEY.public_key()])


def line(size: int) -> bytes:
    head = sign_head(KEY, tenant="acme", size=size, root=bytes(32), at="2026-01-05T00:00:00.000000Z")
    return anchor_line(head, signed_note(KEY.public_key(), head))


@pytest.mark.parametrize("behind", [b"", line(2), line(3)], ids=["nothing", "the same again", "another one"])
def test_wherever_a_line_was_cut_off_the_others_are_read(behind: bytes) -> None:
    whole = line(2)
    for length in range(1, len(whole)):
        data = b"\n".join((line(1), whole[:length], behind))
        assert [head.size for head in read_anchors(data, RING)] == [1] + [
            size for size in (2, 3) if behind == line(size)
        ]
        assert torn_rows(data) == [2]


@pytest.mark.parametrize(
    "row",
    [b"hello", b"{}", line(2) + b"x", line(2)[1:], line(2).replace(b'"size":2', b'"size":999999')],
    ids=["text", "an object", "too long", "no beginning", "another size"],
)
def test_a_line_that_is_none_is_a_flaw(row: bytes) -> None:
    data = b"\n".join((line(1), row, line(3), b""))
    with pytest.raises(NoteFlaw):
        read_anchors(data, RING)
    assert torn_rows(data) == []
