"""Screening in the background of a worker: lists made ready before they are active, parties held against them.

- Every worker keeps the lists that may be asked ready in its own memory. The owner of partition 0 alone screens parties
  and lets approvals run out; should two do it for a moment, the store takes the work once.
- Where no tenant's rules ask for compliance, the store is asked for approvals that have run out and for nothing else.
- Ticks come first: between two names it pauses for as long as the name took."""

import logging
from collections.abc import Callable
from typing import Final

import anyio

from zentra.runtime.compliance.diligence import Compliance
from zentra.runtime.errors import DataError, Unavailable
from zentra.runtime.instruments import Instruments
from zentra.runtime.ports import Configuration
from zentra.storage.pool import Pool
from zentra.storage.screening import ListShelf, cleared_pairs, expire_identities, screen_batch

__all__ = ["ScreeningService"]

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0  # until a new party is screened
EXPIRY_SECONDS: Final = 30.0
BATCHES_MAX: Final = 20  # of a tenant, before the next tenant has its turn


class ScreeningService:
    """What one worker does for screening. `is_first` says whether it owns partition 0 now."""

    def __init__(
        self,
        pool: Pool,
        shelf: ListShelf,
        configuration: Callable[[], Configuration],
        is_first: Callable[[], bool],
        instruments: Instruments,
    ) -> None:
        self._pool, self._shelf, self._configuration = pool, shelf, configuration
        self._is_first, self._instruments = is_first, instruments
        self._expired_at = -EXPIRY_SECONDS

    async def run(self) -> None:
        """Look after lists and parties until cancelled; a store that is away is looked at again the next time."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except (Unavailable, DataError) as error:
                logger.warning("screening waits for the store", extra={"error": str(error)})

    async def look(self) -> int:
        """Do what is due once; return how many parties were screened."""
        policies = self._configuration().policies
        asked = {tenant: rules.compliance for tenant, rules in policies.items() if rules.compliance is not None}
        if any(rules.screen != "off" for rules in asked.values()):
            await self._shelf.prepare()
        if not self._is_first():
            return 0
        if anyio.current_time() - self._expired_at >= EXPIRY_SECONDS:
            self._expired_at = anyio.current_time()
            await expire_identities(self._pool)
        return sum([await self._screen(tenant, rules) for tenant, rules in asked.items() if rules.screen == "all"])

    async def _screen(self, tenant: str, rules: Compliance) -> int:
        lists = await self._shelf.active()
        cleared = (await cleared_pairs(self._pool)).get(tenant, frozenset())
        looked_at = 0
        for _ in range(BATCHES_MAX):
            done = await screen_batch(self._pool, tenant, rules, lists, cleared, pauses=True)
            self._instruments.count("parties_screened", by=done.looked_at)
            self._instruments.count("parties_screening_changes", by=done.changed)
            looked_at += done.looked_at
            if not done.looked_at or not self._is_first():
                break
        return looked_at
