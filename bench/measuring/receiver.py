"""A tenant's webhook endpoint for measurements: takes every event, counts it by its id, and is down when it is told to.

Standard input takes lines such as `{"down_from": 1.5, "down_to": 4.5}` in unix seconds, or `{"count": true}`, which is
answered with the counts. The signature is looked at for presence only; that it is right is what the tests show."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import msgspec
import uvloop

from zentra.bench.measuring.wire import serve

__all__ = ["Receiver", "main"]


class Receiver:
    """What came in."""

    def __init__(self) -> None:
        self.ids: set[bytes] = set()
        self.calls = self.refused = self.unsigned = 0
        self.down_from = self.down_to = 0.0

    def take(self, method: bytes, path: bytes, headers: dict[bytes, bytes], body: bytes) -> tuple[int, bytes]:
        """Take one call: 204, or 503 while down."""
        self.calls += 1
        if self.down_from <= time.time() < self.down_to:
            self.refused += 1
            return 503, b""
        if b"webhook-signature" not in headers:
            self.unsigned += 1
        self.ids.add(headers.get(b"webhook-id", b""))
        return 204, b""

    def counts(self) -> dict[str, int]:
        """Return calls, those refused, those unsigned, and how many different events were taken."""
        return {"calls": self.calls, "refused": self.refused, "unsigned": self.unsigned, "taken": len(self.ids)}


async def _run() -> None:
    receiver = Receiver()
    async with serve(receiver.take) as port:
        _say({"port": port})
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            told: dict[str, Any] = msgspec.json.decode(line)
            if told.get("count"):
                _say(receiver.counts())
            else:
                receiver.down_from, receiver.down_to = told["down_from"], told["down_to"]


def _say(document: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(document) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Print the port as JSON and take calls until standard input ends."""
    uvloop.run(_run())


if __name__ == "__main__":
    main()
