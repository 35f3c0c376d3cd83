"""The client's verifier and the server's say the same of every packet, sound or tampered with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.test_evidence import BINARY, CALLBACK, KEY, OTHER_KEY, RECORDS, packet, sealed_packet
from zentra.client.api import Zentra, verify_packet
from zentra.runtime.evidence import canonical
from zentra.runtime.evidence import packet as server

PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
OTHER_PEM = OTHER_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def both(data: bytes) -> tuple[Any, Any]:
    """Return what each says, as far as the two have to agree: everything but the sentences."""
    said = []
    for verdict in (verify_packet(data, PEM), server.verify_packet(data, KEY.public_key())):
        shown = msgspec.to_builtins(verdict)
        assert shown.pop("not_covered", []) in ([], ()), "of anchors, which a client does not take"
        shown["problems"] = [(one["code"], one["where"]) for one in shown["problems"]]
        said.append(shown)
    return said[0], said[1]


def test_a_sound_packet_is_verified() -> None:
    ours, theirs = both(packet())
    assert ours == theirs
    assert (ours["ok"], ours["problems"], ours["records"]) == (True, [], len(RECORDS))


def test_another_key_does_not_verify_it() -> None:
    verdict = verify_packet(packet(), OTHER_PEM)
    assert [problem.code for problem in verdict.problems] == ["key_differs"]
    assert not verdict.integrity


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_key_is_a_fault_of_the_caller(pem: bytes) -> None:
    with pytest.raises(ValueError, match="public key"):
        verify_packet(packet(), pem)


def test_a_client_verifies_too() -> None:
    with Zentra("k", "http://x.test") as api:
        assert api.evidence.verify(packet(), PEM).ok


Change = Callable[[dict[str, Any]], Any]
# fmt: off
CHANGES: list[Change] = [
    lambda p: p.update(format="zentra.audit-packet/2"),
    lambda p: p.update(tenant="globex"),
    lambda p: p.update(intent="1" * 32),
    lambda p: p.update(intent_id="order-2"),
    lambda p: p.update(head=None),
    lambda p: p.update(leaf=None),
    lambda p: p.update(leaf=None, proof=[]),
    lambda p: p.update(proof=p["proof"][1:]),
    lambda p: p.update(proof=["x"]),
    lambda p: p.update(command={}),
    lambda p: p["command"].update(flag=1),
    lambda p: p.update(callbacks=[]),
    lambda p: p.update(review=[1]),
    lambda p: p.update(deliveries=[True]),
    lambda p: p.update(newer=1),
    lambda p: p.update(addenda=[]),
    lambda p: p["addenda"].reverse(),
    lambda p: p["addenda"][0].update(newer=1),
    lambda p: p["records"].pop(),
    lambda p: p["records"].pop(0),
    lambda p: (p["records"].pop(3), p["hashes"].pop(3)),
    lambda p: p["records"].reverse(),
    lambda p: p["records"].insert(1, p["records"][1]),
    lambda p: p.update(records=[], hashes=[]),
    lambda p: p["records"].__setitem__(3, p["records"][3].replace("125000", "125001")),
    lambda p: p["records"].__setitem__(3, p["records"][3].replace('"settlement"', '"customer"')),
    lambda p: p["records"].__setitem__(3, p["records"][3].replace('"125000"', '"1.5"')),
    lambda p: p["records"].__setitem__(3, p["records"][3].replace('"entries":[', '"entries":[1,')),
    lambda p: p["records"].__setitem__(2, p["records"][2].replace("2026-", "2025-")),
    lambda p: p["records"].__setitem__(2, p["records"][2].replace("2026-", "now")),
    lambda p: p["records"].__setitem__(2, " " + p["records"][2]),
    lambda p: p["records"].__setitem__(2, "{}"),
    lambda p: p["hashes"].__setitem__(2, "no hash"),
    lambda p: p["hashes"].append("0" * 64),
    lambda p: p["leaf"].update(index=0),
    lambda p: p["leaf"].update(index=-1),
    lambda p: p["leaf"].update(data=p["leaf"]["data"].replace("packet", "addendum")),
    lambda p: p["head"].update(size=0),
    lambda p: p["head"].update(size=-1),
    lambda p: p["head"].update(root="0" * 64),
    lambda p: p["head"].update(root="x"),
    lambda p: p["head"].update(at="now"),
    lambda p: p["head"].update(tenant="globex"),
    lambda p: p["head"].update(tenant="No Tenant"),
    lambda p: p["head"].update(key_id="00000000"),
    lambda p: p["head"].update(signature="00" * 64),
    lambda p: p["head"].update(signature="zz"),
    lambda p: p["head"].update(signature=p["head"]["signature"].upper()),
    lambda p: p.update(attachments=[]),
    lambda p: p["attachments"].reverse(),
    lambda p: p["attachments"].append(p["attachments"][0]),
    lambda p: p["attachments"][0].update(content="!"),
    lambda p: p["attachments"][0].update(encoding="hex"),
    lambda p: p["attachments"].append({"content": "x", "encoding": "text", "sha256": "f" * 64}),
]
# fmt: on


@pytest.mark.parametrize("change", CHANGES, ids=range(len(CHANGES)))
def test_a_changed_packet_is_seen_alike(change: Change) -> None:
    fields = json.loads(packet())
    change(fields)
    ours, theirs = both(canonical.encode(fields))
    assert ours == theirs


@given(st.data())
def test_a_changed_byte_is_seen_alike(data: st.DataObject) -> None:
    sound = packet()
    place = data.draw(st.integers(0, len(sound) - 1))
    byte = data.draw(st.integers(0, 255))
    changed = sound[:place] + bytes([byte]) + sound[place + 1 :]
    ours, theirs = both(changed)
    assert ours == theirs
    assert ours["ok"] == (changed == sound)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[1.5]", b'{"a":9007199254740993}', b'{"\xc3\xa9":1}', b"[" * 2000, b"\xff"]
)
def test_what_is_no_packet_is_seen_alike(data: bytes) -> None:
    ours, theirs = both(data)
    assert ours == theirs
    assert ours["problems"] == [("malformed", "packet")]


@pytest.mark.parametrize("cut", range(1, 9))
def test_packets_of_any_length_are_seen_alike(cut: int) -> None:
    attachments = (BINARY, CALLBACK) if cut == 8 else ()
    ours, theirs = both(sealed_packet([RECORDS[:cut], RECORDS[cut:]], attachments))
    assert ours == theirs
    assert ours["ok"]
