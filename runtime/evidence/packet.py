"""Evidence: the chain under an intent's records, and the packet that shows them whole to whoever holds a public key.

- A record is sealed as the bytes that were stored. Checking never spells it again, so nothing has to be agreed on.
- `hash(n) = SHA256(hash(n-1) || record n)`, from 32 zero bytes. A leaf of the tenant's log commits to the chain so far
  and to the number of records; a signed head commits to all leaves. Whoever lacks the key can rewrite neither.
- An addendum continues the chain of its packet: its leaf counts the records from the first one.
- A packet has no slack: it is canonical JSON, and each byte is a sealed record, follows from one, or is checked against
  the signature. What is not a record is an attachment, and its digest must stand in the facts of a record.
- Integrity (nothing was changed) and completeness (the seal is there, and all it counts) are answered separately.
- Nothing here reads a clock, a file or a key store: time, bytes and keys are arguments. Equal arguments, equal bytes.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import zip_longest
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from zentra.runtime.evidence import canonical, merkle
from zentra.runtime.evidence.chain import GENESIS, chain
from zentra.runtime.evidence.contradictions import contradictions, uncovered
from zentra.runtime.evidence.heads import TreeHead
from zentra.runtime.evidence.keyring import KeyRing, head_flaw_in, ring_of

__all__ = [
    "FORMAT",
    "Addendum",
    "Attachment",
    "Leaf",
    "LeafKind",
    "Packet",
    "Problem",
    "Sealed",
    "Verdict",
    "build_packet",
    "leaf_data",
    "verify_packet",
]

FORMAT: Final = "zentra.audit-packet/1"

LeafKind: TypeAlias = Literal["packet", "addendum"]

_HEX32: Final = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z", re.ASCII)
_INTEGER: Final = re.compile(r"(0|-?[1-9]\d*)\Z", re.ASCII)
# A packet without a seal may be true, and one that lacks records is both changed and incomplete.
_UNCHANGED: Final = frozenset({"not_sealed"})
_INCOMPLETE: Final = frozenset({"not_sealed", "records_missing"})


class Leaf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The exact bytes of a leaf, and its place in the tenant's log."""

    data: str
    index: int


class Attachment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes that a record's facts name by digest: as text where they are UTF-8, else in base64."""

    content: str
    encoding: Literal["text", "base64"]
    sha256: str


class Addendum(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Records that came after the packet was sealed, and their own place in the log."""

    hashes: list[str]
    leaf: Leaf | None
    proof: list[str]
    records: list[str]


class Packet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an export holds. `callbacks`, `deliveries`, `review` are tables of contents: sequences of such records."""

    addenda: list[Addendum]
    attachments: list[Attachment]
    callbacks: list[int]
    command: dict[str, Any]
    deliveries: list[int]
    format: str
    hashes: list[str]
    head: TreeHead | None
    intent: str
    intent_id: str
    leaf: Leaf | None
    proof: list[str]
    records: list[str]
    review: list[int]
    tenant: str


class Sealed(msgspec.Struct, frozen=True):
    """What a store knows of a packet or an addendum: its records, and the leaf's place and proof once there is one."""

    records: tuple[bytes, ...]
    index: int | None = None
    proof: tuple[bytes, ...] = ()


class Problem(msgspec.Struct, frozen=True):
    """One reason not to trust a packet: a stable code, the part of the packet it concerns, and a sentence."""

    code: str
    where: str
    detail: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The answer about a packet. What it was about is None where the packet could not be read that far."""

    ok: bool
    integrity: bool
    completeness: bool
    problems: tuple[Problem, ...] = ()
    tenant: str | None = None
    intent: str | None = None
    intent_id: str | None = None
    records: int = 0
    attachments: int = 0
    head_size: int | None = None
    head_at: str | None = None
    key_id: str | None = None
    not_covered: tuple[int, ...] = ()  # sizes of anchors that nothing here can be held to


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"from_": "from"}):
    """A record as a verifier sees it: the facts of every version of the runtime, so of no particular type."""

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


class _Entry(msgspec.Struct, frozen=True):
    """The part of a ledger entry that every version has; both sides on one row, so it cannot be unbalanced."""

    debit: str
    credit: str
    currency: str
    pending: str
    posted: str


class _LeafData(msgspec.Struct, frozen=True, gc=False):
    """What a leaf says, in canonical order."""

    chain: str
    intent: str
    kind: LeafKind
    records: int
    tenant: str


def leaf_data(*, tenant: str, intent: str, kind: LeafKind, chain: bytes, records: int) -> bytes:
    """Return the bytes of the leaf that seals the first `records` records of `intent`, hashed up to `chain`."""
    return canonical.encode(_LeafData(chain.hex(), intent, kind, records, tenant))


# The packet.


def build_packet(
    sealed: Sealed, head: TreeHead | None, *, addenda: Sequence[Sealed] = (), attachments: Sequence[bytes] = ()
) -> bytes:
    """Return the packet of one intent: whom it concerns and what was asked are read from its first record.

    Equal arguments give equal bytes; the order of `attachments` and repeats among them do not matter. Nothing is
    verified here. Raises `ValueError` when there is no record, or a record is not one.
    """
    if not sealed.records:
        raise ValueError("a packet has at least one record")
    read = [_envelope(data) for part in (sealed, *addenda) for data in part.records]
    first = read[0]
    parts: list[Addendum] = []
    link, count = GENESIS, 0
    for part in (sealed, *addenda):
        hashes: list[str] = []
        for record in part.records:
            link = chain(link, record)
            hashes.append(link.hex())
        count += len(part.records)
        leaf = None
        if part.index is not None:
            kind: LeafKind = "addendum" if parts else "packet"
            data = leaf_data(tenant=first.tenant, intent=first.intent, kind=kind, chain=link, records=count)
            leaf = Leaf(data.decode(), part.index)
        texts = [record.decode() for record in part.records]
        parts.append(Addendum(hashes=hashes, leaf=leaf, proof=[node.hex() for node in part.proof], records=texts))
    body = parts[0]
    return canonical.encode(
        Packet(
            addenda=parts[1:],
            attachments=sorted({_attachment(content) for content in attachments}, key=lambda one: one.sha256),
            command=_command(first),
            format=FORMAT,
            hashes=body.hashes,
            head=head,
            intent=first.intent,
            intent_id=first.intent_id,
            leaf=body.leaf,
            proof=body.proof,
            records=body.records,
            tenant=first.tenant,
            **_contents(read),
        )
    )


def verify_packet(data: bytes, keys: Ed25519PublicKey | KeyRing, *, anchors: Sequence[TreeHead] = ()) -> Verdict:
    """Return whether `data` is a packet that nobody has changed since the owner of one of `keys` signed its log.

    `anchors` are heads that were verified and kept elsewhere: the packet's head must not contradict one. Those of
    other sizes cover nothing of it, which the verdict tells (`not_covered`).
    It never raises for what `data` holds. Problems stand in the order of the packet: the first bad record comes first.
    """
    try:
        packet = _converted(canonical.decode(data), Packet)
    except ValueError as error:
        return Verdict(
            ok=False, integrity=False, completeness=False, problems=(_problem("malformed", "packet", error),)
        )
    ring = ring_of([keys]) if isinstance(keys, Ed25519PublicKey) else keys
    check = _Check(packet, ring)
    problems = (*check.run(), *_anchored(packet, anchors))
    codes = {problem.code for problem in problems}
    head = packet.head
    return Verdict(
        ok=not problems,
        integrity=codes <= _UNCHANGED,
        completeness=not codes & _INCOMPLETE,
        problems=problems,
        tenant=packet.tenant,
        intent=packet.intent,
        intent_id=packet.intent_id,
        records=check.count,
        attachments=len(packet.attachments),
        head_size=head.size if head else None,
        head_at=head.at if head else None,
        key_id=head.key_id if head else None,
        not_covered=uncovered(anchors, [] if head is None else [head]),
    )


class _Check:
    """One pass over a packet. It carries what the next record must continue."""

    def __init__(self, packet: Packet, ring: KeyRing) -> None:
        self.packet, self.ring = packet, ring
        self.count, self.link, self.sequence = 0, GENESIS, 0
        self.before: _Envelope | None = None
        self.read: list[_Envelope] = []

    def run(self) -> Iterator[Problem]:
        packet, head = self.packet, self.packet.head
        if packet.format != FORMAT:
            yield _problem("format_unknown", "packet", f"the format is {packet.format!r}, not {FORMAT!r}")
        if head is not None:
            flaw = head_flaw_in(self.ring, head)
            if flaw is not None:
                yield Problem(flaw[0], "head", flaw[1])
            if head.tenant != packet.tenant:
                yield _problem("tenant_differs", "head", f"the head is of {head.tenant!r}, not {packet.tenant!r}")
        body = Addendum(hashes=packet.hashes, leaf=packet.leaf, proof=packet.proof, records=packet.records)
        yield from self._part(body, "packet", "packet")
        for number, addendum in enumerate(packet.addenda, 1):
            yield from self._part(addendum, "addendum", f"addendum {number}")
        yield from self._derived()
        yield from self._attachments()

    def _part(self, part: Addendum, kind: LeafKind, where: str) -> Iterator[Problem]:
        if not part.records:
            yield _problem("records_missing", where, "there are no records")
        for text, claimed in zip_longest(part.records, part.hashes):
            if text is None:
                yield _problem("records_missing", where, f"a hash has no record: {claimed!r}")
            else:
                yield from self._record(text, claimed)
        yield from self._seal(part, kind, where)

    def _record(self, text: str, claimed: str | None) -> Iterator[Problem]:
        self.count += 1
        data = text.encode()
        where, record = f"record {self.sequence + 1}", None
        try:
            record = _envelope(data)
            where += f" ({record.event})"
        except ValueError as error:
            yield _problem("record_malformed", where, error)
        link = chain(self.link, data)
        if claimed != link.hex():
            yield _problem("chain_broken", where, "its hash does not follow from its bytes and the record before it")
        # Going on from the claimed hash names the record that was changed, and not all of those behind it.
        self.link = bytes.fromhex(claimed) if claimed is not None and _HEX32.match(claimed) else link
        self.sequence += 1
        if record is not None:
            yield from self._continues(record, where)
            yield from _entries(record, where)
            self.sequence, self.before = record.sequence, record
            self.read.append(record)

    def _continues(self, record: _Envelope, where: str) -> Iterator[Problem]:
        packet, before = self.packet, self.before
        for name in ("tenant", "intent", "intent_id"):
            theirs, ours = getattr(record, name), getattr(packet, name)
            if theirs != ours:
                yield _problem(f"{name}_differs", where, f"its {name} is {theirs!r}, the packet's is {ours!r}")
        if record.sequence != self.sequence:
            yield _problem("sequence_broken", where, f"its sequence is {record.sequence}, not {self.sequence}")
        expected = before.to if before is not None else None
        if record.from_ != expected:
            yield _problem("state_broken", where, f"it moves from {record.from_!r}, the intent stood at {expected!r}")
        if not _TIME.match(record.at):
            yield _problem("time_malformed", where, f"its time is {record.at!r}")
        elif before is not None and record.at <= before.at:
            yield _problem("time_broken", where, f"its time {record.at} is not after {before.at}")

    def _seal(self, part: Addendum, kind: LeafKind, where: str) -> Iterator[Problem]:
        leaf, head, packet = part.leaf, self.packet.head, self.packet
        if leaf is None or head is None:
            yield _problem("not_sealed", where, "no signed head covers its records")
            if leaf is None and part.proof:
                yield _problem("proof_invalid", where, "there is a proof and no leaf")
        if leaf is None:
            return
        expected = leaf_data(
            tenant=packet.tenant, intent=packet.intent, kind=kind, chain=self.link, records=self.count
        ).decode()
        if leaf.data != expected:
            short = f'"records":{self.count},' not in leaf.data
            detail = f"the leaf does not commit to the {self.count} records up to here: {leaf.data}"
            yield _problem("records_missing" if short else "leaf_differs", where, detail)
        if not all(_HEX32.match(node) for node in part.proof):
            yield _problem("proof_invalid", where, "the proof is not a list of hashes")
        elif head is not None and _HEX32.match(head.root):
            proof, root = [bytes.fromhex(node) for node in part.proof], bytes.fromhex(head.root)
            hashed = merkle.leaf_hash(leaf.data.encode())
            if not merkle.verify_inclusion(hashed, leaf.index, head.size, proof, root):
                yield _problem("proof_invalid", where, f"the log under the head has no such leaf at {leaf.index}")

    def _derived(self) -> Iterator[Problem]:
        """Check what the packet repeats from its records."""
        packet = self.packet
        for name, sequences in _contents(self.read).items():
            if getattr(packet, name) != sequences:
                yield _problem("contents_differ", name, f"the records say {sequences}")
        # Bytes are compared, because to Python `True` equals 1.
        if self.read and canonical.encode(packet.command) != canonical.encode(_command(self.read[0])):
            yield _problem("command_differs", "command", "it is not the command in the first record")

    def _attachments(self) -> Iterator[Problem]:
        covered = {text for record in self.read for text in _digests(record.facts)}
        previous = ""
        for number, attachment in enumerate(self.packet.attachments, 1):
            where = f"attachment {number}"
            try:
                encoded = attachment.content.encode()
                content = encoded if attachment.encoding == "text" else base64.b64decode(encoded, validate=True)
            except binascii.Error as error:
                yield _problem("attachment_malformed", where, error)
                continue
            # Only one spelling is the right one: a wrong digest and loose base64 both differ from it.
            if _attachment(content) != attachment:
                yield _problem("attachment_differs", where, "its content does not have this digest or this encoding")
            elif attachment.sha256 not in covered:
                yield _problem("attachment_uncovered", where, f"no record names {attachment.sha256}")
            if attachment.sha256 <= previous:
                yield _problem("attachments_unsorted", where, "attachments stand once each, in the order of digests")
            previous = attachment.sha256


def _anchored(packet: Packet, anchors: Sequence[TreeHead]) -> Iterator[Problem]:
    """Hold the packet's head to heads that somebody kept, and these to each other."""
    head = packet.head
    heads = [one for one in anchors if head is not None and one.tenant == head.tenant]
    for code, where, detail in contradictions([*heads, head] if head is not None else heads):
        yield Problem(code, where, detail)
    for anchor in anchors if head is not None else ():
        assert head is not None
        if anchor.tenant != head.tenant:
            yield _problem("tenant_differs", "anchor", f"it is of {anchor.tenant!r}, not {head.tenant!r}")


# Helpers.

_T = TypeVar("_T")


def _problem(code: str, where: str, detail: object) -> Problem:
    return Problem(code, where, str(detail))


def _converted(value: Any, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def _envelope(data: bytes) -> _Envelope:
    return _converted(canonical.decode(data), _Envelope)


def _command(first: _Envelope) -> dict[str, Any]:
    command = first.facts.get("command")
    return command if isinstance(command, dict) else {}


def _contents(records: Sequence[_Envelope]) -> dict[str, list[int]]:
    """Return the tables of contents: which records tell of callbacks, of deliveries, and of a person's judgement."""
    contents: dict[str, list[int]] = {"callbacks": [], "deliveries": [], "review": []}
    for record in records:
        if record.event == "provider.callback":
            contents["callbacks"].append(record.sequence)
        elif record.event.startswith("webhook."):
            contents["deliveries"].append(record.sequence)
        elif record.event in ("policy.review", "review.approved", "review.rejected", "review.expired"):
            contents["review"].append(record.sequence)
    return contents


def _entries(record: _Envelope, where: str) -> Iterator[Problem]:
    if "entries" not in record.facts:
        return
    try:
        entries = _converted(record.facts["entries"], list[_Entry])
    except ValueError as error:
        yield _problem("entry_malformed", where, error)
        return
    for number, entry in enumerate(entries, 1):
        if not (entry.debit and entry.credit and entry.currency) or entry.debit == entry.credit:
            yield _problem("entry_unbalanced", where, f"entry {number} does not name two accounts and a currency")
        if not (_INTEGER.match(entry.pending) and _INTEGER.match(entry.posted)):
            yield _problem("entry_malformed", where, f"entry {number} has an amount that is not an integer")


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


def _attachment(content: bytes) -> Attachment:
    digest = sha256(content).hexdigest()
    try:
        return Attachment(content.decode(), "text", digest)
    except UnicodeDecodeError:
        return Attachment(base64.b64encode(content).decode(), "base64", digest)
