"""How far the leaves of a log seal each intent, and whether each leaf goes on where the one before it ended.

- An addendum says which hash it follows. That is believed only where the leaf of the same intent before it ends there:
  else a record between the two could be left out, and the rest would still fit together.
- The leaves of a part are held to each other, and parts to the parts before them.
- Of a leaf from before the range the proof counts, not where it came from: one that is proven by the opening checkpoint
  is as good as one of the range. Each has to be followed by an addendum of its intent, or it says nothing here.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from zentra.runtime.evidence import merkle
from zentra.runtime.evidence.bundle import EarlierLine

__all__ = ["Flaw", "Link", "Seal", "Sealed", "Seals", "decode_sealed"]

Flaw = tuple[str, str, str]
"""What is wrong: a stable code, where, and a sentence."""


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """What a leaf says: so many records of this intent, hashed up to `chain`."""

    chain: str
    intent: str
    kind: str
    records: int
    tenant: str


decode_sealed: Final = msgspec.json.Decoder(Sealed).decode
_decode_earlier: Final = msgspec.json.Decoder(EarlierLine).decode


class Seal(msgspec.Struct, frozen=True, gc=False):
    """How far a leaf seals an intent: so many records, hashed up to `chain`, in hex; and whether they are left out."""

    records: int
    chain: str
    left_out: bool


class Link(msgspec.Struct, frozen=True, gc=False):
    """What an addendum says to follow; its place, and the count of records that it seals."""

    index: int
    after: Seal
    records: int


class Seals:
    """The last seal of each intent, and the addenda whose intents have no leaf before them here."""

    def __init__(self) -> None:
        self.last: dict[str, Seal] = {}
        self.open: dict[str, Link] = {}
        self._awaited: dict[str, int] = {}  # leaves from before the range that nothing has followed yet

    def earlier(self, lines: Iterable[bytes], tenant: str, size: int, root: bytes) -> Iterator[Flaw]:
        """Add leaves of `tenant` from before the range, each on a line, with its proof under the opening checkpoint;
        yield what is wrong with them."""
        for number, line in enumerate(lines, 1):
            try:
                row = _decode_earlier(line)
                sealed, path = decode_sealed(row.data), [bytes.fromhex(node) for node in row.proof]
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                yield "leaf_malformed", f"earlier leaf on line {number}", str(error)
                continue
            where = f"earlier leaf {row.index}, intent {sealed.intent}"
            if not merkle.verify_inclusion(merkle.leaf_hash(row.data.encode()), row.index, size, path, root):
                yield "proof_invalid", where, f"its proof does not lead to the opening checkpoint, of {size} leaves"
            if sealed.tenant != tenant:
                yield "tenant_differs", where, f"it is of {sealed.tenant!r}, not {tenant!r}"
            if sealed.intent in self.last:
                yield "leaf_repeated", where, "there is another one of this intent"
            self.last[sealed.intent] = Seal(sealed.records, sealed.chain, False)
            self._awaited[sealed.intent] = row.index

    def needless(self) -> Iterator[Flaw]:
        """Yield which leaves from before the range no addendum of the range follows."""
        for intent, index in self._awaited.items():
            yield "leaf_unexpected", f"earlier leaf {index}, intent {intent}", "no addendum of the range follows it"

    def add(self, intent: str, seal: Seal, link: Link) -> tuple[str, str] | None:
        """Add a leaf; return what is wrong with where it goes on, as (stable code, sentence), or None."""
        before = self.last.get(intent)
        self.last[intent] = seal
        if before is not None:
            return _flaw(intent, before, link)
        if link.after.chain:
            self.open[intent] = link
        return None

    def join(self, other: "Seals", *, whole: bool) -> Iterator[tuple[str, int, str]]:
        """Go on with the leaves behind these; yield (stable code, index of a leaf, sentence) of what is wrong.

        `whole` says that the log begins with the first leaf; else what an addendum follows may lie before it."""
        for intent in sorted(other.last.keys() & self.last.keys() - other.open.keys()):
            yield "sequence_broken", -1, f"intent {intent} begins twice"
        for intent, link in other.open.items():
            before, flaw = self.last.get(intent), None
            self._awaited.pop(intent, None)
            if before is not None:
                flaw = _flaw(intent, before, link)
            elif whole:
                flaw = "sequence_broken", f"it is an addendum, and intent {intent} has no leaf before it"
            elif not link.after.left_out:
                said = f"intent {intent} is sealed up to record {link.after.records} before the range"
                flaw = "beginning_missing", said
            if flaw is not None:
                yield flaw[0], link.index, flaw[1]
        self.last |= other.last


def _flaw(intent: str, before: Seal, link: Link) -> tuple[str, str] | None:
    after = link.after
    if not after.chain:
        return "sequence_broken", f"intent {intent} has a leaf before it, and this one is no addendum"
    if after.left_out is not before.left_out:
        return "records_missing", f"records of intent {intent} are here for some of its leaves alone"
    if after.left_out:
        said = f"it seals {link.records} records of intent {intent}, the leaf before it {before.records}"
        return ("sequence_broken", said) if link.records <= before.records else None
    if after.records != before.records:
        code = "records_missing" if after.records > before.records else "sequence_broken"
        return code, f"it follows record {after.records} of intent {intent}, the leaf before it seals {before.records}"
    if after.chain != before.chain:
        return "chain_broken", f"it follows {after.chain}, intent {intent} was sealed up to {before.chain}"
    return None
