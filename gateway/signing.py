"""The evidence keys of a process: which it holds, whether the one in force is among them, and what it signs with.

A worker says every few seconds which keys it holds, so that nobody brings in a key that some worker lacks; and it says,
by a gauge and in its log, when it lacks the key that is in force, because then it seals nothing."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import anyio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from zentra.gateway.settings import Settings, SettingsError
from zentra.runtime.errors import Unavailable
from zentra.runtime.evidence.heads import key_id, sign_head
from zentra.runtime.evidence.history import SignHead, SigningKey, in_force
from zentra.runtime.evidence.key_files import load_private_keys
from zentra.runtime.instruments import Instruments
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.ports import Configuration
from zentra.storage.intake.evidence_keys import sign_off, sign_on
from zentra.storage.pool import Pool

__all__ = ["SigningService", "evidence_keys_of", "key_for", "signers_of"]

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0


def evidence_keys_of(settings: Settings) -> list[Ed25519PrivateKey]:
    """Return the keys of ZENTRA_EVIDENCE_KEY, in their order; raise SettingsError."""
    try:
        return load_private_keys(settings.evidence_key.encode())
    except ValueError as error:
        raise SettingsError(
            f"ZENTRA_EVIDENCE_KEY: {error}; make one with: openssl genpkey -algorithm ed25519"
        ) from error


def signers_of(keys: Sequence[Ed25519PrivateKey]) -> dict[str, SignHead]:
    """Return what signs heads, by the id of its key."""

    def signed(key: Ed25519PrivateKey, tenant: str, size: int, root: bytes, at: datetime) -> tuple[str, bytes]:
        head = sign_head(key, tenant=tenant, size=size, root=root, at=timestamp(at))
        return head.key_id, bytes.fromhex(head.signature)

    return {key_id(key.public_key()): partial(signed, key) for key in keys}


def key_for(
    keys: Sequence[Ed25519PrivateKey], known: Sequence[SigningKey], now: datetime | None = None
) -> Ed25519PrivateKey | None:
    """Return the key to sign with now: the one in force; the first one where there is no history; None where it is not
    among `keys`."""
    kid = in_force(known, timestamp(now or datetime.now(UTC)))
    return next((key for key in keys if kid is None or key_id(key.public_key()) == kid), None)


class SigningService:
    """What one worker says about its keys."""

    def __init__(
        self, pool: Pool, worker: str, held: Mapping[str, object], configuration: Callable[[], Configuration],
        instruments: Instruments,
    ) -> None:  # fmt: skip
        self._pool, self._worker, self._held = pool, worker, frozenset(held)
        self._configuration, self._instruments = configuration, instruments

    async def run(self) -> None:
        """Speak until cancelled; a store that is away is told the next time."""
        while True:
            try:
                await self.look()
            except Unavailable as error:
                logger.warning("keys wait for the store", extra={"error": str(error)})
            await anyio.sleep(LOOK_SECONDS)

    async def look(self) -> bool:
        """Say once which keys there are; return whether the one in force is among them."""
        await sign_on(self._pool, self._worker, sorted(self._held))
        kid = in_force(self._configuration().evidence_keys, timestamp(datetime.now(UTC)))
        able = kid is None or kid in self._held
        self._instruments.gauge("evidence_signing_stopped", 0.0 if able else 1.0)
        if not able:
            logger.error(
                "sealing has stopped: this worker lacks the key in force; put it into ZENTRA_EVIDENCE_KEY and restart",
                extra={"key_id": kid, "held": sorted(self._held)},
            )
        return able

    async def leave(self) -> None:
        """Say that this worker ends; where the store is away it is forgotten after a while."""
        try:
            await sign_off(self._pool, self._worker)
        except Unavailable as error:
            logger.info("keys were not taken back", extra={"error": str(error)})
