"""The rows of the doors to evidence, and the shapes of their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from zentra.gateway.description.door import Door, Media, Query, schema_of_fields
from zentra.gateway.description.rows import REPLAYED, list_row
from zentra.gateway.description.words import Hash, Uuid
from zentra.gateway.http.fields import SCHEMAS, Check
from zentra.gateway.routes.evidence import (
    CHECKPOINT_QUERY,
    CONSISTENCY_QUERY,
    EXPORT_FILTERS,
    FORMS,
    INCLUSION_QUERY,
    NOTE_TYPE,
    PACKET_QUERY,
)
from zentra.gateway.routes.evidence_keys import JWK_SET_TYPE
from zentra.gateway.routes.exports import EXPORT, JOB_FILTERS, TAR_TYPE
from zentra.storage.intake.export_jobs import ExportJob
from zentra.storage.reads.proofs import ExportView

__all__ = ["EVIDENCE_DOORS", "ConsistencyShown", "EvidenceKeys", "ExportJobs", "Exports", "InclusionShown"]

Note = Annotated[str, Meta(description="a C2SP signed note: origin, size, root, time, signature")]
_SAID: Final[Mapping[str, str]] = {
    "format": "packet where it is left out, unless the accept header names another form; html and csv are renderings",
    "addenda": "the packet as it was with so many addenda; all of them where it is left out",
    "checkpoint": "under the checkpoint of this size; the first that covers the packet where it is left out",
    "size": "the latest where it is left out",
    "from": "a size of the log; 0 where it is left out",
    "to": "a later size of the log; the latest where it is left out",
    "intent": "intent_id, or the id that the runtime gave it",
}


class EvidenceKey(Struct, frozen=True):
    """A public key: as PEM, and as tools for signed notes take it."""

    key_id: str
    pem: str
    verifier_key: str
    since: str | None
    until: str | None


class EvidenceKeys(Struct, frozen=True):
    """The keys that heads were signed with."""

    data: list[EvidenceKey]


class Exports(Struct, frozen=True):
    """Exports, the latest first."""

    data: list[ExportView]
    has_more: bool
    next_cursor: str | None


class ExportLinks(Struct, frozen=True, omit_defaults=True):
    """Where the export is, and its file once there is one."""

    self: str
    content: str = ""


class ExportShown(ExportJob, frozen=True, kw_only=True):
    """An export that was asked for. It is `waiting`, `running`, `done`, `failed` or `expired`."""

    links: ExportLinks


class ExportJobs(Struct, frozen=True):
    """Exports that were asked for, the latest first."""

    data: list[ExportShown]
    has_more: bool
    next_cursor: str | None


class EdgeShown(Struct, frozen=True):
    """One end of a proof; there is no checkpoint where that size was never signed."""

    checkpoint: Note | None
    size: int


class ConsistencyShown(Struct, frozen=True, kw_only=True):
    """That the log of the second size begins with the one of the first (RFC 9162, 2.1.4)."""

    first: EdgeShown
    format: Literal["zentra.consistency-proof/1"]
    proof: list[Hash]
    second: EdgeShown
    tenant: str


class LeafShown(Struct, frozen=True):
    """The bytes of a leaf, and its place in the log."""

    data: str
    index: int


class InclusionShown(Struct, frozen=True, kw_only=True):
    """That the log under the checkpoint has the leaf (RFC 9162, 2.1.3)."""

    checkpoint: Note
    format: Literal["zentra.inclusion-proof/1"]
    intent: Uuid
    leaf: LeafShown
    proof: list[Hash]
    tenant: str


def _query(known: Mapping[str, Check], *required: str) -> tuple[Query, ...]:
    return tuple(Query(name, SCHEMAS[check], _SAID[name], name in required) for name, check in known.items())


EVIDENCE_DOORS: Final[Mapping[str, Door]] = {
    "GET /runtime/intents/{id}/evidence": Door(
        name="show_evidence", tag="intents", summary="The sealed packet, as the bytes that a verifier takes.",
        answers={200: Media(FORMS["packet"], "the packet; `zentra evidence verify` checks it offline")},
        forms=tuple(Media(media, "another form of it") for form, media in FORMS.items() if form != "packet"),
        query=_query(PACKET_QUERY), headers=("etag", "x-content-type-options"),
        codes=("not_found", "evidence_not_sealed", "checkpoint_unknown", "evidence_key_absent"),
    ),
    "GET /evidence/checkpoint": Door(
        name="show_checkpoint", tag="evidence", summary="A signed head of the tenant's log, as a C2SP checkpoint.",
        answers={200: Media(NOTE_TYPE, "a signed note; keep it where nobody can change it")},
        query=_query(CHECKPOINT_QUERY), headers=("etag", "x-content-type-options"),
        codes=("checkpoint_unknown", "evidence_key_absent"),
    ),
    "GET /evidence/consistency": Door(
        name="show_consistency", tag="evidence", summary="That the tenant's log only grew between two sizes.",
        answers={200: ConsistencyShown}, query=_query(CONSISTENCY_QUERY),
        codes=("checkpoint_unknown", "evidence_key_absent"),
    ),
    "GET /evidence/inclusion": Door(
        name="show_inclusion", tag="evidence", summary="That what seals an intent is in the tenant's log.",
        answers={200: InclusionShown}, query=_query(INCLUSION_QUERY, "intent"),
        codes=("not_found", "evidence_key_absent"),
    ),
    "GET /evidence/keys": Door(
        name="list_evidence_keys", tag="evidence", summary="The public keys that sign the tenant's log.",
        answers={200: EvidenceKeys},
    ),
    "GET /.well-known/zentra-evidence-keys": Door(
        name="show_key_history", tag="evidence",
        summary="The keys with their times and the signed history, for everybody.",
        answers={
            200: Media(JWK_SET_TYPE, "a JWK set (RFC 7517) with the entries of the history"),
            304: Media("", "as the etag says"),
        },
        headers=("etag",), codes=("evidence_key_absent",),
    ),
    "POST /evidence/exports": Door(
        name="ask_export", tag="evidence", summary="Have a range of the log exported: a worker makes the bundle.",
        answers={202: ExportShown}, takes=schema_of_fields(EXPORT), key="once", headers=("location", *REPLAYED),
        codes=("exports_too_many", "export_range_empty"),
    ),
    "GET /evidence/exports/jobs": list_row(
        "list_export_jobs", "evidence", "The exports that were asked for and how far they are, the latest first.",
        ExportJobs, JOB_FILTERS,
    ),
    "GET /evidence/exports/{id}": Door(
        name="show_export", tag="evidence", summary="An export that was asked for, and how far it is.",
        answers={200: ExportShown}, codes=("not_found",),
    ),
    "GET /evidence/exports/{id}/content": Door(
        name="download_export", tag="evidence", summary="The finished bundle; the etag is its SHA-256.",
        answers={200: Media(TAR_TYPE, "a tar file; `zentra evidence verify` checks it offline")},
        headers=("etag", "content-disposition"), codes=("not_found", "export_not_done", "export_expired"),
    ),
    "GET /evidence/exports": list_row(
        "list_exports", "evidence", "Who exported which part of the log, the latest first.", Exports, EXPORT_FILTERS
    ),
}  # fmt: skip
