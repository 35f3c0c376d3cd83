"""Envelopes, notes and proofs: what was signed is found as it was signed, and everything else is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.runtime.test_evidence import KEY, OTHER_KEY, packet
from zentra.runtime.evidence import heads, merkle
from zentra.runtime.evidence.envelopes import (
    PACKET_TYPE,
    EnvelopeSignature,
    envelope_of,
    open_envelope,
    pae,
    sign_payload,
)
from zentra.runtime.evidence.keyring import RingKey, head_flaw_in, ring_of
from zentra.runtime.evidence.notes import NoteFlaw, read_note, verifier_key
from zentra.runtime.evidence.packet import Leaf, leaf_data, verify_packet
from zentra.runtime.evidence.proofs import CONSISTENCY_FORMAT, INCLUSION_FORMAT, ConsistencyProof, Edge, InclusionProof
from zentra.runtime.evidence.renderings import csv_of, entry_rows, packet_html, packet_records
from zentra.runtime.evidence.verifying import packet_of_envelope, verify_text

RING = ring_of([KEY.public_key()])
AT = "2026-11-21T02:42:00.000000Z"


def envelope(key: Ed25519PrivateKey = KEY, kind: str = PACKET_TYPE, body: bytes | None = None) -> bytes:
    carried = packet() if body is None else body
    return envelope_of(kind, carried, [sign_payload(key, kind, carried)])


# Envelopes.


def test_the_encoding_is_that_of_the_specification() -> None:
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("http://example.com/HelloWorld", b"hello world") == expected
    assert pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


def test_an_envelope_carries_the_packet_as_it_is() -> None:
    assert packet_of_envelope(envelope()) == packet()
    assert packet_of_envelope(packet()) == packet()
    assert envelope() == envelope()
    verdict = verify_text(envelope(), RING)
    assert verdict == verify_packet(packet(), KEY.public_key())
    assert verdict.ok


def test_either_alphabet_of_base64_and_unknown_members_are_read() -> None:
    fields = json.loads(envelope())
    fields["payload"] = fields["payload"].replace("+", "-").replace("/", "_")
    fields["signatures"][0]["sig"] = fields["signatures"][0]["sig"].replace("+", "-").replace("/", "_")
    fields["more"] = 1
    del fields["signatures"][0]["keyid"]
    assert verify_text(json.dumps(fields).encode(), RING).ok


def test_one_good_signature_is_enough_and_no_key_id_decides() -> None:
    bad = EnvelopeSignature(base64.b64encode(bytes(64)).decode(), heads.key_id(KEY.public_key()))
    good = msgspec.structs.replace(sign_payload(KEY, PACKET_TYPE, packet()), keyid="another")
    assert verify_text(envelope_of(PACKET_TYPE, packet(), [bad, good]), RING).ok


# fmt: off
ENVELOPES: list[tuple[Callable[[], bytes], str]] = [
    (lambda: envelope(OTHER_KEY),                                                "key_differs"),
    (lambda: envelope(kind="application/json"),                                  "payload_type_unknown"),
    (lambda: envelope().replace(b"audit-packet", b"audit-pocket"),               "signature_invalid"),
    (lambda: envelope_of(PACKET_TYPE, b"{}", [sign_payload(KEY, PACKET_TYPE, packet())]), "signature_invalid"),
    (lambda: envelope_of(PACKET_TYPE, packet(), []),                             "key_differs"),
    (lambda: envelope_of(PACKET_TYPE, packet(), [EnvelopeSignature("?", heads.key_id(KEY.public_key()))]),
                                                                                 "signature_invalid"),
    (lambda: b'{"payload":"?","payloadType":"x","signatures":[]}',               "malformed"),
    (lambda: b'{"payloadType":"x"}',                                             "malformed"),
    (lambda: envelope(body=b"{}"),                                               "malformed"),
    (lambda: b"[" * 10_000,                                                      "malformed"),
]
# fmt: on


@pytest.mark.parametrize(("made", "code"), ENVELOPES)
def test_whatever_else_an_envelope_is_it_is_refused(made: Callable[[], bytes], code: str) -> None:
    verdict = verify_text(made(), RING)
    assert (verdict.ok, verdict.integrity, verdict.problems[0].code) == (False, False, code)


def test_an_envelope_that_is_none_says_so() -> None:
    with pytest.raises(ValueError, match="envelope"):
        open_envelope(b"\xff")


# Key rings.


@pytest.mark.parametrize(
    ("since", "until", "code"),
    [
        (None, None, None),
        (AT, None, None),
        ("2026-11-21T02:42:00.000001Z", None, "key_out_of_time"),
        (None, AT, "key_out_of_time"),
        (None, "2026-11-21T02:42:00.000001Z", None),
    ],
)
def test_a_head_is_of_a_key_only_in_the_time_of_that_key(
    since: str | None, until: str | None, code: str | None
) -> None:
    ring = {heads.key_id(KEY.public_key()): RingKey(KEY.public_key(), since, until)}
    head = heads.sign_head(KEY, tenant="acme", size=3, root=bytes(32), at=AT)
    flaw = head_flaw_in(ring, head)
    assert (None if flaw is None else flaw[0]) == code


def test_each_head_is_judged_by_its_own_key() -> None:
    both = ring_of([KEY.public_key(), OTHER_KEY.public_key()])
    for key in (KEY, OTHER_KEY):
        assert head_flaw_in(both, heads.sign_head(key, tenant="acme", size=1, root=bytes(32), at=AT)) is None
    foreign = heads.sign_head(OTHER_KEY, tenant="acme", size=1, root=bytes(32), at=AT)
    flaw = head_flaw_in(RING, foreign)
    assert flaw is not None
    assert flaw[0] == "key_differs"


# Checkpoints.


def note_of(
    size: int = 3, root: bytes = bytes(32), key: Ed25519PrivateKey = KEY, at: str = AT, tenant: str = "acme"
) -> str:
    return heads.signed_note(key.public_key(), heads.sign_head(key, tenant=tenant, size=size, root=root, at=at))


def test_a_note_is_read_as_the_head_that_it_is() -> None:
    assert read_note(note_of().encode(), RING) == heads.sign_head(KEY, tenant="acme", size=3, root=bytes(32), at=AT)
    cosigned = note_of() + "\N{EM DASH} witness.example/w AAAAAAAA\n"
    assert read_note(cosigned.encode(), RING).size == 3
    assert verify_text(note_of().encode(), RING).head_size == 3


# fmt: off
NOTES: list[tuple[Callable[[], bytes], str]] = [
    (lambda: b"",                                                                 "checkpoint_malformed"),
    (lambda: b"\xff",                                                             "checkpoint_malformed"),
    (lambda: note_of(key=OTHER_KEY).encode(),                                     "key_differs"),
    (lambda: note_of().replace("acme\n3\n", "acme\n4\n").encode(),                "signature_invalid"),
    (lambda: note_of().replace("acme\n3\n", "acme\n03\n").encode(),               "checkpoint_malformed"),
    (lambda: note_of().replace("at 2026", "at 2025").encode(),                    "signature_invalid"),
    (lambda: note_of().replace("\nat ", "\nmore\nat ").encode(),                  "checkpoint_malformed"),
    (lambda: note_of().replace("zentra.evidence", "zentra.other").encode(),       "checkpoint_malformed"),
    (lambda: note_of().replace("evidence/acme 8", "evidence/acme 9").replace("acme\n3", "globex\n3").encode(),
                                                                                  "key_differs"),
    (lambda: note_of().encode().rstrip(),                                         "checkpoint_malformed"),
    (lambda: (note_of() + "no signature\n").encode(),                             "checkpoint_malformed"),
    (lambda: (note_of() + note_of(4).splitlines()[-1] + "\n").encode(),           "signature_invalid"),
]
# fmt: on


@pytest.mark.parametrize(("made", "code"), NOTES)
def test_a_note_that_is_anything_else_is_refused(made: Callable[[], bytes], code: str) -> None:
    with pytest.raises(NoteFlaw) as refused:
        read_note(made(), RING)
    assert refused.value.code == code


# Proofs.

LEAVES = [
    leaf_data(tenant="acme", intent=f"{place:032x}", kind="packet", chain=bytes(32), records=4) for place in range(9)
]
HASHES = [merkle.leaf_hash(data) for data in LEAVES]


def root_of(size: int) -> bytes:
    return merkle.Frontier().append(HASHES[:size])[0].root()


def fetch(level: int, start: int, count: int) -> list[bytes]:
    assert level == 0
    return HASHES[start : start + count]


def consistency(old: int, new: int, **changes: Any) -> bytes:
    notes = [note_of(size, root_of(size)) if size else None for size in (old, new)]
    proof = [node.hex() for node in merkle.consistency_proof(old, new, fetch)]
    made = ConsistencyProof(
        first=Edge(notes[0], old), format=CONSISTENCY_FORMAT, proof=proof, second=Edge(notes[1], new), tenant="acme"
    )  # fmt: skip
    return msgspec.json.encode(msgspec.to_builtins(made) | changes)


def inclusion(place: int, **changes: Any) -> bytes:
    proof = [node.hex() for node in merkle.inclusion_proof(place, 9, fetch)]
    made = InclusionProof(
        checkpoint=note_of(9, root_of(9)), format=INCLUSION_FORMAT, intent=f"{place:032x}",
        leaf=Leaf(LEAVES[place].decode(), place), proof=proof, tenant="acme",
    )  # fmt: skip
    return msgspec.json.encode(msgspec.to_builtins(made) | changes)


def test_every_proof_of_a_log_holds() -> None:
    for first in range(10):
        for second in range(max(first, 1), 10):
            assert verify_text(consistency(first, second), RING).ok, (first, second)
    for place in range(9):
        assert verify_text(inclusion(place), RING).ok, place


OTHER_LOG = {"checkpoint": note_of(9, bytes(32)), "size": 9}
# fmt: off
PROOFS: list[tuple[Callable[[], bytes], str, bool]] = [
    # a document, the code, and whether it is only incomplete
    (lambda: consistency(3, 9, proof=[]),                                        "proof_invalid",     False),
    (lambda: consistency(3, 9, proof=["zz"]),                                    "malformed",         False),
    (lambda: consistency(3, 9, second=OTHER_LOG),                                "proof_invalid",     False),
    (lambda: consistency(3, 9, first={"checkpoint": None, "size": 3}),           "not_sealed",        True),
    (lambda: consistency(3, 9, first={"checkpoint": note_of(4, root_of(4)), "size": 3}), "proof_invalid", False),
    (lambda: consistency(3, 9, first={"checkpoint": note_of(3, root_of(3), at="2027" + AT[4:]), "size": 3}),
                                                                                 "heads_contradict",       False),
    (lambda: consistency(3, 9, tenant="globex"),                                 "tenant_differs",    False),
    (lambda: consistency(3, 9, second={"checkpoint": note_of(9, root_of(9), OTHER_KEY), "size": 9}),
                                                                                 "key_differs",       False),
    (lambda: inclusion(3, proof=[]),                                             "proof_invalid",     False),
    (lambda: inclusion(3, leaf={"data": LEAVES[3].decode(), "index": 4}),        "proof_invalid",     False),
    (lambda: inclusion(3, leaf={"data": LEAVES[4].decode(), "index": 4}),        "intent_differs",    False),
    (lambda: inclusion(3, leaf={"data": "{}", "index": 3}),                      "intent_differs",    False),
    (lambda: inclusion(3, checkpoint=note_of(8, root_of(8))),                    "proof_invalid",     False),
    (lambda: inclusion(3, checkpoint="x"),                                       "checkpoint_malformed", False),
    (lambda: inclusion(3, more=1),                                               "malformed",         False),
]
# fmt: on


@pytest.mark.parametrize(("made", "code", "incomplete"), PROOFS)
def test_a_proof_that_was_changed_does_not_hold(made: Callable[[], bytes], code: str, incomplete: bool) -> None:
    verdict = verify_text(made(), RING)
    assert (verdict.ok, verdict.problems[0].code, verdict.integrity) == (False, code, incomplete)


def test_an_anchor_of_the_same_size_must_be_of_the_same_log() -> None:
    kept = heads.sign_head(KEY, tenant="acme", size=9, root=bytes(32), at=AT)
    for made in (consistency(3, 9), inclusion(3), note_of(9, root_of(9)).encode()):
        assert [one.code for one in verify_text(made, RING, [kept]).problems] == ["heads_contradict"]
    fitting = heads.sign_head(KEY, tenant="acme", size=9, root=root_of(9), at=AT)
    assert verify_text(consistency(3, 9), RING, [fitting]).ok


@pytest.mark.parametrize(
    ("size", "root", "tenant", "code"),
    [(None, None, "acme", None), (None, bytes(32), "acme", "heads_contradict"), (99, None, "acme", None),
     (None, None, "globex", "tenant_differs")],
)  # fmt: skip
def test_a_packet_is_held_to_an_anchor(size: int | None, root: bytes | None, tenant: str, code: str | None) -> None:
    head = json.loads(packet())["head"]
    made = bytes.fromhex(head["root"]) if root is None else root
    kept = heads.sign_head(KEY, tenant=tenant, size=size or head["size"], root=made, at=AT)
    verdict = verify_packet(packet(), KEY.public_key(), anchors=[kept])
    assert [one.code for one in verdict.problems] == ([] if code is None else [code])
    assert verdict.integrity is (code is None)


# Renderings.


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    nasty = json.loads(packet())
    nasty["intent_id"] = '"><script>alert(1)</script>'
    page = packet_html(json.dumps(nasty).encode()).decode()
    assert "<script" not in page
    assert "&quot;&gt;&lt;script&gt;" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "It is not the evidence" in page
    assert sha256(json.dumps(nasty).encode()).hexdigest() in page
    for word in ("http://", "https://", "src=", "url("):
        assert word not in page


def test_amounts_are_exact_and_no_cell_is_a_formula() -> None:
    rows = list(entry_rows(packet_records(json.loads(packet()))))
    assert [row[11:13] for row in rows] == [("125000", "0"), ("-125000", "125000"), ("0", "125000")]
    wide = [("=1+1", "+1", "-x", "@a", "\tb", "\rc", '"q"', "a,b", "-5", "9223372036854775807", "", "", "", "")]
    line = list(csv_of(wide))[1]
    assert line == ('\'=1+1,\'+1,\'-x,\'@a,\'\tb,"\'\rc","""q""","a,b",-5,9223372036854775807,,,,\r\n')


# Golden vectors: none of these bytes may ever change, because somebody holds files made with them.

GOLDEN: dict[str, tuple[Callable[[], str], str]] = {
    "packet": (
        lambda: sha256(packet()).hexdigest(),
        "fc0763d06ad774ad645c7fa9285b42cd523ed0967e07c62984704c50dff36cb1",
    ),
    "envelope": (
        lambda: sha256(envelope()).hexdigest(),
        "864fce46fb5710f8fc38d9b26639216e8a1ff09998056738c3774de40d804b07",
    ),
    "note": (
        lambda: sha256(note_of().encode()).hexdigest(),
        "7153c18d4ff425c1beb1f8db0f4ea281dd720a316416c2e523f568b485150f6e",
    ),
    "leaf": (
        lambda: merkle.leaf_hash(LEAVES[1]).hex(),
        "972ff87bfccfb554dad3fd9efb1a9c0cae00ee4144fe478d7253e80c2bc4a17e",
    ),
    "root": (lambda: root_of(9).hex(), "d2f2a145ac9022c207bdc2cecbd3e2c527fe832110800f468c883a5bdfacc5d6"),
    "consistency": (
        lambda: sha256(consistency(3, 9)).hexdigest(),
        "fcd09935f2d6785e4c71ad2fe65af5d584ba8f7834afa0eefa6e10d66773f049",
    ),
    "inclusion": (
        lambda: sha256(inclusion(3)).hexdigest(),
        "ddcc8382663f50e5f63c124a3b77335ab54f7891732cee78d5a069ddc153c773",
    ),
    "key id": (lambda: heads.key_id(KEY.public_key()), "56475aa7"),
    "verifier key": (
        lambda: verifier_key("zentra.evidence/acme", KEY.public_key().public_bytes_raw()),
        "zentra.evidence/acme+8bd3e04c+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_bytes_are_those_of_the_first_release(name: str) -> None:
    made, golden = GOLDEN[name]
    assert made() == golden
