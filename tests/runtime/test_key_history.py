"""The history of evidence keys: signed by the keys themselves, without gaps, and with a time for each key."""

import json
from collections.abc import Callable

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from zentra.gateway.cli import standalone
from zentra.runtime.evidence import canonical, key_files
from zentra.runtime.evidence.envelopes import Envelope, envelope_of, sign_payload
from zentra.runtime.evidence.heads import key_id, sign_head, signed_note
from zentra.runtime.evidence.history import (
    KEY_ENTRY_TYPE,
    HistoryFlaw,
    KeyHistory,
    SigningKey,
    first_entry,
    in_force,
    read_history,
    ring_with,
    rotation_entry,
)
from zentra.runtime.evidence.keyring import RingKey, head_flaw_in, ring_of
from zentra.runtime.evidence.notes import NoteFlaw, read_note
from zentra.runtime.evidence.personal import ERASURE_TYPE
from zentra.runtime.evidence.verifying import verify_text

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(4)]
IDS = [key_id(key.public_key()) for key in KEYS]
FIRST, SECOND, THIRD = (f"2026-0{month}-01T00:00:00.000000Z" for month in (1, 4, 7))


def at(month: int) -> str:
    return f"2026-{month:02}-15T00:00:00.000000Z"


def made(count: int = 3) -> KeyHistory:
    """A history of the first keys."""
    history = read_history([first_entry(KEYS[0], since=FIRST, at=FIRST, by="w1")])
    for number, since in list(enumerate((SECOND, THIRD), 1))[: count - 1]:
        entry = rotation_entry(
            history, KEYS[number - 1], KEYS[number], since=since, at=since, by="ada", reason="quarterly"
        )
        history = read_history([*history.envelopes, entry])
    return history


def body_of(envelope: bytes) -> bytes:
    return msgspec.json.decode(envelope, type=Envelope).body()


def resigned(envelope: bytes, change: Callable[[bytes], bytes], *keys: Ed25519PrivateKey) -> bytes:
    body = change(body_of(envelope))
    return envelope_of(KEY_ENTRY_TYPE, body, [sign_payload(key, KEY_ENTRY_TYPE, body) for key in keys])


def test_each_key_is_good_from_its_entry_until_the_next() -> None:
    ring = made().ring()
    assert {kid: (key.since, key.until) for kid, key in ring.items()} == {
        IDS[0]: (FIRST, SECOND), IDS[1]: (SECOND, THIRD), IDS[2]: (THIRD, None),
    }  # fmt: skip


def swapped(rows: list[bytes]) -> list[bytes]:
    return [rows[0], rows[2], rows[1]]


FORGERIES: list[tuple[str, Callable[[list[bytes]], list[bytes]], str]] = [
    ("nothing at all", lambda rows: [], "history_malformed"),
    ("no envelope", lambda rows: [*rows[:2], b"{}"], "history_malformed"),
    ("an entry left out", lambda rows: [rows[0], rows[2]], "history_broken"),
    ("the beginning left out", lambda rows: rows[1:], "history_broken"),
    ("entries exchanged", swapped, "history_broken"),
    ("an entry twice", lambda rows: [*rows, rows[2]], "history_broken"),
    ("signed by the new key alone", lambda rows: [*rows[:2], resigned(rows[2], bytes, KEYS[2])], "history_unsigned"),
    ("signed by the old key alone", lambda rows: [*rows[:2], resigned(rows[2], bytes, KEYS[1])], "history_unsigned"),
    ("signed by a key before the old one",
     lambda rows: [*rows[:2], resigned(rows[2], bytes, KEYS[0], KEYS[2])], "history_unsigned"),
    ("another time under the old signatures",
     lambda rows: [*rows[:2], rows[2].replace(rows[2][12:40], rows[2][13:41])], "history_malformed"),
    ("an earlier time, signed by both",
     lambda rows: [*rows[:2], resigned(rows[2], lambda body: body.replace(b"07-01", b"03-01"), KEYS[1], KEYS[2])],
     "history_broken"),
    ("another key under the name",
     lambda rows: [*rows[:2], resigned(rows[2], lambda body: body.replace(IDS[2].encode(), b"00000000"), *KEYS[1:3])],
     "history_broken"),
    ("of another type", lambda rows: [*rows[:2], rows[2].replace(b"evidence-key+json", b"audit-packet+json")],
     "history_malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("forge", "code"), [row[1:] for row in FORGERIES], ids=[row[0] for row in FORGERIES])
def test_a_history_that_was_changed_is_none(forge: Callable[[list[bytes]], list[bytes]], code: str) -> None:
    with pytest.raises(HistoryFlaw) as told:
        read_history(forge(list(made().envelopes)))
    assert told.value.code == code


REFUSED = [
    ("by a key that is not the last", (KEYS[0], KEYS[3], at(12)), "key_differs"),
    ("to a key that was there before", (KEYS[2], KEYS[0], at(12)), "key_repeated"),
    ("before the last one begins", (KEYS[2], KEYS[3], at(6)), "time_broken"),
]


@pytest.mark.parametrize(("asked", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_rotation_is_refused(asked: tuple[Ed25519PrivateKey, Ed25519PrivateKey, str], code: str) -> None:
    old, new, since = asked
    with pytest.raises(HistoryFlaw) as told:
        rotation_entry(made(), old, new, since=since, at=since, by="ada", reason="")
    assert told.value.code == code


@pytest.mark.parametrize("trusted", range(3))
def test_whoever_trusts_one_key_of_a_history_learns_the_others_with_their_times(trusted: int) -> None:
    ring = ring_with(ring_of([KEYS[trusted].public_key()]), made())
    assert {kid: (key.since, key.until) for kid, key in ring.items()} == {
        kid: (key.since, key.until) for kid, key in made().ring().items()
    }


def test_a_history_of_strangers_is_not_believed() -> None:
    with pytest.raises(HistoryFlaw) as told:
        ring_with(ring_of([KEYS[3].public_key()]), made())
    assert told.value.code == "history_unknown"


def test_a_stranger_who_made_a_key_of_a_trusted_id_is_not_believed() -> None:
    # Ids have 32 bits; here all they say is that they are equal.
    for trusted in (
        {IDS[0]: RingKey(KEYS[3].public_key())},
        {IDS[0]: RingKey(KEYS[3].public_key()), IDS[1]: RingKey(KEYS[1].public_key())},
    ):
        with pytest.raises(HistoryFlaw, match=IDS[0]) as told:
            ring_with(trusted, made())
        assert told.value.code == "history_unknown"


def test_a_time_that_was_given_is_not_widened_by_a_history() -> None:
    trusted = {IDS[0]: RingKey(KEYS[0].public_key(), until=at(2))}
    assert ring_with(trusted, made())[IDS[0]].until == at(2)


# Who signed, when, and what is said of the head.
SIGNED = [
    ("by the first key in its time", 0, at(2), None),
    ("by the second key in its time", 1, at(5), None),
    ("by the last key", 2, at(12), None),
    ("by the old key after its time", 0, at(5), "key_out_of_time"),
    ("by the new key before its time", 1, at(2), "key_out_of_time"),
    ("by the first key, before anything", 0, "2025-12-31T23:59:59.999999Z", "key_out_of_time"),
    ("at the very moment of the change, by the new key", 1, SECOND, None),
    ("at the very moment of the change, by the old key", 0, SECOND, "key_out_of_time"),
    ("by a key of nobody", 3, at(5), "key_differs"),
]


@pytest.mark.parametrize(("signer", "moment", "code"), [row[1:] for row in SIGNED], ids=[row[0] for row in SIGNED])
def test_a_head_outside_of_its_keys_time_is_nobodys(signer: int, moment: str, code: str | None) -> None:
    head = sign_head(KEYS[signer], tenant="acme", size=3, root=bytes(32), at=moment)
    ring = made().ring()
    flaw = head_flaw_in(ring, head)
    assert (None if flaw is None else flaw[0]) == code
    note = signed_note(KEYS[signer].public_key(), head).encode()
    if code is None:
        assert read_note(note, ring) == head
        return
    with pytest.raises(NoteFlaw) as told:
        read_note(note, ring)
    assert told.value.code == code


@pytest.mark.parametrize(("signer", "moment", "code"), [row[1:] for row in SIGNED], ids=[row[0] for row in SIGNED])
def test_a_statement_outside_of_its_keys_time_is_nobodys(signer: int, moment: str, code: str | None) -> None:
    body = canonical.encode({"at": moment, "tenant": "acme"})
    data = envelope_of(ERASURE_TYPE, body, [sign_payload(KEYS[signer], ERASURE_TYPE, body)])
    assert [one.code for one in verify_text(data, made().ring()).problems] == ([] if code is None else [code])


def test_the_key_in_force_follows_from_the_time_alone() -> None:
    keys = [SigningKey(entry.key_id, entry.since) for entry in made().entries]
    moments = ["2025-01-01T00:00:00.000000Z", FIRST, at(2), SECOND, at(5), THIRD, at(12)]
    assert [in_force(keys, moment) for moment in moments] == [
        IDS[0], IDS[0], IDS[0], IDS[1], IDS[1], IDS[2], IDS[2],
    ]  # fmt: skip
    assert in_force([], FIRST) is None


def test_what_was_in_force_at_a_time_does_not_change_with_later_keys() -> None:
    assert made(3).until(at(5)) == made(2)
    assert made(3).until("2020-01-01T00:00:00.000000Z") == made(1)


@pytest.mark.parametrize("size", ["1" * 17, "1" * 5_000, "01", "-1", ""])
def test_a_note_of_no_size_is_none(size: str) -> None:
    note = f"zentra.evidence/acme\n{size}\nAAAA\nat x\n\n\N{EM DASH} a b\n".encode()
    with pytest.raises(NoteFlaw) as told:
        read_note(note, made().ring())
    assert told.value.code == "checkpoint_malformed"
    with pytest.raises(ValueError, match="checkpoint"):
        standalone.checkpoint(note.replace(b"a b", b"a AAAA"), [KEYS[0].public_key().public_bytes_raw()])


def test_a_history_comes_back_from_its_file_and_from_pem() -> None:
    history = made()
    data = msgspec.json.encode(key_files.history_file(history))
    assert key_files.history_of_file(data) == history
    times = {kid: (key.since, key.until) for kid, key in history.ring().items()}
    for ring in (
        key_files.key_ring_of_file(data),
        key_files.key_ring_of_file(key_files.pem_bundle(history.ring()).encode()),
    ):
        assert {kid: (key.since, key.until) for kid, key in ring.items()} == times
    told = json.loads(data)["keys"][0]
    assert (told["kty"], told["crv"], told["kid"], len(told["x"])) == ("OKP", "Ed25519", IDS[0], 43)
    bare = key_files.key_ring_of_file(json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": told["x"]}]}).encode())
    assert {kid: (key.since, key.until) for kid, key in bare.items()} == {IDS[0]: (None, None)}


NO_KEYS = [
    b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"{}", b'{"keys":[]}',
    b'{"keys":[{"kty":"EC","crv":"P-256","x":""}]}', b'{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}',
]  # fmt: skip


@pytest.mark.parametrize("data", NO_KEYS)
def test_what_is_no_key_is_none(data: bytes) -> None:
    with pytest.raises(ValueError, match="key"):
        key_files.key_ring_of_file(data)


def private(*keys: Ed25519PrivateKey) -> bytes:
    return b"".join(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for key in keys)


def test_private_keys_stand_one_behind_the_other() -> None:
    read = key_files.load_private_keys(private(*KEYS[:2]))
    assert [key_id(key.public_key()) for key in read] == IDS[:2]


@pytest.mark.parametrize("pem", [b"", private(KEYS[0], KEYS[0]), b"no key"])
def test_private_keys_that_are_none_or_twice_the_same_are_refused(pem: bytes) -> None:
    with pytest.raises(ValueError, match="key"):
        key_files.load_private_keys(pem)
