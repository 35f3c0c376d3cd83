"""Helper processes of a measurement: each is a module run with this Python, spoken to in lines of JSON.

- A helper ends when its standard input does, so none outlives the process that started it.
- What a helper prints is read as it comes; a helper that ends before it has answered raises, with its exit code.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

__all__ = ["Sidecar", "SidecarFailed", "sidecar"]

END_SECONDS_MAX: Final = 10.0
LINE_BYTES_MAX: Final = 64 * 1024 * 1024  # a report holds a histogram for every second


class SidecarFailed(Exception):
    """Raised where a helper ended or fell silent before it had answered."""


class Sidecar:
    """One helper that runs."""

    def __init__(self, module: str, process: asyncio.subprocess.Process) -> None:
        self._module, self._process = module, process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def say(self, document: object) -> None:
        """Send it one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(document) + b"\n")

    async def hear(self) -> dict[str, Any]:
        """Return its next line. Raises SidecarFailed where there is none."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise SidecarFailed(f"{self._module} ended with {await self._process.wait()} before it had answered")
        heard: dict[str, Any] = msgspec.json.decode(line)
        return heard

    async def end(self) -> None:
        """Let it end by itself, and end it where it does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS_MAX):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def sidecar(module: str) -> AsyncIterator[Sidecar]:
    """Run `zentra.bench.measuring.<module>` while the context is open."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"zentra.bench.measuring.{module}",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES_MAX,
    )  # fmt: skip
    helper = Sidecar(module, process)
    try:
        yield helper
    finally:
        await helper.end()
