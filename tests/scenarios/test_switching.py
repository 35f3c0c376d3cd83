"""`zentra webhooks endpoints`: set up, disabled and enabled by a person, who is named to whoever else listens."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.scenarios.people import Person, intent_body, until
from zentra.gateway.cli.main import app
from zentra.gateway.installation.installation import Installation
from zentra.gateway.listening import Receive, Scope, Send, answer, listening, read_body

pytestmark = pytest.mark.service
DISABLED, ENABLED = "webhook.endpoint_disabled", "webhook.endpoint_enabled"


class Consumer:
    """Takes everything, and keeps what it was told, by path."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.heard.append((scope["path"], json.loads(await read_body(receive, 1_000_000) or b"{}")))
            await answer(send, 200, b"taken")

    async def until(self, path: str, *topics: str) -> list[dict[str, Any]]:
        """Return what came at a path, once these topics did."""

        async def look() -> list[dict[str, Any]]:
            return [body for at, body in self.heard if at == path and body["type"] in topics]

        return await until(look, lambda seen: {body["type"] for body in seen} == set(topics))


class Shell:
    """The commands as a person of acme gives them."""

    def __init__(self, installation: Installation, name: str) -> None:
        self._environment = {
            "ZENTRA_BASE_URL": installation.base_url, "ZENTRA_API_KEY": installation.keys["acme"][name],
        }  # fmt: skip

    async def ask(self, *arguments: str) -> Result:
        given = ("webhooks", "endpoints", *arguments)
        return await asyncio.to_thread(CliRunner().invoke, app, given, env=self._environment)

    async def say(self, *arguments: str) -> str:
        done = await self.ask(*arguments)
        assert done.exit_code == 0, (done.output, done.exception)
        return str(done.output)

    async def get(self, *arguments: str) -> Any:
        return json.loads(await self.say(*arguments, "--json"))


async def test_whoever_switches_an_endpoint_is_named_to_the_others(installation: Installation, dev: Person) -> None:
    shell, consumer = Shell(installation, "dev"), Consumer()
    async with listening(consumer) as url:
        told = await shell.say("add", f"{url}/money", "--events", "ledger.posted", "--v1a", "--schedule", "0,1")
        assert "secret: whsec_" in told
        assert "not shown again" in told
        watch = (await shell.get("add", f"{url}/watch", "--events", "webhook.*"))["id"]
        money = next(one["id"] for one in await shell.get("list") if one["url"] == f"{url}/money")
        assert "whsec_" not in await shell.say("show", money)

        intent = (await dev.post("/runtime/intents", intent_body(kind="book_transfer", amount=1), wait=10)).json["id"]
        (posted,) = await consumer.until("/money", "ledger.posted")

        async def taken() -> Any:
            return (await dev.get(f"/webhooks/deliveries?endpoint={money}&status=delivered")).json["data"]

        await until(taken, bool)
        assert "status: disabled" in await shell.say("disable", money)
        await consumer.until("/watch", DISABLED)
        enabled = await shell.say("enable", money)
        assert f"zentra webhooks recover {money} --since " in enabled
        heard = await consumer.until("/watch", DISABLED, ENABLED)
        assert [one["data"]["id"] for one in heard] == [posted["data"]["id"]] * 2 == [intent] * 2
        for one in heard:
            said = one["data"]["endpoint"]
            assert (said["id"], said["reason"], said["by"], said["event"]) == (money, "asked", "dev", "ledger.posted")
            assert (said["status_code"], said["attempts"]) == (200, 1)
            delivery = (await dev.get(f"/webhooks/deliveries/{said['delivery']}")).json
            assert (delivery["endpoint"], delivery["intent"]) == (money, intent)

        rotated = await shell.get("rotate", money, "--overlap-seconds", "60")
        assert len(rotated["secrets"]) == 2
        twice = await shell.ask("enable", money)
        assert "it is enabled" in str(twice.exception)
        for one in (money, watch):
            assert await shell.say("delete", one) == f"{one}: deleted\n"


@pytest.mark.parametrize(
    "to", ["localhost:3000", "http://:3000/x", "http://localhost:99999/x", "http://localhost:soon/x", "http://a b/"]
)
def test_listening_for_a_url_that_is_none_ends_at_once_and_says_how_one_looks(to: str) -> None:
    environment = {"ZENTRA_BASE_URL": "http://127.0.0.1:9", "ZENTRA_API_KEY": "zk_test_x"}
    refused = CliRunner().invoke(app, ["listen", "--forward-to", to, "--print-secret"], env=environment)
    assert refused.exit_code != 0
    assert f"--forward-to {to}: a URL like http://localhost:3000/hooks" in str(refused.exception)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add", "http://169.254.169.254/latest"), "/url url_refused: webhooks do not go there (link_local)"),
        (("add", "https://x.example/", "--events", "foo.*"), "/events/0 event_unknown: no event"),
        (("add", "https://x.example/", "--schedule", "soon"), "whole seconds by commas, like 0,30,300"),
        (("show", "ep_none"), "there is nothing with this id"),
    ],
)
async def test_what_is_refused_says_what_to_do(
    installation: Installation, arguments: tuple[str, ...], says: str
) -> None:
    refused = await Shell(installation, "dev").ask(*arguments)
    assert refused.exit_code != 0
    assert says in str(refused.exception)
