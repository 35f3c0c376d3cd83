"""The calls about evidence beyond packets, and what they answer; see `zentra.client.calls`.

Checkpoints and proofs come as the bytes that a verifier takes: keep them as they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from zentra.client.answers import Answer
from zentra.client.calls import Filters, PageCall, Time, pages
from zentra.client.core import Call, body_call, get_call, json_of
from zentra.client.models import Page
from zentra.client.terms import spelled

__all__ = [
    "EvidenceExport",
    "EvidenceKey",
    "EvidenceKeys",
    "ExportJob",
    "ask_export",
    "get_checkpoint",
    "get_consistency",
    "get_export",
    "get_export_content",
    "get_inclusion",
    "list_export_jobs",
    "list_exports",
    "list_keys",
]


class EvidenceKey(Struct, frozen=True):
    """A public key that signs the log, in its time: as PEM, and as tools for signed notes take it."""

    key_id: str
    pem: str
    verifier_key: str
    since: str | None = None
    until: str | None = None


class EvidenceKeys(Struct, frozen=True):
    """The keys that the log was signed with."""

    data: list[EvidenceKey]


class EvidenceExport(Struct, frozen=True, kw_only=True):
    """Who took which range out of the log: leaves from `first_leaf` on, as far as `log_size`; `types` None: all."""

    id: str
    actor: str
    role: str
    at: datetime
    since: datetime | None
    until: datetime | None
    types: list[str] | None
    first_leaf: int
    log_size: int
    entries: int
    manifest: str


class ExportJob(Struct, frozen=True, kw_only=True):
    """An export that was asked for: `waiting`, `running`, `done`, `failed` or `expired`; digests are in hex."""

    id: str
    actor: str
    role: str
    at: datetime
    since: datetime | None
    until: datetime
    types: list[str] | None
    state: str
    leaves_done: int
    leaves: int
    entries: int
    first_leaf: int | None = None
    log_size: int | None = None
    manifest: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    error: str | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None


def _bytes(answer: Answer) -> bytes:
    return answer.body


_exports: Final = json_of(Page[EvidenceExport])
_keys: Final = json_of(EvidenceKeys)
_job: Final = json_of(ExportJob)
_jobs: Final = json_of(Page[ExportJob])


def get_checkpoint(size: int | None) -> Call[bytes]:
    """Fetch a checkpoint, as a signed note."""
    return get_call(_bytes, "evidence", "checkpoint", query={"size": size})


def get_consistency(first: int | None, second: int | None) -> Call[bytes]:
    """Fetch the proof that the log only grew."""
    return get_call(_bytes, "evidence", "consistency", query={"from": first, "to": second})


def get_inclusion(intent: str, addenda: int | None, checkpoint: int | None) -> Call[bytes]:
    """Fetch the proof that what seals an intent is in the log."""
    query = {"intent": intent, "addenda": addenda, "checkpoint": checkpoint}
    return get_call(_bytes, "evidence", "inclusion", query=query)


def list_keys() -> Call[EvidenceKeys]:
    """List the keys that sign the log."""
    return get_call(_keys, "evidence", "keys")


def list_exports(page_size: int | None, filters: Filters) -> PageCall[EvidenceExport]:
    """List who exported what."""
    return pages(_exports, "evidence", "exports", page_size=page_size, filters=filters)


def ask_export(
    since: Time | None, until: Time | None, types: Sequence[str] | None, idempotency_key: str | None
) -> Call[ExportJob]:
    """Have a range exported."""
    body = {
        "since": None if since is None else spelled(since), "until": None if until is None else spelled(until),
        "types": None if types is None else list(types),
    }  # fmt: skip
    return body_call(_job, "evidence", "exports", body=body, idempotency_key=idempotency_key)


def get_export(id: str) -> Call[ExportJob]:
    """Look at an export that was asked for."""
    return get_call(_job, "evidence", "exports", id)


def get_export_content(id: str) -> Call[bytes]:
    """Fetch the file of an export."""
    return get_call(_bytes, "evidence", "exports", id, "content")


def list_export_jobs(page_size: int | None, filters: Filters) -> PageCall[ExportJob]:
    """List what was asked for."""
    return pages(_jobs, "evidence", "exports", "jobs", page_size=page_size, filters=filters)
