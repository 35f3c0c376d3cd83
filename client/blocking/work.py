"""What people decide, what endpoints are told, and what proves it. Every method may raise APIError and ValueError.

Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic, sleep

from zentra.client import calls, proofs
from zentra.client.blocking.transport import Pages, Transport
from zentra.client.calls import Time
from zentra.client.errors import ConflictError
from zentra.client.evidence import Verdict, verify_packet
from zentra.client.models import Case, Command, Denial, ErrorPage, Version
from zentra.client.proofs import EvidenceExport, EvidenceKeys, ExportJob

__all__ = [
    "Cases",
    "Denials",
    "Evidence",
    "Meta",
]

NOT_SEALED = "evidence_not_sealed"
SEAL_PAUSE_SECONDS = 1.0


class Cases:
    """Cases that somebody has to look into."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        status: str | None = None,
        intent_id: str | None = None,
        kind: str | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> Pages[Case]:
        """Return the cases that fit, the last opened first."""
        filters = {
            "status": status, "intent_id": intent_id, "kind": kind,
            "created_from": created_from, "created_before": created_before,
        }  # fmt: skip
        return Pages(self._transport, calls.list_cases(page_size, filters))

    def get(self, id: str) -> Case:
        """Return a case."""
        return self._transport.send(calls.get_case(id))

    def resolve(
        self, id: str, resolution: str, *, reason: str, idempotency_key: str | None = None, wait: int | None = None
    ) -> Command:
        """End a case with a fact: `succeeded`, `declined`, `retry` or `dismissed`; one of a possible match with
        `true_match` or `false_positive`."""
        return self._transport.send(calls.resolve_case(id, resolution, reason, idempotency_key, wait))


class Denials:
    """What the tenant's people were refused."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        reason: str | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> Pages[Denial]:
        """Return the refusals that fit, the latest minute first."""
        filters = {
            "actor": actor, "action": action, "reason": reason,
            "created_from": created_from, "created_before": created_before,
        }  # fmt: skip
        return Pages(self._transport, calls.list_denials(page_size, filters))


class Evidence:
    """Audit packets, and the log that seals them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(
        self, id: str, *, format: str | None = None, addenda: int | None = None, checkpoint: int | None = None
    ) -> bytes:
        """Return the sealed packet of an intent: as it is, or as `dsse` (an envelope), `html` or `csv` (renderings).

        With `addenda` it is the one that had so many, with `checkpoint` it stands under the checkpoint of that size;
        the same question has the same bytes for ever. Raises APIError (ConflictError `evidence_not_sealed` until it is
        sealed) and ValueError."""
        return self._transport.send(calls.get_evidence(id, format, addenda, checkpoint))

    def checkpoint(self, *, size: int | None = None) -> bytes:
        """Return a checkpoint of the tenant's log, the latest or the one of a size: a C2SP signed note, to keep."""
        return self._transport.send(proofs.get_checkpoint(size))

    def consistency(self, *, first: int | None = None, second: int | None = None) -> bytes:
        """Return the proof that the log only grew between two sizes, from 0 to the latest where they are left out."""
        return self._transport.send(proofs.get_consistency(first, second))

    def inclusion(self, intent: str, *, addenda: int | None = None, checkpoint: int | None = None) -> bytes:
        """Return the proof that what seals an intent is in the log."""
        return self._transport.send(proofs.get_inclusion(intent, addenda, checkpoint))

    def keys(self) -> EvidenceKeys:
        """Return the public keys of the log; compare them with what you got by another way."""
        return self._transport.send(proofs.list_keys())

    def exports(
        self,
        *,
        actor: str | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> Pages[EvidenceExport]:
        """Return who exported which part of the log, the latest first."""
        filters = {"actor": actor, "created_from": created_from, "created_before": created_before}
        return Pages(self._transport, proofs.list_exports(page_size, filters))

    def export(
        self,
        *,
        since: Time | None = None,
        until: Time | None = None,
        types: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> ExportJob:
        """Have a range of the log exported as a bundle, from the beginning to now where it is not said, and return how
        far that is; `wait_export` waits for it. `types` are kinds of intents, all where they are left out."""
        return self._transport.send(proofs.ask_export(since, until, types, idempotency_key))

    def get_export(self, id: str) -> ExportJob:
        """Return an export that was asked for, and how far it is."""
        return self._transport.send(proofs.get_export(id))

    def get_export_content(self, id: str) -> bytes:
        """Return the bundle of an export that is done, all of it in memory; its SHA-256 is the `sha256` of the export.

        Raises APIError (ConflictError `export_not_done`, and `export_expired` a day after it was made)."""
        return self._transport.send(proofs.get_export_content(id))

    def export_jobs(
        self,
        *,
        state: str | None = None,
        actor: str | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> Pages[ExportJob]:
        """Return the exports that were asked for, the latest first."""
        filters = {"state": state, "actor": actor, "created_from": created_from, "created_before": created_before}
        return Pages(self._transport, proofs.list_export_jobs(page_size, filters))

    def wait_export(self, id: str, timeout: float) -> ExportJob:
        """Return an export once nothing more is done about it, or as it is after `timeout` seconds."""
        end = monotonic() + timeout
        while True:
            job = self._transport.send(proofs.get_export(id))
            left = end - monotonic()
            if job.state not in ("waiting", "running") or left <= 0:
                return job
            sleep(min(SEAL_PAUSE_SECONDS, left))

    def wait(self, id: str, timeout: float) -> bytes:
        """Return the packet once it is sealed, at most a minute after the intent has settled.

        Raises ConflictError `evidence_not_sealed` where it is not after `timeout` seconds, any other APIError at once,
        and ValueError."""
        end = monotonic() + timeout
        while True:
            try:
                return self._transport.send(calls.get_evidence(id), max_retries=0)
            except ConflictError as error:
                left = end - monotonic()
                if error.code != NOT_SEALED or left <= 0:
                    raise
                pause = min(error.retry_after_seconds or SEAL_PAUSE_SECONDS, left)
            sleep(pause)

    @staticmethod
    def verify(packet: bytes, public_key: bytes) -> Verdict:
        """See `zentra.client.evidence.verify_packet`."""
        return verify_packet(packet, public_key)


class Meta:
    """The API itself; these need no key."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def version(self) -> Version:
        """Return which version runs, and which schema it speaks."""
        return self._transport.send(calls.get_version())

    def error(self, code: str) -> ErrorPage:
        """Return what an error code means and what to do about it."""
        return self._transport.send(calls.get_error(code))
