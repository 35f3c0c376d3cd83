"""The public keys of the installation's evidence, for everybody: no key is needed to read one.

Whoever verifies should have got one of them by another way: the history's signatures lead from that one to the rest."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import msgspec

from zentra.gateway.http.app import Headers, Reply, Request, Route
from zentra.gateway.http.problems import Problem
from zentra.runtime.evidence.key_files import history_file
from zentra.storage.intake.evidence_keys import key_history
from zentra.storage.pool import Pool

__all__ = ["JWK_SET_TYPE", "KeyRoutes"]

JWK_SET_TYPE: Final = "application/jwk-set+json"


class KeyRoutes:
    """The handler and its route."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def routes(self) -> list[Route]:
        """Return what this door serves."""
        return [Route("GET", "/.well-known/zentra-evidence-keys", self.keys, None)]

    async def keys(self, request: Request) -> Reply:
        """The keys with their times, and the signed entries behind them."""
        history = await key_history(self._pool)
        if not history.entries:
            raise Problem("evidence_key_absent", "no worker has started yet, and the first one brings the key")
        body = msgspec.json.encode(history_file(history))
        tag = b'"%b"' % sha256(body).hexdigest().encode()
        headers: Headers = ((b"etag", tag), (b"cache-control", b"public, max-age=60"))
        known = request.headers.get(b"if-none-match", b"")
        if tag in [one.strip().removeprefix(b"W/") for one in known.split(b",")]:
            return Reply(304, b"", headers, JWK_SET_TYPE.encode())
        return Reply(200, body, headers, JWK_SET_TYPE.encode())
