"""`zentra listen`: a developer's URL hears what endpoints hear, signed and in order, whatever breaks on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest
from standardwebhooks import Webhook
from typer.testing import CliRunner

from tests.scenarios.people import Books, Person, intent_body, until
from zentra.client.api import AsyncZentra
from zentra.gateway.cli.forwarding import Forwarded, Listener, secret_of
from zentra.gateway.cli.main import app
from zentra.gateway.installation.installation import Installation
from zentra.gateway.listening import Receive, Scope, Send, answer, listening, read_body

pytestmark = pytest.mark.service


class Local:
    """What a developer is working on: takes webhooks and checks them as the reference library does."""

    def __init__(self, secret: str) -> None:
        self.webhook = Webhook(secret)
        self.taken: list[tuple[str, str, int]] = []  # id, event, version
        self.status = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await read_body(receive, 1_000_000)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        assert body is not None
        told = self.webhook.verify(body, headers)
        self.taken.append((headers["webhook-id"], told["type"], told["data"]["object_version"]))
        await answer(send, self.status, b"")


class Wire:
    """A way to the gateway that can be cut."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._target = (parts.hostname, parts.port)
        self._open: list[asyncio.StreamWriter] = []
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(*self._target)
        self._open += [writer, inner_writer]
        self.connections += 1
        await asyncio.gather(self._copy(reader, inner_writer), self._copy(inner_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self) -> None:
        """Break off everything that is open."""
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()


@asynccontextmanager
async def forwarding(
    installation: Installation, base_url: str, to: str, events: tuple[str, ...] = ("ledger.posted",)
) -> AsyncIterator[list[Forwarded]]:
    """Listen as the developer of acme while the context is open; yields the lines."""
    key = installation.keys["acme"]["dev"]
    lines: list[Forwarded] = []
    async with AsyncZentra(key, base_url) as client:
        listener = Listener(client, to, secret_of(key), events=events, told=lines.append)
        running = asyncio.create_task(listener.run())
        try:
            yield lines
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def made(dev: Person) -> str:
    answer = await dev.post("/runtime/intents", intent_body(kind="book_transfer", amount=1), wait=10)
    return str(answer.json["id"])


async def taken(local: Local, count: int) -> list[tuple[str, str, int]]:
    async def look() -> list[tuple[str, str, int]]:
        return local.taken

    return await until(look, lambda seen: len(seen) >= count)


async def test_nothing_is_lost_where_the_stream_or_the_url_breaks(installation: Installation, dev: Person) -> None:
    local = Local(secret_of(installation.keys["acme"]["dev"]))
    wire = Wire(installation.base_url)
    async with await asyncio.start_server(wire, "127.0.0.1", 0) as server:
        base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with listening(local) as url:
            port = int(url.rpartition(":")[2])
            async with forwarding(installation, base_url, f"{url}/hooks") as lines:
                await until(lambda: asyncio.sleep(0, wire.connections), lambda seen: seen > 0)
                intents = [await made(dev)]
                while not local.taken:  # the stream tells of what happens once it is open
                    intents.append(await made(dev))
                wire.cut()
                intents += [await made(dev) for _ in range(3)]
                await taken(local, 4)
                seen = len(local.taken)
                local.status = 500
                intents.append(await made(dev))
                await taken(local, seen + 1)
    assert port
    assert [line.status for line in lines if line.event and not line.note][-1] == 500
    assert all(event == "ledger.posted" for _, event, _ in local.taken)
    assert len({id for id, _, _ in local.taken}) == len(local.taken)
    assert len(local.taken) >= 5


async def test_an_event_is_held_until_somebody_takes_it(installation: Installation, dev: Person) -> None:
    local = Local(secret_of(installation.keys["acme"]["dev"]))
    async with listening(local) as url:
        port = int(url.rpartition(":")[2])
    async with forwarding(installation, installation.base_url, f"http://127.0.0.1:{port}/hooks") as lines:

        async def look() -> list[Forwarded]:
            await made(dev)
            return lines

        await until(look, bool)
        held = lines[0]
        assert (held.status, "holding this event" in held.note) == (None, True)
        async with listening(local, "127.0.0.1", port):
            await taken(local, 1)
    assert local.taken[0][0] == held.webhook_id


async def test_what_is_replayed_comes_again_under_its_id(
    installation: Installation, dev: Person, ops: Person, books: Books
) -> None:
    """With an endpoint of the tenant that takes everything; the listener hears of the event, then of its replay."""
    key = installation.keys["acme"]["dev"]
    local, other = Local(secret_of(key)), Quiet()
    async with listening(local) as url, listening(other) as hook:
        endpoint = (await dev.post("/webhooks/endpoints", {"url": f"{hook}/x", "events": ["ledger.posted"]})).json["id"]
        async with forwarding(installation, installation.base_url, f"{url}/hooks") as lines:
            intent = await made(dev)
            while not local.taken:
                intent = await made(dev)

            async def delivered() -> list[dict[str, str]]:
                path = f"/webhooks/deliveries?intent={intent}&endpoint={endpoint}&status=delivered"
                return list((await dev.get(path)).json["data"])

            delivery = (await until(delivered, bool))[0]["id"]
            assert (await ops.post(f"/webhooks/deliveries/{delivery}/replay", {}, wait=5)).status == 200

            async def resent() -> list[Forwarded]:
                return [line for line in lines if line.resent]

            again = (await until(resent, bool))[0]
        await asyncio.to_thread(the_commands_tell_the_same_story, installation, delivery, endpoint)
        await books.pool.execute("update endpoints set status = 'disabled' where id = $1", endpoint)
    first = next(line for line in lines if not line.resent and line.webhook_id == again.webhook_id)
    assert (again.event, again.sequence) == (first.event, first.sequence)
    assert [id for id, _, _ in local.taken].count(again.webhook_id) == 2


class Quiet:
    """An endpoint that takes everything."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await read_body(receive, 1_000_000)
            await answer(send, 200, b"")


def the_commands_tell_the_same_story(installation: Installation, delivery: str, endpoint: str) -> None:
    environment = {
        "ZENTRA_BASE_URL": installation.base_url, "ZENTRA_API_KEY": installation.keys["acme"]["ops"],
    }  # fmt: skip
    runner = CliRunner()

    def run(*arguments: str) -> str:
        done = runner.invoke(app, arguments, env=environment)
        assert done.exit_code == 0, (done.output, done.exception)
        return str(done.output)

    listed = json.loads(run("webhooks", "list", "--endpoint", endpoint, "--json"))
    assert delivery in [one["id"] for one in listed]
    shown = json.loads(run("webhooks", "show", delivery, "--json"))
    manual, automatic = shown["attempts"]
    assert [(one["trigger"], one["actor"]) for one in (manual, automatic)] == [("manual", "ops"), ("automatic", "")]
    assert manual["request_headers"]["webhook-id"] == automatic["request_headers"]["webhook-id"] == f"msg_{delivery}"
    assert "whsec_" not in json.dumps(shown)
    assert "webhook-signature: v1," in run("webhooks", "show", delivery)
    counted = run("webhooks", "recover", endpoint, "--since", "1h", "--which", "any", "--dry-run")
    assert counted == f"{len(listed)} would be sent (done)\n"
    assert run("webhooks", "recover", endpoint, "--since", "1h", "--which", "failed").startswith("done: 0 found")
    assert endpoint in run("webhooks", "recoveries")
    row = next(one for one in json.loads(run("webhooks", "health", "--json"))["endpoints"]
               if one["endpoint"] == endpoint)  # fmt: skip
    assert (row["due"], row["delivered"], row["health"]) == (len(listed), len(listed), 1.0)
    assert run("webhooks", "replay", delivery).strip() == f"{delivery}: done"
    secret = run("listen", "--forward-to", "http://127.0.0.1:1", "--print-secret").strip()
    assert secret == secret_of(environment["ZENTRA_API_KEY"])
