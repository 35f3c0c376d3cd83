"""Names that are looked up: a name server that hangs holds up its own names and nobody else's."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from zentra.gateway.outward import lookups as module
from zentra.gateway.outward.http import AddressPolicy, OutwardHttp
from zentra.gateway.outward.lookups import LOOKUPS_EACH, LookupsBusy, SharedLookups, asker
from zentra.gateway.outward.webhooks import WebhookSender
from zentra.runtime.webhooks.standard import AttemptError, WebhookCall


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


async def test_one_tenants_names_that_hang_hold_up_no_other_tenant(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
    http = OutwardHttp(AddressPolicy(), connections_per_host_max=0, resolver=SharedLookups(2 * LOOKUPS_EACH))
    sender = WebhookSender(http, total_timeout_seconds=10)

    def call(tenant: str, name: str) -> WebhookCall:
        return WebhookCall(f"https://{name}/", "msg_1", b"{}", (b"x" * 32,), 1, name, tenant=tenant)

    hanging = [asyncio.create_task(sender.send(call("evil", f"slow{number}.test"))) for number in range(20)]
    async with asyncio.timeout(5):
        good = await sender.send(call("good", "no-such.test"))
        assert good.error is AttemptError.NAME_NOT_RESOLVED, "it was asked for at once"
        done, under_way = await asyncio.wait(hanging, timeout=1)
    assert {task.result().error for task in done} == {AttemptError.LOOKUPS_BUSY}
    assert (len(under_way), len([name for name in asked if name.startswith("slow")])) == (LOOKUPS_EACH, LOOKUPS_EACH)
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
    still = await sender.send(call("evil", "slow99.test"))
    assert still.error is AttemptError.LOOKUPS_BUSY, "who gives up waiting has given no thread back"
    await http.aclose()


async def test_names_that_are_answered_wait_for_one_another_and_all_are_found(asked: list[str]) -> None:
    lookups = SharedLookups(2)
    asker.set("acme")
    found = await asyncio.gather(*(lookups.resolve(f"a{number}.test", 443) for number in range(50)))
    assert [len(one) for one in found] == [2] * 50
    assert len(asked) == 50
    await lookups.close()


async def test_a_name_that_waits_joins_whoever_has_asked_for_it_meanwhile(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups = SharedLookups(8)
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
    asker.set("one")
    hanging = [asyncio.create_task(lookups.resolve(f"slow{number}.test", 443)) for number in range(LOOKUPS_EACH)]
    await asyncio.sleep(0)
    with pytest.raises(LookupsBusy):
        await lookups.resolve("b.test", 443)
    joined = asyncio.create_task(lookups.resolve("slow0.test", 443))
    await asyncio.sleep(0)
    assert not joined.done(), "what is under way already takes no place"
    for task in (*hanging, joined):
        task.cancel()
    await asyncio.gather(*hanging, joined, return_exceptions=True)
    await lookups.close()
