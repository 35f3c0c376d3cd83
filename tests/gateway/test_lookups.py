"""Names that are looked up: a name server that hangs holds up its own names and nobody else's."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from zentra.gateway.outward.lookups import SharedLookups


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Names that begin with `slow` wait until they are let go; the others are answered."""
    names: list[str] = []
    let_go = threading.Event()

    def getaddrinfo(host: str, port: int, **options: Any) -> Any:
        names.append(host)
        if host.startswith("slow"):
            let_go.wait(30)
        if host.startswith("no"):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", port)),
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::7", port, 0, 0))]  # fmt: skip

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield names
    let_go.set()


async def test_a_name_is_looked_up_once_at_a_time_and_again_afterwards(asked: list[str]) -> None:
    lookups = SharedLookups(4)
    found = await asyncio.gather(*(lookups.resolve("a.test", 443) for _ in range(20)))
    assert [(one["host"], one["port"]) for one in found[0]] == [("192.0.2.7", 443), ("2001:db8::7", 443)]
    assert asked == ["a.test"]
    await lookups.resolve("a.test", 443)
    assert asked == ["a.test", "a.test"], "nothing is kept"
    await lookups.close()


async def test_a_name_that_hangs_takes_one_thread_however_often_it_is_asked_for(asked: list[str]) -> None:
    lookups = SharedLookups(2)
    hanging = [asyncio.create_task(lookups.resolve("slow.test", 443)) for _ in range(20)]
    async with asyncio.timeout(10):
        assert len(await lookups.resolve("b.test", 443)) == 2
    hanging[0].cancel()
    async with asyncio.timeout(10):
        assert len(await lookups.resolve("c.test", 443)) == 2
    assert asked.count("slow.test") == 1
    assert not hanging[1].done(), "who gives up takes nothing from the others"
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    await lookups.close()


async def test_a_name_that_nobody_has_is_an_error_for_all_who_asked(asked: list[str]) -> None:
    lookups = SharedLookups(2)
    found = await asyncio.gather(*(lookups.resolve("no.test", 443) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in found] == [socket.gaierror] * 3
    await lookups.close()
