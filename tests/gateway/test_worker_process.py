"""The worker process: how what it is made of is wired together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import anyio

from zentra.actors.outward import Outward
from zentra.gateway.outward.http import AddressPolicy
from zentra.gateway.outward.rail_secrets import RailSecrets
from zentra.gateway.worker_process import open_ways_out
from zentra.runtime.instruments import SILENCE
from zentra.runtime.messages import RailReported, decode_frame
from zentra.runtime.rails.port import OutcomeStatus, RailSettings, Submission
from zentra.runtime.rails.routing import reference_of
from zentra.runtime.stream_ports import Outgoing, StreamError
from zentra.runtime.subjects import command_subject
from zentra.runtime.webhooks.standard import WebhookCall

CONNECTIONS_MAX = 4
SECRETS = RailSecrets(bytes(32))
DEV = AddressPolicy(allow_private=True)
REFERENCE = reference_of("a" * 32, 1)
ANSWER = b'{"status":"pending","reference":"%s","amount":"100","currency":"NGN"}' % REFERENCE.encode()


class Told:
    """A stream that takes everything."""

    def __init__(self) -> None:
        self.outcomes: list[OutcomeStatus] = []

    async def publish(self, messages: Sequence[Outgoing]) -> list[StreamError | None]:
        events = [event for message in messages for event in decode_frame(message.body)]
        self.outcomes += [event.outcome.status for event in events if isinstance(event, RailReported)]
        return [None] * len(messages)


async def test_endpoints_that_hang_take_no_connection_from_a_rail() -> None:
    hanging = 0

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal hanging
        hanging += 1
        await reader.read()  # until the caller hangs up
        writer.close()

    async def pay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER)
        await writer.drain()
        writer.close()

    async with AsyncExitStack() as opened:
        urls = []
        for serve in (hang, pay):
            server = await opened.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", 0))
            urls.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        settings = {"alpha": RailSettings("alpha", "sandbox", urls[1], "s" * 32, submit_timeout_seconds=2.0)}
        book, sender = open_ways_out(
            DEV, DEV, lambda: settings, opened, connections_max=CONNECTIONS_MAX, secrets=SECRETS
        )
        told = Told()
        outward = Outward(book.adapter, sender, told, lambda key: 0, command_subject, SILENCE)
        calls = [
            ("acme", "hook", WebhookCall(urls[0], f"msg_{number}", b"{}", (b"secret",), 1, f"{number:032x}"))
            for number in range(2 * CONNECTIONS_MAX)
        ]
        async with anyio.create_task_group() as group:
            group.start_soon(outward.run)
            await anyio.wait_all_tasks_blocked()
            outward.perform([], [], calls)
            with anyio.fail_after(10):
                while hanging < CONNECTIONS_MAX:
                    await anyio.lowlevel.checkpoint()
                outward.perform([Submission("acme", "alpha", REFERENCE, 100, "NGN", "merchant")], [], [])
                while not told.outcomes:
                    await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    assert told.outcomes == [OutcomeStatus.PENDING]
