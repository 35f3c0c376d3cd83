"""What a rehearsal is made of: a story that is told as it happens, and the stage it is played on.

The stage is a client's view: requests, answers and what the parties see afterwards. A story fails, with a sentence, as
soon as something is not as it has to be."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
import anyio

from zentra.gateway.rehearsals.receiver import Receiver
from zentra.gateway.rehearsals.site import Site
from zentra.runtime.evidence.history import HistoryFlaw, ring_with
from zentra.runtime.evidence.key_files import history_of_file
from zentra.runtime.evidence.keyring import KeyRing
from zentra.runtime.evidence.packet import verify_packet
from zentra.runtime.webhooks.standard import parse_secret

__all__ = ["Answer", "Stage", "Story", "StoryFailed", "callbacks_of", "tell_ledger", "tell_timeline"]

FUNDED_MINOR: Final = 40_000_000
PAUSE_SECONDS: Final = 0.05

Answer = dict[str, Any]


class StoryFailed(Exception):
    """Raised when a story does not go as it has to; the sentence says where."""


class Story:
    """What was told of one story: lines for people, facts for machines."""

    def __init__(self, name: str, title: str) -> None:
        self.name, self.title = name, title
        self.lines: list[str] = []
        self.facts: dict[str, Any] = {}
        self.failure = ""
        self.left_out = ""  # why it was not played

    def say(self, line: str) -> None:
        """Add a line for people."""
        self.lines.append(line)

    def expect(self, holds: bool, sentence: str) -> None:
        """Raise StoryFailed unless `holds`."""
        if not holds:
            raise StoryFailed(sentence)


class Stage:
    """The doors of an installation as the people in the stories use them, and two accounts of this rehearsal's own."""

    def __init__(self, site: Site, session: aiohttp.ClientSession, receiver: Receiver, hook: str) -> None:
        self.site, self.session, self.receiver, self.hook = site, session, receiver, hook
        run = secrets.token_hex(4)
        self.payer, self.payee = f"rehearsal-{run}-payer", f"rehearsal-{run}-payee"
        self._endpoint = ""
        self._keys = {"creator": site.cast.creator, "operator": site.cast.operator, "stranger": site.cast.stranger}

    async def prepare(self) -> None:
        """Register the tenant's webhook consumer, open the accounts and fund the payer.

        Raises StoryFailed where a door refuses, and aiohttp.ClientError where none answers."""
        for account, kind in ((self.payer, "customer"), (self.payee, "merchant")):
            body = {"account_id": account, "owner": "rehearsal", "type": kind, "currency": self.site.currency}
            _done(await self.call("POST", "/accounts", "creator", body), f"account {account}")
        liquidity = f"liquidity-{self.site.currency.lower()}"
        funding = {
            "kind": "book_transfer", "amount": FUNDED_MINOR, "currency": self.site.currency, "source": liquidity,
            "destination": self.payer, "intent_id": f"{self.payer}-funding",
        }  # fmt: skip
        answer = _done(await self.call("POST", "/runtime/intents", "operator", funding, wait=15), "the funding")
        if answer["status"] != "SUCCESSFUL":
            raise StoryFailed(f"the payer could not be funded from {liquidity}: {answer['status']}")
        made = _done(
            await self.call("POST", "/webhooks/endpoints", "creator", {"url": f"{self.hook}/hooks"}), "the hook"
        )
        self._endpoint = made["id"]
        self.receiver.secrets.append(parse_secret(made["secret"]))

    async def leave(self) -> None:
        """Delete the webhook consumer: packets of the tenant would go on waiting for one that nobody plays any more."""
        if self._endpoint:
            answered = await self.call("DELETE", f"/webhooks/endpoints/{self._endpoint}", "creator")
            self._endpoint = ""
            _done(answered, "the end of the hook")

    async def call(
        self, method: str, path: str, who: str, body: Answer | None = None, *, wait: int = 0, key: str = ""
    ) -> tuple[int, Any]:
        """Return status and decoded answer of one request as `creator`, `operator` or `stranger`."""
        headers = {"authorization": f"Bearer {self._keys[who]}"}
        if body is not None:
            headers["x-idempotency-key"] = key or f"rehearsal-{secrets.token_hex(8)}"
        if wait:
            headers["prefer"] = f"wait={wait}"
        url = f"{self.site.base_url}{path}"
        async with self.session.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    def order(self, minor: int, scenario: str = "success") -> Answer:
        """Return the body of a transfer from the payer to the payee under an intent_id of its own."""
        return {
            "kind": "transfer",
            "amount": minor,
            "currency": self.site.currency,
            "source": self.payer,
            "destination": self.payee,
            "intent_id": f"rehearsal-{secrets.token_hex(4)}",
            "metadata": {"sandbox_scenario": scenario},
        }

    async def transfer(self, story: Story, minor: int, scenario: str = "success", *, wait: int = 15) -> Answer:
        """Ask for a transfer and return the intent as it then stands."""
        body = self.order(minor, scenario)
        status, answer = await self.call("POST", "/transfers", "creator", body, wait=wait)
        story.expect(status in (200, 202), f"the transfer was refused: {status} {answer}")
        story.say(f"a transfer of {minor} {body['currency']} minor units is asked for ({body['intent_id']})")
        story.facts["intent_id"] = body["intent_id"]
        return await self.intent(body["intent_id"])

    async def intent(self, intent_id: str) -> Answer:
        """Return an intent as its creator sees it. Raises StoryFailed where it cannot be read."""
        status, answer = await self.call("GET", f"/runtime/intents/{intent_id}", "creator")
        if status != 200:
            raise StoryFailed(f"the intent cannot be read: {status} {answer}")
        return dict(answer)

    async def until(self, intent_id: str, condition: Callable[[Answer], bool]) -> Answer:
        """Return the intent once it fits; whoever waits sets the bound."""
        while True:
            seen = await self.intent(intent_id)
            if condition(seen):
                return seen
            await anyio.sleep(PAUSE_SECONDS)

    async def balance(self, account: str) -> Answer:
        """Return an account as it stands. Raises StoryFailed where it cannot be read."""
        return _done(await self.call("GET", f"/accounts/{account}", "creator"), account)

    async def posted(self, account: str) -> int:
        """Return the posted balance of an account in minor units."""
        return int((await self.balance(account))["posted"])

    async def verified(self, story: Story, intent_id: str) -> None:
        """Tell the timeline of an intent once all of it is sealed, and check its packet offline: the records that are
        shown are those that are verified.

        It needs public keys alone; keys that came after them are taken from the history that they sign."""
        while True:
            seen = await self.until(intent_id, _is_sealed)
            packet = await self._packet(intent_id)
            ring = await self._ring()
            verdict = None if ring is None else verify_packet(packet, ring)
            if verdict is None or not verdict.ok or verdict.records == len(seen["event_stream"]):
                break
        tell_timeline(story, seen)
        if verdict is None:
            story.say(
                f"evidence of {intent_id}: {len(packet)} bytes; not verified, because no public key was given (--key)"
            )
            story.facts["evidence"] = "sealed"
            return
        problems = "; ".join(f"{problem.where}: {problem.detail}" for problem in verdict.problems)
        story.expect(verdict.ok, f"the packet of {intent_id} does not verify: {problems}")
        told = f"{verdict.records} records, tree of {verdict.head_size}, key {verdict.key_id}"
        story.say(f"evidence of {intent_id}: verified ({told})")
        story.facts["evidence"] = "verified"

    async def submits(self, rail: str, reference: str) -> int | None:
        """Return how often a rail was asked to pay under a reference, by its own count; None where nobody said where
        the sandbox is."""
        if not self.site.sandbox_url:
            return None
        async with self.session.get(f"{self.site.sandbox_url}/rails/{rail}/payments/{reference}") as response:
            response.raise_for_status()
            return int((await response.json(content_type=None))["submits"])

    async def _ring(self) -> KeyRing | None:
        """Return the keys that check evidence: those given, and those of the installation's history that they sign."""
        if self.site.keys is None:
            return None
        async with self.session.get(f"{self.site.base_url}/.well-known/zentra-evidence-keys") as response:
            if response.status != 200:
                return self.site.keys
            history = await response.read()
        try:
            return ring_with(self.site.keys, history_of_file(history))
        except HistoryFlaw as flaw:
            raise StoryFailed(f"the installation's keys are not those of --key: {flaw}") from flaw

    async def _packet(self, intent_id: str) -> bytes:
        headers = {"authorization": f"Bearer {self.site.cast.creator}"}
        while True:
            url = f"{self.site.base_url}/runtime/intents/{intent_id}/evidence"
            async with self.session.get(url, headers=headers) as response:
                packet = await response.read()
                if response.status == 200:
                    return packet
            await anyio.sleep(PAUSE_SECONDS)


def _done(answered: tuple[int, Any], what: str) -> Answer:
    status, answer = answered
    if status not in (200, 201, 202):
        raise StoryFailed(f"{what} was refused: {status} {answer}")
    return dict(answer)


def _is_sealed(seen: Answer) -> bool:
    return seen["event_stream"][-1]["event"] in ("review.closed", "evidence.amended")


def callbacks_of(seen: Answer) -> list[Answer]:
    """Return the outcomes that the provider has reported, among the events of an intent."""
    told = [event for event in seen["event_stream"] if event["event"] == "provider.callback"]
    return [event for event in told if event["facts"]["said"] not in ("pending", "unknown")]


def tell_timeline(story: Story, seen: Answer) -> None:
    """Say what happened to an intent, one line per event."""
    for event in seen["event_stream"]:
        step = f"/{event['step']}" if event.get("step") else ""
        said = _said(event.get("facts", {}))
        story.say(f"  {event['at'][11:23]}  {event['event']:<24} {event['to'] + step:<22} by {event['actor']}{said}")
    story.facts["events"] = [event["event"] for event in seen["event_stream"]]
    story.facts["status"] = seen["status"]


def _said(facts: Mapping[str, Any]) -> str:
    """Return the part of an event's facts that tells one report from the next."""
    shown = [str(facts[name]) for name in ("rail", "said", "reason") if facts.get(name)]
    return f" ({', '.join(shown)})" if shown else ""


def tell_ledger(story: Story, seen: Answer) -> None:
    """Say how the money moved."""
    for entry in seen["ledger_state"]["entries"]:
        layers = [f"{layer} {int(entry[layer]):+d}" for layer in ("pending", "posted") if int(entry[layer])]
        story.say(f"  {entry['posting']:<9} {entry['debit']} -> {entry['credit']}  {', '.join(layers)}")
