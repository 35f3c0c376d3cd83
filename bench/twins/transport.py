"""The twin of the webhook sender: endpoints that answer from a script, without a socket.

- It signs as the sender does, so what it received can be verified; it never waits, and nothing in it is random.
- A script is answered from the left and its last reply for ever; an endpoint without a script answers 200.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from zentra.runtime.webhooks.standard import AttemptError, AttemptResult, WebhookCall, signature_header

__all__ = ["Received", "ScriptedEndpoints", "ScriptedReply"]


class ScriptedReply(NamedTuple):
    """What an endpoint does with one call: answers with a status, or fails with an error."""

    status: int | None = 200
    error: AttemptError | None = None
    retry_after_seconds: int | None = None
    body: str = ""
    latency_ms: int = 1
    aborted: bool = False


class Received(NamedTuple):
    """One call as the endpoint saw it; headers have lower-case names."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class ScriptedEndpoints:
    """A webhook transport without I/O."""

    def __init__(
        self, clock: Callable[[], float], scripts: Mapping[str, Sequence[ScriptedReply]] | None = None
    ) -> None:
        """`scripts` maps a URL to its replies. Raises ValueError for a script without any."""
        self._clock = clock
        self._scripts = {url: list(script) for url, script in (scripts or {}).items()}
        if not all(self._scripts.values()):
            raise ValueError("a script holds at least one reply")
        self.received: list[Received] = []

    async def send(self, call: WebhookCall) -> AttemptResult:
        """Return the next scripted result. Raises ValueError only for a call that cannot be signed."""
        timestamp = int(self._clock())
        headers = {
            "content-type": "application/json",
            "webhook-id": call.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature_header(call.secrets, call.id, timestamp, call.body, call.keys),
        }
        if call.version:
            headers["zentra-version"] = call.version
        if call.sequence:
            headers["zentra-sequence"] = str(call.sequence)
        reply = self._next(call.url)
        if reply.error not in (
            AttemptError.URL_REFUSED,
            AttemptError.ADDRESS_REFUSED,
            AttemptError.NAME_NOT_RESOLVED,
            AttemptError.CONNECT_FAILED,
            AttemptError.CONNECT_TIMEOUT,
            AttemptError.TLS_FAILED,
        ):
            self.received.append(Received(call.url, headers, call.body))
        return AttemptResult(
            delivery=call.delivery,
            attempt=call.attempt,
            status=reply.status if reply.error is None else None,
            error=reply.error,
            latency_ms=reply.latency_ms,
            retry_after_seconds=reply.retry_after_seconds,
            response_excerpt=reply.body,
            request_headers=tuple(headers.items()),
            aborted=reply.aborted and reply.error is None,
        )

    def answer(self, url: str, script: Sequence[ScriptedReply]) -> None:
        """Let an endpoint answer from this script from now on. Raises ValueError for one without any reply."""
        if not script:
            raise ValueError("a script holds at least one reply")
        self._scripts[url] = list(script)

    def _next(self, url: str) -> ScriptedReply:
        script = self._scripts.get(url)
        if script is None:
            return ScriptedReply()
        return script.pop(0) if len(script) > 1 else script[0]
