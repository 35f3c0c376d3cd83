"""The six stories of the demo, each a client's view: requests, answers and what the parties see afterwards.

A story fails, with a sentence, as soon as something is not as it has to be."""

import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Final

import aiohttp
import anyio

from zentra.gateway.demo.receiver import Receiver
from zentra.gateway.installation.installation import Installation
from zentra.runtime.evidence.heads import load_public_key
from zentra.runtime.evidence.packet import verify_packet
from zentra.runtime.webhooks.standard import parse_secret

__all__ = ["STORIES", "Stage", "Story", "StoryFailed"]

Answer = dict[str, Any]


class StoryFailed(Exception):
    """Raised when a story does not go as it has to; the sentence says where."""


class Story:
    """What was told of one story: lines for people, facts for machines."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.lines: list[str] = []
        self.facts: dict[str, Any] = {}
        self.failure = ""

    def say(self, line: str) -> None:
        """Add a line for people."""
        self.lines.append(line)

    def expect(self, holds: bool, sentence: str) -> None:
        """Raise StoryFailed unless `holds`."""
        if not holds:
            raise StoryFailed(sentence)


class Stage:
    """The doors of an installation as the people in the stories use them."""

    def __init__(
        self, installation: Installation, session: aiohttp.ClientSession, receiver: Receiver, hook: str
    ) -> None:
        self.installation, self.session, self.receiver, self.hook = installation, session, receiver, hook

    async def prepare(self) -> None:
        """Register the webhook consumer of acme."""
        status, answer = await self.call("POST", "/webhooks/endpoints", "acme", "dev", {"url": f"{self.hook}/hooks"})
        if status != 201:
            raise StoryFailed(f"the webhook endpoint was refused: {status} {answer}")
        self.receiver.secrets.append(parse_secret(answer["secret"]))

    async def call(
        self, method: str, path: str, tenant: str, who: str, body: Answer | None = None, *, wait: int = 0, key: str = ""
    ) -> tuple[int, Any]:
        """Return status and decoded answer of one request as a principal of a tenant."""
        headers = {"authorization": f"Bearer {self.installation.keys[tenant][who]}"}
        if body is not None:
            headers["x-idempotency-key"] = key or f"demo-{secrets.token_hex(8)}"
        if wait:
            headers["prefer"] = f"wait={wait}"
        url = f"{self.installation.base_url}{path}"
        async with self.session.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def transfer(self, story: Story, minor: int, scenario: str = "success", *, wait: int = 15) -> Answer:
        """Ask for a transfer from customer-1 to merchant-1 and return the intent as it then stands."""
        intent_id = f"demo-{secrets.token_hex(4)}"
        body = {
            "kind": "transfer",
            "amount": minor,
            "currency": "NGN",
            "source": "customer-1",
            "destination": "merchant-1",
            "intent_id": intent_id,
            "metadata": {"sandbox_scenario": scenario},
        }
        status, answer = await self.call("POST", "/transfers", "acme", "dev", body, wait=wait)
        story.expect(status in (200, 202), f"the transfer was refused: {status} {answer}")
        story.say(f"dev of acme asks to move {minor} mu NGN from customer-1 to merchant-1 ({intent_id})")
        story.facts["intent_id"] = intent_id
        return await self.intent(intent_id)

    async def intent(self, intent_id: str, *, wait: int = 0) -> Answer:
        """Return an intent as acme's developer sees it."""
        status, answer = await self.call("GET", f"/runtime/intents/{intent_id}", "acme", "dev", wait=wait)
        if status != 200:
            raise StoryFailed(f"the intent cannot be read: {status} {answer}")
        return dict(answer)

    async def until(self, intent_id: str, condition: Callable[[Answer], bool]) -> Answer:
        """Return the intent once it fits."""
        while True:
            seen = await self.intent(intent_id)
            if condition(seen):
                return seen
            await anyio.sleep(0.05)

    async def balance(self, account: str) -> Answer:
        """Return an account of acme."""
        _, answer = await self.call("GET", f"/accounts/{account}", "acme", "dev")
        return dict(answer)

    async def verified(self, story: Story, intent_id: str) -> None:
        """Export the packet of an intent and check it offline, with the public key alone."""
        await self.until(intent_id, lambda seen: bool(seen["audit_packet"]["sealed"]))
        headers = {"authorization": f"Bearer {self.installation.keys['acme']['dev']}"}
        url = f"{self.installation.base_url}/runtime/intents/{intent_id}/evidence"
        while True:
            async with self.session.get(url, headers=headers) as response:
                packet = await response.read()
                if response.status == 200:
                    break
            await anyio.sleep(0.1)
        verdict = verify_packet(packet, load_public_key(self.installation.public_key_path.read_bytes()))
        problems = "; ".join(f"{problem.where}: {problem.detail}" for problem in verdict.problems)
        story.expect(verdict.ok, f"the packet does not verify: {problems}")
        story.say(f"evidence: verified ({verdict.records} records, tree of {verdict.head_size}, key {verdict.key_id})")
        story.facts["evidence"] = "verified"


def tell_timeline(story: Story, seen: Answer) -> None:
    """Say what happened to an intent, one line per event."""
    for event in seen["event_stream"]:
        step = f"/{event['step']}" if event.get("step") else ""
        story.say(f"  {event['at'][11:23]}  {event['event']:<24} {event['to']}{step}  by {event['actor']}")
    story.facts["events"] = [event["event"] for event in seen["event_stream"]]
    story.facts["status"] = seen["status"]


def tell_ledger(story: Story, seen: Answer) -> None:
    """Say how the money moved."""
    for entry in seen["ledger_state"]["entries"]:
        layers = [f"{layer} {int(entry[layer]):+d}" for layer in ("pending", "posted") if int(entry[layer])]
        story.say(f"  {entry['posting']:<9} {entry['debit']} -> {entry['credit']}  {', '.join(layers)}")


async def happy(stage: Stage, story: Story) -> None:
    """A transfer goes from the API edge to a sealed packet."""
    seen = await stage.transfer(story, 125_000)
    story.expect(seen["status"] == "SUCCESSFUL", f"it is {seen['status']}")
    call = await stage.receiver.wait(lambda c: c.intent_id == seen["intent_id"] and c.type == "ledger.posted")
    story.expect(call.signed, "the webhook's signature does not verify")
    seen = await stage.until(seen["intent_id"], lambda s: bool(s["audit_packet"]["sealed"]))
    tell_timeline(story, seen)
    tell_ledger(story, seen)
    story.say(f"  webhook   {call.type} {call.id} delivered, signature verified")
    await stage.verified(story, seen["intent_id"])


async def duplicate_callback(stage: Stage, story: Story) -> None:
    """The provider says the same success three times; the money moves once."""
    before = await stage.balance("merchant-1")
    seen = await stage.transfer(story, 40_000, "duplicate_callback")
    story.expect(seen["status"] == "SUCCESSFUL", f"it is {seen['status']}")
    # The replay has the same event id and is only counted; the third call has an id of its own and is a record.
    seen = await stage.until(seen["intent_id"], lambda s: len(callbacks_of(s)) == 2 and times_called(s) == 3)
    after = await stage.balance("merchant-1")
    moved = int(after["posted"]) - int(before["posted"])
    story.expect(moved == 40_000, f"merchant-1 got {moved}")
    tell_timeline(story, seen)
    for callback in seen["callbacks"]:
        story.say(f"  callback  {callback['rail']} {callback['event_id']}: attempt count {callback['repeats'] + 1}")
    story.say(f"the provider reported the success {times_called(seen)} times; merchant-1 got {moved} mu, once")
    story.facts["callbacks"] = {callback["event_id"]: callback["repeats"] + 1 for callback in seen["callbacks"]}
    story.facts["moved"] = moved
    await stage.verified(story, seen["intent_id"])


def times_called(seen: Answer) -> int:
    """Return how often the provider called about an intent, repeats of one event included."""
    return sum(callback["repeats"] + 1 for callback in seen["callbacks"])


def callbacks_of(seen: Answer) -> list[Answer]:
    """Return the provider's reports among the events of an intent."""
    return [event for event in seen["event_stream"] if event["event"] == "provider.callback"]


async def high_value(stage: Stage, story: Story) -> None:
    """An intent over the threshold waits for a person who did not create it."""
    seen = await stage.transfer(story, 15_000_000)
    intent_id = seen["intent_id"]
    seen = await stage.until(intent_id, lambda s: s["status"] == "REVIEW")
    story.expect(not seen["ledger_state"]["entries"], "something was posted before the decision")
    _, reviews = await stage.call("GET", "/reviews", "acme", "ops")
    review = next(r for r in reviews["data"] if r["intent_id"] == intent_id)
    story.say(f"it waits in REVIEW, assigned to {review['assigned_to']}; nothing is reserved")
    path = f"/reviews/{review['id']}"
    seen_it = {"request_hash": review["request_hash"]}
    status, _ = await stage.call("POST", f"{path}/approve", "acme", "dev", {**seen_it, "reason": "it is mine"})
    story.expect(status == 403, f"its creator could decide: {status}")
    story.say("dev tries to approve it: 403")
    status, answer = await stage.call(
        "POST", f"{path}/approve", "acme", "ops", {**seen_it, "reason": "invoice 4711 checked"}, wait=5
    )
    story.expect(status in (200, 202), f"ops could not approve: {status} {answer}")
    seen = await stage.until(intent_id, lambda s: s["status"] == "SUCCESSFUL")
    tell_timeline(story, seen)
    decided = next(event for event in seen["event_stream"] if event["event"] == "review.approved")
    story.say(f"approved by {decided['actor']}: {decided['facts']['reason']} (waives {decided['facts']['waives']})")
    await stage.verified(story, intent_id)


async def consumer_outage(stage: Stage, story: Story) -> None:
    """The webhook consumer is down; money goes on, and the delivery is replayed when it is back."""
    stage.receiver.down = True
    try:
        seen = await stage.transfer(story, 60_000)
        intent_id = seen["intent_id"]
        story.expect(seen["status"] == "SUCCESSFUL", f"it is {seen['status']}: an outage blocked money")
        seen = await stage.until(intent_id, lambda s: any(e["event"] == "webhook.retrying" for e in s["event_stream"]))
    finally:
        stage.receiver.down = False
    _, deliveries = await stage.call("GET", f"/webhooks/deliveries?intent={intent_id}", "acme", "ops")
    delivery = next(d for d in deliveries["data"] if d["intent_id"] == intent_id or d.get("intent") == seen["id"])
    attempt = delivery["attempts"][0]
    story.say(f"the transfer is {seen['status']}; {delivery['event']} met {attempt['status_code']} and backs off")
    status, answer = await stage.call(
        "POST", f"/webhooks/deliveries/{delivery['id']}/replay", "acme", "ops", {}, wait=5
    )
    story.expect(status in (200, 202), f"the replay was refused: {status} {answer}")
    call = await stage.receiver.wait(lambda c: c.intent_id == intent_id and c.accepted)
    first = next(c for c in stage.receiver.calls if c.intent_id == intent_id and not c.accepted)
    story.expect((call.id, call.body) == (first.id, first.body), "the replay has another id or other bytes")
    seen = await stage.until(intent_id, lambda s: any(e["event"] == "webhook.delivered" for e in s["event_stream"]))
    tell_timeline(story, seen)
    story.say(f"the consumer is back: {call.id} replayed with the same id and bytes, one ledger-safe state")
    await stage.verified(story, intent_id)


async def never_settles(stage: Stage, story: Story) -> None:
    """The rail never answers: the hold stays visible, a case opens, an operator resolves it."""
    before = await stage.balance("customer-1")
    seen = await stage.transfer(story, 70_000, "never_answers", wait=1)
    intent_id = seen["intent_id"]
    seen = await stage.until(intent_id, lambda s: any(c["status"] == "open" for c in s["cases"]))
    story.expect(seen["status"] == "AWAITING_PROVIDER", f"it is {seen['status']}")
    held = int((await stage.balance("customer-1"))["pending"])
    story.say(f"the rail is silent past its deadline; {abs(held)} mu stay reserved, no other rail is asked")
    story.expect(abs(held) == 70_000, f"the hold shows {held}")
    case = next(c for c in seen["cases"] if c["status"] == "open")
    story.say(f"a case opens: {case['kind']}, for {case['operator']}")
    resolution = {"resolution": "declined", "reason": "the provider's desk confirms that nothing was paid"}
    status, answer = await stage.call("POST", f"/cases/{case['id']}/resolve", "acme", "ops", resolution, wait=5)
    story.expect(status in (200, 202), f"the case could not be resolved: {status} {answer}")
    seen = await stage.until(intent_id, lambda s: s["status"] == "FAILED")
    tell_timeline(story, seen)
    tell_ledger(story, seen)
    after = await stage.balance("customer-1")
    story.expect(after["available"] == before["available"], "the release did not restore the balance")
    story.say("the release entry is kept and the balance is as before")
    await stage.verified(story, intent_id)


async def foreign_operator(stage: Stage, story: Story) -> None:
    """An operator of another tenant is refused before anything is shown, and the attempt is evidence."""
    seen = await stage.transfer(story, 10_000)
    intent_id = seen["intent_id"]
    status, answer = await stage.call("GET", f"/runtime/intents/{intent_id}", "globex", "ops")
    story.expect(status == 404, f"globex got {status}")
    unknown, other = await stage.call("GET", "/runtime/intents/no-such-intent", "globex", "ops")
    story.expect((unknown, other["code"]) == (404, answer["code"]), "foreign and unknown ids differ")
    story.say(f"ops of globex asks for {intent_id}: 404 {answer['code']}, as for an unknown id")
    while True:
        _, denials = await stage.call("GET", "/denials", "globex", "ops")
        if denials["data"]:
            break
        await anyio.sleep(0.05)
    denial = denials["data"][0]
    story.say(
        f"kept as evidence: {denial['actor']} ({denial['role']}) of globex, {denial['action']}, {denial['reason']},"
        f" {denial['count']} times, {denial['last_at']}"
    )
    story.facts["denial"] = denial
    await stage.verified(story, intent_id)


STORIES: Final[tuple[tuple[str, Callable[[Stage, Story], Coroutine[Any, Any, None]]], ...]] = (
    ("A transfer that goes well", happy),
    ("Duplicate provider callback", duplicate_callback),
    ("High-value intent", high_value),
    ("Webhook consumer outage", consumer_outage),
    ("Funds reserved, payment never settles", never_settles),
    ("Operator outside their tenant", foreign_operator),
)
