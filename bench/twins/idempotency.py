"""The idempotency cache in memory, for tests and simulations: one server, and a view of it per process."""

from __future__ import annotations

from collections.abc import Sequence

from zentra.runtime.idempotency import IN_FLIGHT, InFlight, KeyRef, StoredKey, Taken

__all__ = ["IdempotencyServer", "IdempotencyTwin"]


class IdempotencyServer:
    """What all processes share. `down` is a server that answers nobody; `flush` one that has forgotten everything."""

    def __init__(self) -> None:
        self.values: dict[KeyRef, StoredKey | IdempotencyTwin] = {}
        self.down = False

    def flush(self) -> None:
        """Forget every lock and every answer."""
        self.values.clear()


class IdempotencyTwin:
    """One process's view of the server; its locks are its own."""

    def __init__(self, server: IdempotencyServer) -> None:
        self._server = server

    async def take(self, keys: Sequence[KeyRef]) -> Taken:
        """Return what is known of each key, and lock those of which nothing is."""
        if self._server.down:
            return Taken((None,) * len(keys), degraded=True)
        return Taken([self._take(key) for key in keys])

    async def store(self, answers: Sequence[tuple[KeyRef, StoredKey]]) -> None:
        """Keep answers; each replaces the lock on its key."""
        if not self._server.down:
            self._server.values.update(answers)

    async def release(self, keys: Sequence[KeyRef]) -> None:
        """Give up our locks on keys that led to nothing."""
        for key in () if self._server.down else keys:
            if self._server.values.get(key) is self:
                del self._server.values[key]

    def _take(self, key: KeyRef) -> StoredKey | InFlight | None:
        value = self._server.values.setdefault(key, self)
        if isinstance(value, StoredKey):
            return value
        return None if value is self else IN_FLIGHT
