"""Exports of evidence that somebody asked for, made by a worker: one at a time, beside its ticks.

- Any worker makes them. One that dies leaves its claim to run out within a minute; the next one begins anew, and makes
  the same bytes, because what is in them was fixed when they were asked for.
- A bundle is read and hashed in a thread of its own with an event loop of its own, so ticks do not wait for it; it is
  written to a temporary file, and stored in parts once it is whole.
- What cannot be made is said (`failed`, with the reason); what a store that is away holds up is made later.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from zentra.gateway.bundle_texts import bundle_texts
from zentra.gateway.signing import key_for
from zentra.runtime.errors import Unavailable
from zentra.runtime.evidence.history import KeyHistory
from zentra.runtime.evidence.keyring import KeyRing, RingKey
from zentra.runtime.instruments import Instruments
from zentra.storage.errors import Misconfigured
from zentra.storage.intake.evidence import ExportRow
from zentra.storage.intake.evidence_keys import key_history, signing_keys
from zentra.storage.intake.export_jobs import (
    PART_BYTES,
    JobClaim,
    JobResult,
    claim_export,
    expire_exports,
    fail_export,
    finish_export,
    keep_claim,
    keep_part,
)
from zentra.storage.pool import Pool, open_pool
from zentra.storage.reads.proofs import evidence_keys
from zentra.storage.verification.bundling import BundleAsked, BundleMade, make_bundle

__all__ = ["ExportService"]

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
TELL_SECONDS: Final = 2.0
BYTES_MAX: Final = 2**30  # of one export: what a tenant stores is bounded by this and by how many there may be


class _Left(Exception):
    """Raised in the thread where nobody waits for it any longer."""


class _TooLarge(Exception):
    """Raised for a bundle above BYTES_MAX."""


class _Standing:
    """How far a job is, told by its thread; and whether it is to go on."""

    def __init__(self) -> None:
        self.done = self.leaves = 0
        self.left = False

    def progress(self, label: str, done: int, total: int) -> None:
        """Take note of progress; raise _Left where it is to stop."""
        if self.left:
            raise _Left
        self.done, self.leaves = done, total


class ExportService:
    """What one worker does for exports; `url` is of a role that sees every tenant."""

    def __init__(self, url: str, pool: Pool, keys: Sequence[Ed25519PrivateKey], instruments: Instruments) -> None:
        self._url, self._pool, self._keys, self._instruments = url, pool, keys, instruments

    async def run(self) -> None:
        """Look after exports until cancelled; a store that is away is looked at again the next time."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except Unavailable as error:
                logger.warning("exports wait for the store", extra={"error": str(error)})

    async def look(self) -> bool:
        """Remove what has expired, and make the export that waits longest; return whether there was one."""
        await expire_exports(self._pool)
        history = await key_history(self._pool)
        key = key_for(self._keys, signing_keys(history))
        claim = None if key is None else await claim_export(self._pool)
        if claim is None or key is None:
            return False
        heads = await evidence_keys(self._pool)
        ring = {kid: RingKey(Ed25519PublicKey.from_public_bytes(raw)) for kid, raw in heads.items()} | dict(
            history.ring()
        )
        try:
            await self._make(claim, key, ring, history)
        except (Misconfigured, OSError, _TooLarge) as error:
            logger.warning("an export cannot be made", extra={"export": claim.id, "error": str(error)})
            await fail_export(self._pool, claim, str(error))
        except _Left:
            logger.warning("an export was taken by another worker", extra={"export": claim.id})
        return True

    async def _make(self, claim: JobClaim, key: Ed25519PrivateKey, ring: KeyRing, history: KeyHistory) -> None:
        standing, failure = _Standing(), None
        with tempfile.TemporaryDirectory(prefix="zentra-export-") as folder:
            path = Path(folder) / "bundle.tar"
            work = partial(_made, self._url, path, claim, key, ring, history, standing)
            async with anyio.create_task_group() as group:
                group.start_soon(self._tell, claim, standing)
                try:
                    await self._keep(
                        claim, path, await anyio.to_thread.run_sync(work, abandon_on_cancel=True), standing
                    )
                except Exception as error:
                    failure = error  # raised behind the group, which would wrap it
                finally:
                    standing.left = True
                    group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _keep(self, claim: JobClaim, path: Path, made: BundleMade, standing: _Standing) -> None:
        """Store the file and finish the job; raise _Left where it was taken, and _TooLarge."""
        if made.bytes > BYTES_MAX:
            raise _TooLarge(f"it has {made.bytes} bytes, and {BYTES_MAX} are stored at most: shorten the range")
        async with await anyio.open_file(path, "rb") as file:
            number = 0
            while content := await file.read(PART_BYTES):
                if standing.left:
                    raise _Left
                await keep_part(self._pool, claim, number, content)
                number += 1
        result = JobResult(
            first_leaf=made.first, log_size=made.size, entries=made.counts.entries, bytes=made.bytes,
            manifest=bytes.fromhex(made.manifest), sha256=bytes.fromhex(made.sha256),
        )  # fmt: skip
        if not await finish_export(self._pool, claim, result):
            raise _Left

    async def _tell(self, claim: JobClaim, standing: _Standing) -> None:
        """Say how far it is, and keep the claim; where it was taken, the thread is told to stop."""
        while not standing.left:
            await anyio.sleep(TELL_SECONDS)
            try:
                standing.left |= not await keep_claim(self._pool, claim, standing.done, standing.leaves)
            except Unavailable as error:  # told again; where that lasts for a minute, another worker takes the job
                logger.info("an export could not say how far it is", extra={"export": claim.id, "error": str(error)})


def _made(
    url: str, path: Path, claim: JobClaim, key: Ed25519PrivateKey, ring: KeyRing, history: KeyHistory,
    standing: _Standing,
) -> BundleMade:  # fmt: skip
    """Make the bundle of a job, in this thread."""

    async def work() -> BundleMade:
        asked = BundleAsked(
            tenant=claim.tenant, actor=claim.actor, role=claim.role, since=claim.since, until=claim.until,
            types=claim.types,
        )  # fmt: skip
        async with await open_pool(url, name="zentra export", connections_max=1) as pool:
            return await make_bundle(
                url, pool, path, asked, key=key, ring=ring, texts=bundle_texts(), progress=standing.progress,
                keep=_recorded_later, history=history,
            )  # fmt: skip

    return asyncio.run(work())


async def _recorded_later(_pool: Pool, _row: ExportRow) -> None:
    """Record nothing: that is part of the commit that finishes the job."""
