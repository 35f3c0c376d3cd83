"""The verifier in the bundle computes signatures and trees by itself: held to the RFC's vectors and to the library."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway.bundle_fuzz import compare
from zentra.gateway.cli import standalone
from zentra.runtime.evidence.heads import sign_head, signed_note
from zentra.runtime.evidence.merkle import Frontier, leaf_hash

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RAW = KEY.public_key().public_bytes_raw()
L = 2**252 + 27742317777372353535851937790883648493

# RFC 8032, 7.1: public key, message, signature.
# fmt: off
VECTORS = [
    ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
    ("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
     hashlib.sha512(b"abc").hexdigest(),
     "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"),
]
# fmt: on


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_the_vectors_of_the_rfc_hold(public: str, message: str, signature: str) -> None:
    raw = bytes.fromhex(signature)
    assert standalone.signature_holds(bytes.fromhex(public), bytes.fromhex(message), raw)
    for place in (0, 31, 32, 63):
        wrong = bytearray(raw)
        wrong[place] ^= 1
        assert not standalone.signature_holds(bytes.fromhex(public), bytes.fromhex(message), bytes(wrong))
    assert not standalone.signature_holds(bytes.fromhex(public), bytes.fromhex(message) + b"x", raw)


@settings(max_examples=15, deadline=None)
@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32))
def test_it_agrees_with_the_library(message: bytes, seed: bytes) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)
    assert standalone.signature_holds(public, message, signature)
    assert not standalone.signature_holds(RAW if public != RAW else public[::-1], message, signature)


def test_a_signature_has_one_spelling() -> None:
    signature = KEY.sign(b"x")
    loose = signature[:32] + (int.from_bytes(signature[32:], "little") + L).to_bytes(32, "little")
    assert not standalone.signature_holds(RAW, b"x", loose)
    assert not standalone.signature_holds(RAW, b"x", signature + b"\0")


@pytest.mark.parametrize("raw", [(2**255 - 1).to_bytes(32, "little"), (2).to_bytes(32, "little")])
def test_what_is_no_point_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="point"):
        standalone.signature_holds(raw, b"x", bytes(64))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 100])
def test_its_tree_is_the_tree(size: int) -> None:
    nodes: list[bytes] = []
    for place in range(size):
        standalone.grow(nodes, place, b"%d" % place)
    frontier, _ = Frontier().append([leaf_hash(b"%d" % place) for place in range(size)])
    assert (standalone.root(nodes), tuple(nodes)) == (frontier.root(), frontier.hashes)


def test_wrong_usage_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.pem").write_text("-----BEGIN PUBLIC KEY-----\n")
    (tmp_path / "pub.pem").write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for words in (["x"], ["x", "no such file"], ["x", str(tmp_path / "no.pem")], ["x", str(tmp_path / "pub.pem")]):
        assert standalone.main(words) == 3, words
    assert "python3 verify.py" in capsys.readouterr().err


def test_a_checkpoint_is_read_once_it_is_signed() -> None:
    head = sign_head(KEY, tenant="acme", size=3, root=bytes(32), at="2026-11-21T02:42:00.000000Z")
    note = signed_note(KEY.public_key(), head)
    assert standalone.checkpoint(note.encode(), [RAW])["size"] == 3
    for wrong in (note.replace("acme\n3", "acme\n4"), note.replace("zentra.evidence/acme\n3", "a\n3"), note[:-5], ""):
        with pytest.raises(ValueError, match=r"checkpoint|unpack|base64|padding|Incorrect"):
            standalone.checkpoint(wrong.encode(), [RAW])
    with pytest.raises(ValueError, match="given key"):
        standalone.checkpoint(note.encode(), [VECTOR_KEY])


VECTOR_KEY = bytes.fromhex(VECTORS[0][0])


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_done_to_a_bundle_both_verifiers_say_the_same(seed: int) -> None:
    said = compare(24, seed)
    assert said["tampered"] > 10
