"""Audit packets for the border: found by either id, and given out only once a signed head covers them."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from zentra.gateway.http.problems import Problem
from zentra.storage.pool import Pool
from zentra.storage.reads import tenant as reads
from zentra.storage.reads.evidence import EvidenceGround, evidence, packet_of
from zentra.storage.reads.tenant import IntentView

__all__ = ["EvidenceAsked", "find_intent", "find_uuid", "sealed_packet", "uuid_of"]

RETRY_SECONDS: Final = 2  # sealing takes a tick where nothing has to be delivered
_UUID: Final = re.compile(r"[0-9a-f]{32}\Z")
_INTENT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z", re.ASCII)


def uuid_of(text: str) -> str:
    """Return a uuid, written with dashes or without, as 32 hex digits; raise Problem `not_found` for anything else."""
    digits = text.replace("-", "").lower()
    if not _UUID.match(digits):
        raise Problem("not_found")
    return digits


async def find_intent(pool: Pool, tenant: str, given: str) -> IntentView:
    """Return the tenant's intent of this intent_id, or else of this uuid.

    Raises Problem `not_found`, the same whether nobody has it or somebody else."""
    if not _INTENT_ID.match(given):
        raise Problem("not_found")
    found = await reads.intent(pool, tenant, intent_id=given)
    if found is None and _UUID.match(given):
        found = await reads.intent(pool, tenant, id=given)
    if found is None:
        raise Problem("not_found")
    return found


async def find_uuid(pool: Pool, tenant: str, uuid: str) -> IntentView:
    """Return the tenant's intent of this uuid; raise Problem `not_found` where there is none."""
    found = await reads.intent(pool, tenant, id=uuid)
    if found is None:
        raise Problem("not_found")
    return found


class EvidenceAsked(Struct, frozen=True):
    """Which packet is asked for: with so many addenda, under the checkpoint of this size; None is the latest."""

    addenda: int | None = None
    checkpoint: int | None = None


async def sealed_packet(pool: Pool, tenant: str, given: str, asked: EvidenceAsked) -> bytes:
    """Return the packet of an intent.

    Raises Problem `not_found`, `evidence_not_sealed` until a signed head covers the leaf of what is asked for, and
    `checkpoint_unknown` where no head has that size, or it covers nothing of the intent."""
    if not _INTENT_ID.match(given):
        raise Problem("not_found")
    addenda, size = asked.addenda, asked.checkpoint
    ground = await evidence(pool, tenant, intent_id=given, addenda=addenda, size=size)
    if ground is None and _UUID.match(given):
        ground = await evidence(pool, tenant, id=given, addenda=addenda, size=size)
    if ground is None:
        raise Problem("not_found")
    if not _covered(ground):
        if size is not None:
            raise Problem("checkpoint_unknown", "no checkpoint of this size covers that much of the intent")
        raise Problem("evidence_not_sealed", retry_after=RETRY_SECONDS)
    return packet_of(ground)


def _covered(ground: EvidenceGround) -> bool:
    return ground.head is not None and bool(ground.leaves) and ground.leaves[0].signed
