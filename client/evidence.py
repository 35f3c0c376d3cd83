"""Audit packets, verified offline with the public key alone: a second reading of `docs/evidence.md`.

- A packet has no slack: it is canonical JSON, and each byte is a sealed record, follows from one, or is checked against
  the signature. What is not a record is an attachment, and its digest must stand in the facts of a record.
- Integrity (nothing was changed) and completeness (the seal is there, and all it counts) are answered separately.
- The codes of problems are those of `zentra evidence verify`.
- The signature needs `cryptography` (the extra `evidence`), and nothing else here does."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import zip_longest
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from zentra.client.signatures import SignatureKey

__all__ = ["PacketProblem", "Verdict", "verify_packet"]

FORMAT: Final = "zentra.audit-packet/1"
ORIGIN: Final = "zentra.evidence/"
INTEGER_MAX: Final = 2**53 - 1
_HEX32: Final = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z", re.ASCII)
_INTEGER: Final = re.compile(r"(0|-?[1-9]\d*)\Z", re.ASCII)
_TENANT: Final = re.compile(r"[a-z][a-z0-9-]{1,30}\Z", re.ASCII)
_UNCHANGED: Final = frozenset({"not_sealed"})
_INCOMPLETE: Final = frozenset({"not_sealed", "records_missing"})
_JUDGEMENTS: Final = frozenset({"policy.review", "review.approved", "review.rejected", "review.expired"})

T = TypeVar("T")
_encode: Final = msgspec.json.Encoder(order="sorted").encode
_decode: Final = msgspec.json.Decoder().decode


class PacketProblem(Struct, frozen=True):
    """One reason not to trust a packet: a stable code, the part of the packet it concerns, and a sentence."""

    code: str
    where: str
    detail: str


class Verdict(Struct, frozen=True, kw_only=True):
    """The answer about a packet. What it is about is None where the packet could not be read that far."""

    ok: bool
    integrity: bool
    completeness: bool
    problems: tuple[PacketProblem, ...] = ()
    tenant: str | None = None
    intent: str | None = None
    intent_id: str | None = None
    records: int = 0
    attachments: int = 0
    head_size: int | None = None
    head_at: str | None = None
    key_id: str | None = None


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What has exactly these members."""


class _Head(_Strict, frozen=True):
    tenant: str
    size: int
    root: str
    at: str
    key_id: str
    signature: str


class _Leaf(_Strict, frozen=True):
    data: str
    index: int


class _Attachment(_Strict, frozen=True):
    content: str
    encoding: Literal["text", "base64"]
    sha256: str


class _Part(_Strict, frozen=True):
    hashes: list[str]
    leaf: _Leaf | None
    proof: list[str]
    records: list[str]


class _Packet(_Part, frozen=True):
    addenda: list[_Part]
    attachments: list[_Attachment]
    callbacks: list[int]
    command: dict[str, Any]
    deliveries: list[int]
    format: str
    head: _Head | None
    intent: str
    intent_id: str
    review: list[int]
    tenant: str


class _Envelope(_Strict, frozen=True, rename={"from_": "from"}):
    actor: str
    at: str
    cause: str
    event: str
    facts: dict[str, Any]
    from_: str | None
    intent: str
    intent_id: str
    scope: str
    sequence: int
    step: str | None
    tenant: str
    to: str
    trace: str


class _Entry(Struct, frozen=True):
    debit: str
    credit: str
    currency: str
    pending: str
    posted: str


def verify_packet(packet: bytes, public_key: bytes) -> Verdict:
    """Return whether `packet` is one that nobody has changed since the owner of `public_key` (PEM) signed its log.

    It never raises for what the packet holds. Problems stand in its order: the first bad record comes first. Raises
    ValueError for what is no Ed25519 public key, and MissingExtraError without the extra `evidence`."""
    key = SignatureKey(public_key)
    try:
        read = _canonical(packet, _Packet)
    except ValueError as error:
        malformed = PacketProblem("malformed", "packet", str(error))
        return Verdict(ok=False, integrity=False, completeness=False, problems=(malformed,))
    check = _Check(read, key)
    problems = tuple(check.run())
    codes = {problem.code for problem in problems}
    head = read.head
    return Verdict(
        ok=not problems,
        integrity=codes <= _UNCHANGED,
        completeness=not codes & _INCOMPLETE,
        problems=problems,
        tenant=read.tenant,
        intent=read.intent,
        intent_id=read.intent_id,
        records=check.count,
        attachments=len(read.attachments),
        head_size=head.size if head else None,
        head_at=head.at if head else None,
        key_id=head.key_id if head else None,
    )


class _Check:
    """One pass over a packet. It carries what the next record must continue."""

    def __init__(self, packet: _Packet, key: SignatureKey) -> None:
        self.packet, self.key = packet, key
        self.count, self.link, self.sequence = 0, bytes(32), 0
        self.before: _Envelope | None = None
        self.read: list[_Envelope] = []

    def run(self) -> Iterator[PacketProblem]:
        packet, head = self.packet, self.packet.head
        if packet.format != FORMAT:
            yield PacketProblem("format_unknown", "packet", f"the format is {packet.format!r}, not {FORMAT!r}")
        if head is not None:
            flaw = _head_flaw(head, self.key)
            if flaw is not None:
                yield PacketProblem(flaw[0], "head", flaw[1])
            if head.tenant != packet.tenant:
                yield PacketProblem("tenant_differs", "head", f"the head is of {head.tenant!r}, not {packet.tenant!r}")
        yield from self._part(packet, "packet", "packet")
        for number, addendum in enumerate(packet.addenda, 1):
            yield from self._part(addendum, "addendum", f"addendum {number}")
        yield from self._derived()
        yield from self._attachments()

    def _part(self, part: _Part, kind: str, where: str) -> Iterator[PacketProblem]:
        if not part.records:
            yield PacketProblem("records_missing", where, "there are no records")
        for text, claimed in zip_longest(part.records, part.hashes):
            if text is None:
                yield PacketProblem("records_missing", where, f"a hash has no record: {claimed!r}")
            else:
                yield from self._record(text, claimed)
        yield from self._seal(part, kind, where)

    def _record(self, text: str, claimed: str | None) -> Iterator[PacketProblem]:
        self.count += 1
        data = text.encode()
        where, record = f"record {self.sequence + 1}", None
        try:
            record = _canonical(data, _Envelope)
            where += f" ({record.event})"
        except ValueError as error:
            yield PacketProblem("record_malformed", where, str(error))
        link = sha256(self.link + data).digest()
        if claimed != link.hex():
            yield PacketProblem(
                "chain_broken", where, "its hash does not follow from its bytes and the record before it"
            )
        # Going on from the claimed hash names the record that was changed, and not all of those behind it.
        self.link = bytes.fromhex(claimed) if claimed is not None and _HEX32.match(claimed) else link
        self.sequence += 1
        if record is not None:
            yield from self._continues(record, where)
            yield from _entries(record, where)
            self.sequence, self.before = record.sequence, record
            self.read.append(record)

    def _continues(self, record: _Envelope, where: str) -> Iterator[PacketProblem]:
        packet, before = self.packet, self.before
        for name in ("tenant", "intent", "intent_id"):
            theirs, ours = getattr(record, name), getattr(packet, name)
            if theirs != ours:
                yield PacketProblem(f"{name}_differs", where, f"its {name} is {theirs!r}, the packet's is {ours!r}")
        if record.sequence != self.sequence:
            yield PacketProblem("sequence_broken", where, f"its sequence is {record.sequence}, not {self.sequence}")
        expected = before.to if before is not None else None
        if record.from_ != expected:
            detail = f"it moves from {record.from_!r}, the intent stood at {expected!r}"
            yield PacketProblem("state_broken", where, detail)
        if not _TIME.match(record.at):
            yield PacketProblem("time_malformed", where, f"its time is {record.at!r}")
        elif before is not None and record.at <= before.at:
            yield PacketProblem("time_broken", where, f"its time {record.at} is not after {before.at}")

    def _seal(self, part: _Part, kind: str, where: str) -> Iterator[PacketProblem]:
        leaf, head, packet = part.leaf, self.packet.head, self.packet
        if leaf is None or head is None:
            yield PacketProblem("not_sealed", where, "no signed head covers its records")
            if leaf is None and part.proof:
                yield PacketProblem("proof_invalid", where, "there is a proof and no leaf")
        if leaf is None:
            return
        committed = {"chain": self.link.hex(), "intent": packet.intent, "kind": kind, "records": self.count}
        if leaf.data != _encode({**committed, "tenant": packet.tenant}).decode():
            short = f'"records":{self.count},' not in leaf.data
            detail = f"the leaf does not commit to the {self.count} records up to here: {leaf.data}"
            yield PacketProblem("records_missing" if short else "leaf_differs", where, detail)
        if not all(_HEX32.match(node) for node in part.proof):
            yield PacketProblem("proof_invalid", where, "the proof is not a list of hashes")
        elif head is not None and _HEX32.match(head.root):
            proof, root = [bytes.fromhex(node) for node in part.proof], bytes.fromhex(head.root)
            if not _included(sha256(b"\0" + leaf.data.encode()).digest(), leaf.index, head.size, proof, root):
                detail = f"the log under the head has no such leaf at {leaf.index}"
                yield PacketProblem("proof_invalid", where, detail)

    def _derived(self) -> Iterator[PacketProblem]:
        """Check what the packet repeats from its records."""
        packet = self.packet
        for name, sequences in _contents(self.read).items():
            if getattr(packet, name) != sequences:
                yield PacketProblem("contents_differ", name, f"the records say {sequences}")
        command = self.read[0].facts.get("command") if self.read else None
        # Bytes are compared, because to Python `True` equals 1.
        if self.read and _encode(packet.command) != _encode(command if isinstance(command, dict) else {}):
            yield PacketProblem("command_differs", "command", "it is not the command in the first record")

    def _attachments(self) -> Iterator[PacketProblem]:
        covered = {text for record in self.read for text in _digests(record.facts)}
        previous = ""
        for number, one in enumerate(self.packet.attachments, 1):
            where = f"attachment {number}"
            try:
                encoded = one.content.encode()
                content = encoded if one.encoding == "text" else base64.b64decode(encoded, validate=True)
            except binascii.Error as error:
                yield PacketProblem("attachment_malformed", where, str(error))
                continue
            # Only one spelling is the right one: a wrong digest and loose base64 both differ from it.
            if _attachment(content) != one:
                detail = "its content does not have this digest or this encoding"
                yield PacketProblem("attachment_differs", where, detail)
            elif one.sha256 not in covered:
                yield PacketProblem("attachment_uncovered", where, f"no record names {one.sha256}")
            if one.sha256 <= previous:
                detail = "attachments stand once each, in the order of digests"
                yield PacketProblem("attachments_unsorted", where, detail)
            previous = one.sha256


# The head and the log.


def _head_flaw(head: _Head, key: SignatureKey) -> tuple[str, str] | None:
    """Return why `head` is not one that the owner of `key` signed, as (code, sentence), or None."""
    if not (_TENANT.match(head.tenant) and _TIME.match(head.at) and _HEX32.match(head.root)) or head.size < 0:
        return "head_malformed", "a field of it is not what it should be"
    if head.key_id != key.id:
        return "key_differs", f"it names key {head.key_id!r}, the key given is {key.id}"
    root = base64.b64encode(bytes.fromhex(head.root)).decode()
    signed = f"{ORIGIN}{head.tenant}\n{head.size}\n{root}\nat {head.at}\n".encode()
    try:
        signature = bytes.fromhex(head.signature)
    except ValueError:
        return "signature_invalid", "the signature is not hex"
    if signature.hex() != head.signature or not key.verifies(signature, signed):
        return "signature_invalid", "the signature is not this key's over this head"
    return None


def _included(hashed: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether the log of `size` leaves under `root` holds `hashed` at `index` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last = index, size - 1
    for sibling in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            hashed = sha256(b"\1" + sibling + hashed).digest()
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            hashed = sha256(b"\1" + hashed + sibling).digest()
        place, last = place >> 1, last >> 1
    return last == 0 and hashed == root


# Helpers.


def _canonical(data: bytes, kind: type[T]) -> T:
    """Return what canonical JSON (RFC 8785, without floats and wide integers) spells. Raises ValueError."""
    try:
        value = _decode(data)
        if not _permitted(value) or _encode(value) != data:
            raise ValueError("not the one canonical spelling of a permitted value")
        return msgspec.convert(value, kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _permitted(value: object) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if not all(isinstance(key, str) and key.isascii() for key in item):
                return False
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, int):
            if not -INTEGER_MAX <= item <= INTEGER_MAX:
                return False
        elif item is not None and not isinstance(item, str):
            return False
    return True


def _contents(records: Sequence[_Envelope]) -> Mapping[str, list[int]]:
    """Return which records tell of callbacks, of deliveries, and of a person's judgement."""
    return {
        "callbacks": [one.sequence for one in records if one.event == "provider.callback"],
        "deliveries": [one.sequence for one in records if one.event.startswith("webhook.")],
        "review": [one.sequence for one in records if one.event in _JUDGEMENTS],
    }


def _entries(record: _Envelope, where: str) -> Iterator[PacketProblem]:
    if "entries" not in record.facts:
        return
    try:
        entries = msgspec.convert(record.facts["entries"], list[_Entry])
    except msgspec.ValidationError as error:
        yield PacketProblem("entry_malformed", where, str(error))
        return
    for number, entry in enumerate(entries, 1):
        if not (entry.debit and entry.credit and entry.currency) or entry.debit == entry.credit:
            detail = f"entry {number} does not name two accounts and a currency"
            yield PacketProblem("entry_unbalanced", where, detail)
        if not (_INTEGER.match(entry.pending) and _INTEGER.match(entry.posted)):
            yield PacketProblem("entry_malformed", where, f"entry {number} has an amount that is not an integer")


def _digests(facts: dict[str, Any]) -> Iterator[str]:
    waiting: list[Any] = [facts]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if _HEX32.match(item):
                yield item
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _attachment(content: bytes) -> _Attachment:
    digest = sha256(content).hexdigest()
    try:
        return _Attachment(content=content.decode(), encoding="text", sha256=digest)
    except UnicodeDecodeError:
        return _Attachment(content=base64.b64encode(content).decode(), encoding="base64", sha256=digest)
