"""Proofs as documents: that a log only grew between two checkpoints, and that a leaf is in it.

- A document carries the checkpoints that it speaks of, so it is verified offline by a public key alone.
- A consistency proof without both checkpoints shows nothing: of a size that nobody signed anybody may claim any root.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

from zentra.runtime.evidence import merkle
from zentra.runtime.evidence.contradictions import contradictions, uncovered
from zentra.runtime.evidence.heads import TreeHead
from zentra.runtime.evidence.keyring import KeyRing
from zentra.runtime.evidence.notes import NoteFlaw, read_note
from zentra.runtime.evidence.packet import Leaf, Problem, Verdict

__all__ = ["CONSISTENCY_FORMAT", "INCLUSION_FORMAT", "ConsistencyProof", "Edge", "InclusionProof", "verify_proof"]

CONSISTENCY_FORMAT: Final = "zentra.consistency-proof/1"
INCLUSION_FORMAT: Final = "zentra.inclusion-proof/1"


class Edge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One end of a consistency proof; the checkpoint is a signed note, None where that size was never signed."""

    checkpoint: str | None
    size: int


class ConsistencyProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """That the log of `second.size` leaves begins with the one of `first.size`; `proof` in hex (RFC 9162, 2.1.4)."""

    first: Edge
    format: Literal["zentra.consistency-proof/1"]
    proof: list[str]
    second: Edge
    tenant: str


class InclusionProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """That the log under `checkpoint` has `leaf`; `proof` in hex, lowest first (RFC 9162, 2.1.3)."""

    checkpoint: str
    format: Literal["zentra.inclusion-proof/1"]
    intent: str
    leaf: Leaf
    proof: list[str]
    tenant: str


def verify_proof(data: bytes, ring: KeyRing, *, anchors: Sequence[TreeHead] = ()) -> Verdict:
    """Return whether a document holds a proof that stands under checkpoints signed by a key of `ring`.

    `anchors` are heads that were kept elsewhere: none may contradict a head of it. Never raises."""
    try:
        format = msgspec.json.decode(data, type=_Format).format
        read: InclusionProof | ConsistencyProof
        if format == INCLUSION_FORMAT:
            read = msgspec.json.decode(data, type=InclusionProof)
        else:
            read = msgspec.json.decode(data, type=ConsistencyProof)
        proof = [bytes.fromhex(node) for node in read.proof]
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Verdict(ok=False, integrity=False, completeness=False, problems=(_problem("malformed", "proof", error),))
    check = _Check(read.tenant, ring)
    made = check.inclusion(read, proof) if isinstance(read, InclusionProof) else check.consistency(read, proof)
    found = list(made)
    problems = (*(Problem(*flaw) for flaw in contradictions([*anchors, *check.heads])), *found)
    codes = {problem.code for problem in problems}
    head = check.head
    return Verdict(
        ok=not problems, integrity=codes <= {"not_sealed"}, completeness="not_sealed" not in codes, problems=problems,
        tenant=read.tenant, intent=read.intent if isinstance(read, InclusionProof) else None,
        head_size=head.size if head else None, head_at=head.at if head else None,
        key_id=head.key_id if head else None, not_covered=uncovered(anchors, check.heads),
    )  # fmt: skip


class _Format(msgspec.Struct, frozen=True):
    format: str = ""


class _Named(msgspec.Struct, frozen=True):
    tenant: str
    intent: str


class _Check:
    """One look at a proof; `head` is the latest one that it speaks of."""

    def __init__(self, tenant: str, ring: KeyRing) -> None:
        self._tenant, self._ring = tenant, ring
        self.head: TreeHead | None = None
        self.heads: list[TreeHead] = []

    def inclusion(self, read: InclusionProof, proof: list[bytes]) -> Iterator[Problem]:
        yield from self._note(read.checkpoint, "checkpoint")
        if self.head is None:
            return
        hashed, root = merkle.leaf_hash(read.leaf.data.encode()), bytes.fromhex(self.head.root)
        try:
            named = msgspec.json.decode(read.leaf.data, type=_Named)
        except (msgspec.MsgspecError, RecursionError):
            named = _Named("", "")
        if (named.tenant, named.intent) != (read.tenant, read.intent):
            yield _problem("intent_differs", "leaf", f"it is not of intent {read.intent}: {read.leaf.data}")
        if not merkle.verify_inclusion(hashed, read.leaf.index, self.head.size, proof, root):
            yield _problem("proof_invalid", "proof", f"the log under the head has no such leaf at {read.leaf.index}")

    def consistency(self, read: ConsistencyProof, proof: list[bytes]) -> Iterator[Problem]:
        roots: list[bytes] = []
        for name, edge in (("first", read.first), ("second", read.second)):
            if edge.checkpoint is None:
                if edge.size == 0 and name == "first":
                    roots.append(merkle.EMPTY_ROOT)
                    continue
                yield _problem("not_sealed", name, f"no head of {edge.size} leaves was signed")
                return
            self.head = None
            yield from self._note(edge.checkpoint, name)
            if self.head is None:
                return
            if self.head.size != edge.size:
                yield _problem("proof_invalid", name, f"its checkpoint is of {self.head.size} leaves, not {edge.size}")
            roots.append(bytes.fromhex(self.head.root))
        if not merkle.verify_consistency(read.first.size, roots[0], read.second.size, roots[1], proof):
            detail = f"the log of {read.second.size} leaves does not begin with the one of {read.first.size}"
            yield _problem("proof_invalid", "proof", detail)

    def _note(self, text: str, where: str) -> Iterator[Problem]:
        try:
            head = read_note(text.encode(), self._ring)
        except NoteFlaw as flaw:
            yield Problem(flaw.code, where, str(flaw))
            return
        if head.tenant != self._tenant:
            yield _problem("tenant_differs", where, f"the head is of {head.tenant!r}, not {self._tenant!r}")
        self.head = head
        self.heads.append(head)


def _problem(code: str, where: str, detail: object) -> Problem:
    return Problem(code, where, str(detail))
