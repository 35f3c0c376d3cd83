"""The doors to evidence: packets in four forms, checkpoints of the tenant's log, and proofs between them.

- A packet is given out once a signed head covers it, and comes out the same byte for byte until there is another
  addendum; with `addenda` it is the one of that time, with `checkpoint` it stands under a checkpoint of the caller's.
- By itself it is JSON that anybody can read and whose own head is signed, so that is the default; `dsse` wraps the same
  bytes for tools that know envelopes. HTML and CSV are renderings, made from the packet.
- Checkpoints are C2SP signed notes, for tools and witnesses that know nothing of Zentra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import SCHEMAS, Check, Objection, identifier, one_of
from zentra.gateway.http.lists import CREATED, Lists, checked_query
from zentra.gateway.http.problems import Problem
from zentra.gateway.routes.packets import EvidenceAsked, sealed_packet
from zentra.gateway.signing import key_for
from zentra.runtime.evidence.envelopes import PACKET_TYPE, envelope_of, pae, sign_payload
from zentra.runtime.evidence.heads import ORIGIN, TreeHead, signed_note
from zentra.runtime.evidence.notes import verifier_key
from zentra.runtime.evidence.packet import Leaf
from zentra.runtime.evidence.proofs import CONSISTENCY_FORMAT, INCLUSION_FORMAT, ConsistencyProof, Edge, InclusionProof
from zentra.runtime.evidence.renderings import csv_of, entry_rows, packet_html, packet_records
from zentra.runtime.intents.command import Violation
from zentra.storage.intake.evidence import kept_signature
from zentra.storage.intake.evidence_keys import key_history, signing_keys
from zentra.storage.pool import Pool
from zentra.storage.reads import proofs
from zentra.storage.reads.proofs import ExportPlace

__all__ = [
    "CHECKPOINT_QUERY", "CONSISTENCY_QUERY", "ENVELOPE_TYPE", "EXPORT_FILTERS", "FORMS", "INCLUSION_QUERY", "NOTE_TYPE",
    "PACKET_QUERY", "EvidenceRoutes",
]  # fmt: skip

ENVELOPE_TYPE: Final = "application/vnd.dsse.envelope.v1+json"
NOTE_TYPE: Final = "text/plain"
FORMS: Final[Mapping[str, str]] = {
    "packet": PACKET_TYPE, "dsse": ENVELOPE_TYPE, "html": "text/html", "csv": "text/csv",
}  # fmt: skip
_COUNT_MAX: Final = 2**53 - 1


def count(value: Any) -> int:
    """Return a number of things, zero included."""
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 16:
        raise Objection("limit_malformed", "a whole number")
    return min(int(value), _COUNT_MAX)


SCHEMAS[count] = {"type": "integer", "minimum": 0, "maximum": _COUNT_MAX}
PACKET_QUERY: Final[Mapping[str, Check]] = {
    "format": one_of("format_unknown", *FORMS), "addenda": count, "checkpoint": count,
}  # fmt: skip
CHECKPOINT_QUERY: Final[Mapping[str, Check]] = {"size": count}
CONSISTENCY_QUERY: Final[Mapping[str, Check]] = {"from": count, "to": count}
INCLUSION_QUERY: Final[Mapping[str, Check]] = {"intent": identifier, "addenda": count, "checkpoint": count}
EXPORT_FILTERS: Final[Mapping[str, Check]] = {**CREATED, "actor": identifier}


class EvidenceRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, lists: Lists, keys: Sequence[Ed25519PrivateKey]) -> None:
        """That of `keys` which is in force signs envelopes; without it those come out that were signed before."""
        self._pool, self._lists, self._keys = pool, lists, keys
        self._public: dict[str, Ed25519PublicKey] = {}

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        return [
            Route("GET", "/runtime/intents/{id}/evidence", self.packet, P.EVIDENCE_READ),
            Route("GET", "/evidence/checkpoint", self.checkpoint, P.EVIDENCE_READ),
            Route("GET", "/evidence/consistency", self.consistency, P.EVIDENCE_READ),
            Route("GET", "/evidence/inclusion", self.inclusion, P.EVIDENCE_READ),
            Route("GET", "/evidence/keys", self.keys, P.EVIDENCE_READ),
            Route("GET", "/evidence/exports", self.exports, P.EVIDENCE_READ),
        ]

    async def packet(self, request: Request) -> Reply:
        """The packet, in the form that is asked for."""
        asked = checked_query(request, PACKET_QUERY)
        form = asked.get("format") or _accepted(request.headers.get(b"accept"))
        wanted = EvidenceAsked(asked.get("addenda"), asked.get("checkpoint"))
        tenant = request.principal.tenant
        packet = await sealed_packet(self._pool, tenant, request.params["id"], wanted)
        body = packet if form == "packet" else await self._formed(form, tenant, packet)
        return _tagged(body, FORMS[form] + ("; charset=utf-8" if form in ("html", "csv") else ""))

    async def checkpoint(self, request: Request) -> Reply:
        """A signed head of the tenant's log: the latest, or the one of a size."""
        size = checked_query(request, CHECKPOINT_QUERY).get("size")
        head = await proofs.checkpoint(self._pool, request.principal.tenant, size)
        if head is None:
            raise Problem("checkpoint_unknown")
        note = await self._note(head)
        return _tagged(note.encode(), f"{NOTE_TYPE}; charset=utf-8")

    async def consistency(self, request: Request) -> Reply:
        """That the log only grew from one size to another."""
        asked = checked_query(request, CONSISTENCY_QUERY)
        tenant = request.principal.tenant
        found = await proofs.consistency(self._pool, tenant, asked.get("from", 0), asked.get("to"))
        if found is None:
            raise Problem("checkpoint_unknown", "the log never had these sizes, in this order")
        first, second = [
            None if head is None else await self._note(head) for head in (found.first_head, found.second_head)
        ]
        return json_reply(200, ConsistencyProof(
            first=Edge(first, found.first), format=CONSISTENCY_FORMAT, proof=[node.hex() for node in found.proof],
            second=Edge(second, found.second), tenant=tenant,
        ))  # fmt: skip

    async def inclusion(self, request: Request) -> Reply:
        """That what seals an intent is in the log."""
        asked = checked_query(request, INCLUSION_QUERY)
        if "intent" not in asked:
            raise Problem("query_malformed", errors=[Violation("/intent", "field_missing", "the id of an intent")])
        given, tenant = asked["intent"], request.principal.tenant
        uuid = given if len(given) == 32 and not given.strip("0123456789abcdef") else None
        found = await proofs.inclusion(
            self._pool, tenant, intent_id=given, uuid=uuid, addenda=asked.get("addenda"), size=asked.get("checkpoint")
        )
        if found is None:
            raise Problem("not_found")
        return json_reply(200, InclusionProof(
            checkpoint=await self._note(found.head), format=INCLUSION_FORMAT, intent=found.intent,
            leaf=Leaf(found.data.decode(), found.index), proof=[node.hex() for node in found.proof], tenant=tenant,
        ))  # fmt: skip

    async def keys(self, request: Request) -> Reply:
        """The public keys that sign the log; compare them with what you got by another way."""
        origin = ORIGIN + request.principal.tenant
        ring = (await key_history(self._pool)).ring()
        return json_reply(200, {"data": [
            {
                "key_id": kid, "pem": _pem(raw), "verifier_key": verifier_key(origin, raw),
                "since": ring[kid].since if kid in ring else None, "until": ring[kid].until if kid in ring else None,
            }
            for kid, raw in (await proofs.evidence_keys(self._pool)).items()
        ]})  # fmt: skip

    async def exports(self, request: Request) -> Reply:
        """Who exported what, the latest first."""
        asked = self._lists.asked(request, EXPORT_FILTERS, ExportPlace)
        found = await proofs.exports(self._pool, asked.tenant, asked.filters, after=asked.after, limit=asked.limit)
        return asked.page(found.rows, found.after)

    async def _formed(self, form: str, tenant: str, packet: bytes) -> bytes:
        if form == "html":
            return packet_html(packet)
        if form == "csv":
            return "".join(csv_of(entry_rows(packet_records(msgspec.json.decode(packet))))).encode()
        key = key_for(self._keys, signing_keys(await key_history(self._pool))) if self._keys else None
        signing = None if key is None else sign_payload(key, PACKET_TYPE, packet)
        digest = sha256(pae(PACKET_TYPE, packet)).digest()
        signature = await kept_signature(self._pool, tenant, digest, signing)
        if signature is None:
            raise Problem("evidence_key_absent")
        return envelope_of(PACKET_TYPE, packet, [signature])

    async def _note(self, head: TreeHead) -> str:
        if head.key_id not in self._public:
            known = await proofs.evidence_keys(self._pool)
            self._public |= {kid: Ed25519PublicKey.from_public_bytes(raw) for kid, raw in known.items()}
        if head.key_id not in self._public:
            raise Problem("evidence_key_absent", f"no worker has told the public half of key {head.key_id} yet")
        return signed_note(self._public[head.key_id], head)


def _accepted(accept: bytes | None) -> str:
    """Return the form that an accept header names first; the packet where it names none."""
    for part in (accept or b"").decode("latin-1").split(","):
        kind = part.partition(";")[0].strip().lower()
        for form, media in FORMS.items():
            if kind == media:
                return form
    return "packet"


def _tagged(body: bytes, kind: str) -> Reply:
    """Return bytes under the tag that names them: their SHA-256."""
    tag = b'"%b"' % sha256(body).hexdigest().encode()
    return Reply(200, body, ((b"etag", tag), (b"x-content-type-options", b"nosniff")), kind.encode())


def _pem(raw: bytes) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return Ed25519PublicKey.from_public_bytes(raw).public_bytes(serialization.Encoding.PEM, form).decode()
