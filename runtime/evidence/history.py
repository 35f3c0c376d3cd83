"""The history of an installation's evidence keys: who may have signed when, told by entries that the keys signed.

- The first entry is signed by its own key. Every later one brings a key in and is signed by it and by the key before:
  whoever trusts one key of a history learns the others without trusting whoever hands the history out.
- An entry carries the digest of the entry before it: none can be left out, put in or exchanged.
- A key is in force from its `since` until that of the next one. Which key signs a head follows from the time in the
  head, never from who happens to sign it.
- An entry is a DSSE envelope over canonical JSON: evidence by itself, verified like any other.
"""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final, Literal, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from zentra.runtime.evidence import canonical
from zentra.runtime.evidence.envelopes import Envelope, envelope_flaw, envelope_of, sign_payload
from zentra.runtime.evidence.heads import key_id
from zentra.runtime.evidence.keyring import KeyRing, RingKey, ring_of

__all__ = [
    "HISTORY_FORMAT", "KEY_ENTRY_TYPE", "HistoryFlaw", "KeyEntry", "KeyHistory", "SignHead", "SigningKey",
    "first_entry", "in_force", "read_history", "ring_with", "rotation_entry",
]  # fmt: skip

KEY_ENTRY_TYPE: Final = "application/vnd.zentra.evidence-key+json"
HISTORY_FORMAT: Final = "zentra.evidence-keys/1"
ENTRIES_MAX: Final = 10_000  # a rotation a day for a quarter of a century
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z", re.ASCII)
_NOTHING: Final = "0" * 64


class HistoryFlaw(ValueError):
    """Raised for what is no history of keys; `code` is stable."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class KeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key that is in force from `since` on. Times are RFC 3339 in UTC with microseconds; `previous` is the SHA-256 of
    the payload of the entry before it, in hex; `public_key` is base64 of 32 bytes."""

    at: str
    by: str
    format: Literal["zentra.evidence-keys/1"]
    key_id: str
    number: int
    previous: str
    public_key: str
    reason: str
    since: str


class KeyHistory(msgspec.Struct, frozen=True):
    """A history that was verified: entries in order, and the envelope of each."""

    entries: tuple[KeyEntry, ...] = ()
    envelopes: tuple[bytes, ...] = ()

    def ring(self) -> KeyRing:
        """Return every key with its time."""
        ends = [entry.since for entry in self.entries[1:]]
        return {
            entry.key_id: RingKey(_public(entry), entry.since, until)
            for entry, until in zip(self.entries, [*ends, None], strict=False)  # an empty history has no last key
        }

    def until(self, at: str) -> "KeyHistory":
        """Return the part that was in force at a time; the first entry always was."""
        count = max(1, sum(entry.since <= at for entry in self.entries))
        return KeyHistory(self.entries[:count], self.envelopes[:count])

    def standing(self, at: str) -> tuple[int, str]:
        """Return how many entries were in force at a time, and the digest of the last of them, which covers all; a
        history that has an entry."""
        there = self.until(at)
        return len(there.entries), _digest(there.envelopes[-1])


class SigningKey(msgspec.Struct, frozen=True):
    """A key that is in force from `since` on, RFC 3339, as a worker has to know it."""

    key_id: str
    since: str


SignHead: TypeAlias = Callable[[str, int, bytes, datetime], tuple[str, bytes]]
"""Tenant, size, root and time of a head -> the id of the key and its signature."""


def in_force(keys: Sequence[SigningKey], at: str) -> str | None:
    """Return the id of the key in force at a time, or None where there are no keys: `keys` stand in their order."""
    found = None
    for key in keys:
        if found is None or key.since <= at:
            found = key.key_id
    return found


def first_entry(key: Ed25519PrivateKey, *, since: str, at: str, by: str, reason: str = "the first key") -> bytes:
    """Return the entry that begins a history; equal arguments give equal bytes."""
    body = _body(key.public_key(), number=1, previous=_NOTHING, since=since, at=at, by=by, reason=reason)
    return envelope_of(KEY_ENTRY_TYPE, body, [sign_payload(key, KEY_ENTRY_TYPE, body)])


def rotation_entry(
    history: KeyHistory, old: Ed25519PrivateKey, new: Ed25519PrivateKey, *, since: str, at: str, by: str, reason: str
) -> bytes:
    """Return the entry that lets `new` follow the last key of the history, signed by both.

    Raises HistoryFlaw where `old` is not the last key, `new` is in the history, or `since` is not behind the last."""
    last = history.entries[-1]
    if not _same(old.public_key(), _public(last)):
        raise HistoryFlaw("key_differs", f"key {last.key_id} signs last, not {key_id(old.public_key())}")
    if any(entry.key_id == key_id(new.public_key()) for entry in history.entries):
        raise HistoryFlaw("key_repeated", f"key {key_id(new.public_key())} is in the history already; make another one")
    if since <= last.since:
        raise HistoryFlaw("time_broken", f"key {last.key_id} is in force from {last.since} on, so {since} is too early")
    body = _body(
        new.public_key(), number=last.number + 1, previous=_digest(history.envelopes[-1]), since=since, at=at, by=by,
        reason=reason,
    )  # fmt: skip
    return envelope_of(KEY_ENTRY_TYPE, body, [sign_payload(key, KEY_ENTRY_TYPE, body) for key in (old, new)])


def read_history(envelopes: Sequence[bytes]) -> KeyHistory:
    """Return the history that these entries are, each signed by its own key and by the one before it.

    Whose history it is they do not say: see `ring_with`. Raises HistoryFlaw."""
    if not 0 < len(envelopes) <= ENTRIES_MAX:
        raise HistoryFlaw("history_malformed", f"a history has 1 to {ENTRIES_MAX} entries, this has {len(envelopes)}")
    entries: list[KeyEntry] = []
    known: dict[str, Ed25519PublicKey] = {}
    previous = _NOTHING
    for number, data in enumerate(envelopes, 1):
        envelope, body = _opened(data, number)
        try:
            canonical.decode(body)
            entry = msgspec.json.decode(body, type=KeyEntry)
            public = _public(entry)
        except (ValueError, msgspec.MsgspecError) as error:
            raise HistoryFlaw("history_malformed", f"entry {number}: {error}") from error
        if entry.number != number or entry.previous != previous:
            raise HistoryFlaw("history_broken", f"entry {number} does not follow the entry before it")
        if entry.key_id != key_id(public) or entry.key_id in known:
            raise HistoryFlaw("history_broken", f"entry {number} does not bring a key of its own: {entry.key_id}")
        if not (_TIME.match(entry.since) and _TIME.match(entry.at)) or (entries and entry.since <= entries[-1].since):
            raise HistoryFlaw("history_broken", f"entry {number}: its times do not follow those before it")
        for signer in (public, *([known[entries[-1].key_id]] if entries else ())):
            flaw = envelope_flaw(ring_of([signer]), KEY_ENTRY_TYPE, body, envelope.signatures)
            if flaw is not None:
                raise HistoryFlaw("history_unsigned", f"entry {number} is not signed by key {key_id(signer)}")
        entries.append(entry)
        known[entry.key_id] = public
        previous = sha256(body).hexdigest()
    return KeyHistory(tuple(entries), tuple(envelopes))


def ring_with(trusted: KeyRing, history: KeyHistory) -> KeyRing:
    """Return the keys of a history that has a trusted key in it, each with its time, and the other trusted ones.

    A key that has no time where it is trusted gets the time of the history. Raises HistoryFlaw `history_unknown` where
    no key of the history is trusted, byte for byte: an id has 32 bits, and whoever wants one makes a key for it."""
    told = history.ring()
    same = {kid: _same(key.public, trusted[kid].public) for kid, key in told.items() if kid in trusted}
    if not all(same.values()):
        named = ", ".join(sorted(kid for kid, equal in same.items() if not equal))
        raise HistoryFlaw("history_unknown", f"it has another key of the id {named} than the one given")
    if not same:
        named = ", ".join(sorted(told))
        raise HistoryFlaw("history_unknown", f"it is a history of other keys than those given: {named}")
    joined: dict[str, RingKey] = dict(trusted)
    for kid, key in told.items():
        given = trusted.get(kid)
        if given is None:
            joined[kid] = key
        else:
            joined[kid] = RingKey(key.public, given.since or key.since, given.until or key.until)
    return joined


def _same(one: Ed25519PublicKey, other: Ed25519PublicKey) -> bool:
    return one.public_bytes_raw() == other.public_bytes_raw()


def _body(public: Ed25519PublicKey, *, number: int, previous: str, since: str, at: str, by: str, reason: str) -> bytes:
    return canonical.encode(
        KeyEntry(
            at=at, by=by, format=HISTORY_FORMAT, key_id=key_id(public), number=number, previous=previous,
            public_key=base64.b64encode(public.public_bytes_raw()).decode(), reason=reason, since=since,
        )
    )  # fmt: skip


def _opened(data: bytes, number: int) -> tuple[Envelope, bytes]:
    try:
        envelope = msgspec.json.decode(data, type=Envelope)
        body = envelope.body()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise HistoryFlaw("history_malformed", f"entry {number} is no envelope: {error}") from error
    if envelope.payload_type != KEY_ENTRY_TYPE:
        raise HistoryFlaw("history_malformed", f"entry {number} carries {envelope.payload_type!r}")
    return envelope, body


def _digest(envelope: bytes) -> str:
    return sha256(msgspec.json.decode(envelope, type=Envelope).body()).hexdigest()


def _public(entry: KeyEntry) -> Ed25519PublicKey:
    try:
        raw = base64.b64decode(entry.public_key, validate=True)
    except binascii.Error as error:
        raise ValueError(f"the public key is not base64: {error}") from error
    return Ed25519PublicKey.from_public_bytes(raw)
