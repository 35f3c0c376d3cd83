"""Personal data behind commitments: the same request commits the same, and no opening tells of another."""

import hashlib
import json

import pytest

from zentra.runtime.evidence.personal import committed, is_personal, opening_of, personal_in, proof_of, proves

KEY, OTHER = bytes(range(32)), bytes(32)
GIVEN = {"order": "7", "personal.subject": "cust-42", "personal.name": "Ada Obi", "personal.phone": "0801"}


def test_what_is_personal_is_replaced_and_the_rest_is_left() -> None:
    kept, openings = committed(GIVEN, KEY)
    assert list(kept) == list(GIVEN)
    assert kept["order"] == "7"
    assert not any(value in json.dumps(kept) for value in ("cust-42", "Ada", "0801"))
    assert set(openings) == set(personal_in(kept).values())
    for digest, content in openings.items():
        assert hashlib.sha256(content).hexdigest() == digest
    told = {opening.name: opening.value for opening in map(opening_of, openings.values()) if opening is not None}
    assert told == {name: value for name, value in GIVEN.items() if name.startswith("personal.")}


def test_the_same_request_makes_the_same_commitments_so_replays_are_known() -> None:
    assert committed(GIVEN, KEY) == committed(dict(reversed(GIVEN.items())), KEY)


# What is changed: and nothing of the commitment of the name is the same.
CHANGED = [
    ("the key", {"personal.name": "Ada Obi"}, OTHER),
    ("the value", {"personal.name": "Ada Obu"}, KEY),
    ("the name of the field", {"personal.nick": "Ada Obi"}, KEY),
    ("where the name ends", {"personal.nameA": "da Obi"}, KEY),
]


@pytest.mark.parametrize(("metadata", "key"), [row[1:] for row in CHANGED], ids=[row[0] for row in CHANGED])
def test_commitments_have_neither_digest_nor_salt_in_common(metadata: dict[str, str], key: bytes) -> None:
    (digest, content), (other, others) = (
        next(iter(committed(one, by)[1].items())) for one, by in (({"personal.name": "Ada Obi"}, KEY), (metadata, key))
    )
    first, second = opening_of(content), opening_of(others)
    assert first is not None
    assert second is not None
    assert digest != other
    assert first.salt != second.salt


@pytest.mark.parametrize(
    ("metadata", "personal"),
    [({}, False), ({"order": "7"}, False), ({"personal": "x"}, False), ({"Personal.x": "x"}, False), (GIVEN, True)],
)
def test_only_names_with_the_prefix_are_personal(metadata: dict[str, str], personal: bool) -> None:
    assert is_personal(metadata) is personal


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"name":"a","salt":"b"}', b'{"name":"a","salt":"b","value":"c","x":1}', b"\xff"]
)
def test_what_is_no_opening_is_none(content: bytes) -> None:
    assert opening_of(content) is None


# What is asked of a proof of {"personal.name": "Ada", "order": "7"} of acme, and whether it is the same.
PROVED = [
    ("the same", b"s", "acme", {"personal.name": "Ada", "order": "7"}, True),
    ("what is not personal does not count", b"s", "acme", {"personal.name": "Ada"}, True),
    ("another value", b"s", "acme", {"personal.name": "Eve"}, False),
    ("another name", b"s", "acme", {"personal.names": "Ada"}, False),
    ("a value more", b"s", "acme", {"personal.name": "Ada", "personal.phone": "1"}, False),
    ("another tenant", b"s", "globex", {"personal.name": "Ada"}, False),
    ("another secret", b"t", "acme", {"personal.name": "Ada"}, False),
]


@pytest.mark.parametrize(
    ("secret", "tenant", "metadata", "same"), [row[1:] for row in PROVED], ids=[row[0] for row in PROVED]
)
def test_a_proof_is_of_the_same_personal_data_alone(
    secret: bytes, tenant: str, metadata: dict[str, str], same: bool
) -> None:
    proof = proof_of(b"s", "acme", {"personal.name": "Ada", "order": "7"}, bytes(16))
    assert proves(proof, secret, tenant, metadata) is same


def test_proofs_of_the_same_are_alike_only_under_the_same_nonce() -> None:
    first, second = [proof_of(b"s", "acme", {"personal.name": "Ada"}, bytes([n]) * 16) for n in (1, 2)]
    assert (len(first), first[16:] == second[16:]) == (48, False)
