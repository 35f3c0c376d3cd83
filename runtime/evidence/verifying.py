"""Whatever evidence a text holds, verified: a packet, its envelope, a proof or a checkpoint; it says itself which.

A bundle is no text; `bundle_check` verifies those."""

from collections.abc import Sequence

import msgspec

from zentra.runtime.evidence.contradictions import contradictions, uncovered
from zentra.runtime.evidence.envelopes import PACKET_TYPE, Envelope, envelope_flaw, open_envelope
from zentra.runtime.evidence.heads import ORIGIN, TreeHead
from zentra.runtime.evidence.keyring import KeyRing
from zentra.runtime.evidence.notes import NoteFlaw, read_note
from zentra.runtime.evidence.packet import Problem, Verdict, verify_packet
from zentra.runtime.evidence.personal import ERASURE_TYPE
from zentra.runtime.evidence.proofs import CONSISTENCY_FORMAT, INCLUSION_FORMAT, verify_proof

__all__ = ["packet_of_envelope", "verify_envelope", "verify_text"]


class _Kind(msgspec.Struct, frozen=True, rename={"payload_type": "payloadType"}):
    payload_type: str | None = None
    format: str | None = None


def verify_text(data: bytes, ring: KeyRing, anchors: Sequence[TreeHead] = ()) -> Verdict:
    """Return the verdict about a packet, an envelope, a proof or a checkpoint; never raises for what `data` holds."""
    if data.startswith(ORIGIN.encode()):
        return _verify_note(data, ring, anchors)
    try:
        kind = msgspec.json.decode(data, type=_Kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        kind = _Kind()
    if kind.payload_type is not None:
        return verify_envelope(data, ring, anchors)
    if kind.format in (CONSISTENCY_FORMAT, INCLUSION_FORMAT):
        return verify_proof(data, ring, anchors=anchors)
    return verify_packet(data, ring, anchors=anchors)


def verify_envelope(data: bytes, ring: KeyRing, anchors: Sequence[TreeHead] = ()) -> Verdict:
    """Return the verdict about an envelope and the packet in it; what is wrong with the envelope comes first."""
    try:
        envelope = open_envelope(data)
    except ValueError as error:
        return _refused(Problem("malformed", "envelope", str(error)))
    body = envelope.body()
    flaw = envelope_flaw(ring, envelope.payload_type, body, envelope.signatures)
    if flaw is not None:
        return _refused(Problem(flaw[0], "envelope", flaw[1]))
    if envelope.payload_type == ERASURE_TYPE:
        return _verified_statement(envelope, body, ring)
    if envelope.payload_type != PACKET_TYPE:
        detail = f"it carries {envelope.payload_type!r}, not {PACKET_TYPE!r}"
        return _refused(Problem("payload_type_unknown", "envelope", detail))
    return verify_packet(body, ring, anchors=anchors)


class _Statement(msgspec.Struct, frozen=True):
    at: str
    tenant: str


def _verified_statement(envelope: Envelope, body: bytes, ring: KeyRing) -> Verdict:
    """Return the verdict about what a key has signed and nothing else vouches for: it has to be in that key's time."""
    try:
        statement = msgspec.json.decode(body, type=_Statement)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _refused(Problem("malformed", "envelope", str(error)))
    then = {kid: key for kid, key in ring.items() if key.holds(statement.at)}
    if envelope_flaw(then, envelope.payload_type, body, envelope.signatures) is not None:
        return _refused(Problem("key_out_of_time", "envelope", f"no key that was good at {statement.at} has signed it"))
    return Verdict(ok=True, integrity=True, completeness=True, tenant=statement.tenant)


def packet_of_envelope(data: bytes) -> bytes:
    """Return the packet in an envelope, or `data` where it is none; nothing is verified."""
    try:
        envelope = open_envelope(data)
    except ValueError:
        return data
    return envelope.body()


def _verify_note(data: bytes, ring: KeyRing, anchors: Sequence[TreeHead]) -> Verdict:
    try:
        head = read_note(data, ring)
    except NoteFlaw as flaw:
        return _refused(Problem(flaw.code, "checkpoint", str(flaw)))
    problems = tuple(Problem(*flaw) for flaw in contradictions([*anchors, head]))
    return Verdict(
        ok=not problems, integrity=not problems, completeness=True, problems=problems, tenant=head.tenant,
        head_size=head.size, head_at=head.at, key_id=head.key_id, not_covered=uncovered(anchors, [head]),
    )  # fmt: skip


def _refused(problem: Problem) -> Verdict:
    return Verdict(ok=False, integrity=False, completeness=False, problems=(problem,))
