"""Incidents of operation: a limit that is crossed, a consumer that is away, servers that fail, people who overreach."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import anyio

from zentra.gateway.rehearsals.story import Answer, Stage, Story

__all__ = ["consumer_outage", "cross_tenant", "limit_breach", "redis_loss", "worker_kill"]

BURST: Final = 20
BURST_MINOR: Final = 1_000
PAUSE_SECONDS: Final = 0.05
CLOCKS_APART: Final = timedelta(seconds=2)  # of this machine and the gateway's


async def limit_breach(stage: Stage, story: Story) -> None:
    """An intent over a limit waits for a person who did not create it."""
    seen = await stage.transfer(story, stage.site.review_minor, wait=1)
    intent_id = seen["intent_id"]
    seen = await stage.until(intent_id, lambda s: s["status"] in ("REVIEW", "SUCCESSFUL", "FAILED"))
    fix = "name an amount that a limit of this tenant refers to a person: --review-minor"
    story.expect(seen["status"] == "REVIEW", f"it is {seen['status']}; {fix}")
    story.expect(not seen["ledger_state"]["entries"], "something was posted before the decision")
    _, reviews = await stage.call("GET", "/reviews", "operator")
    review = next(r for r in reviews["data"] if r["intent_id"] == intent_id)
    story.say(f"it waits in REVIEW, assigned to {review['assigned_to']}; nothing is reserved")
    path, bound = f"/reviews/{review['id']}/approve", {"request_hash": review["request_hash"]}
    status, _ = await stage.call("POST", path, "creator", {**bound, "reason": "it is mine"})
    story.expect(status == 403, f"its creator could decide: {status}")
    story.say("its creator tries to approve it: 403")
    approval = {**bound, "reason": "invoice 4711 checked"}
    status, answer = await stage.call("POST", path, "operator", approval, wait=5)
    story.expect(status in (200, 202), f"the operator could not approve: {status} {answer}")
    seen = await stage.until(intent_id, lambda s: s["status"] == "SUCCESSFUL")
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
    _, deliveries = await stage.call("GET", f"/webhooks/deliveries?intent={intent_id}", "operator")
    delivery = next(d for d in deliveries["data"] if d["status"] == "retrying")
    attempt = delivery["attempts"][0]
    story.say(f"the transfer is {seen['status']}; {delivery['event']} met {attempt['status_code']} and backs off")
    status, answer = await stage.call("POST", f"/webhooks/deliveries/{delivery['id']}/replay", "operator", {}, wait=5)
    story.expect(status in (200, 202), f"the replay was refused: {status} {answer}")
    call = await stage.receiver.wait(lambda c: c.intent_id == intent_id and c.accepted)
    first = next(c for c in stage.receiver.calls if c.intent_id == intent_id and not c.accepted)
    story.expect((call.id, call.body) == (first.id, first.body), "the replay has another id or other bytes")
    seen = await stage.until(intent_id, lambda s: any(e["event"] == "webhook.delivered" for e in s["event_stream"]))
    story.say(f"the consumer is back: {call.id} replayed with the same id and bytes, one ledger-safe state")
    await stage.verified(story, intent_id)


async def redis_loss(stage: Stage, story: Story) -> None:
    """Redis forgets everything between a request and its repeat: the same answer comes, and the money moved once."""
    machinery = stage.site.machinery
    assert machinery is not None  # the table says that this incident needs one
    before = await stage.posted(stage.payee)
    body, key = stage.order(35_000), f"rehearsal-key-{stage.payer}"
    story.facts["intent_id"] = body["intent_id"]
    first = await stage.call("POST", "/transfers", "creator", body, key=key)
    story.expect(first[0] == 202, f"the transfer was refused: {first}")
    await stage.until(body["intent_id"], lambda s: s["status"] == "SUCCESSFUL")
    await machinery.empty_redis()
    story.say("Redis is emptied: locks and cached answers are gone, so only Postgres knows of the first request")
    again = await stage.call("POST", "/transfers", "creator", body, key=key)
    story.expect(again == first, f"the repeat was answered in another way: {again}")
    moved = await stage.posted(stage.payee) - before
    story.expect(moved == 35_000, f"the payee got {moved}")
    story.say(f"the same request with the same key: the same {again[0]} and body; {moved} moved, once")
    story.facts["moved"] = moved
    await stage.verified(story, body["intent_id"])


async def worker_kill(stage: Stage, story: Story) -> None:
    """A worker dies with a burst of transfers under way: each of them ends, once."""
    machinery = stage.site.machinery
    assert machinery is not None  # the table says that this incident needs one
    before = await stage.posted(stage.payee)
    orders = [stage.order(BURST_MINOR) for _ in range(BURST)]
    first, *others = [order["intent_id"] for order in orders]
    await _ask(stage, story, orders[0])
    async with anyio.create_task_group() as group:
        for order in orders[1:]:
            group.start_soon(_ask, stage, story, order)
        await stage.until(first, lambda s: s["status"] not in ("ACCEPTED", "PROCESSING"))
        name = await machinery.crash_worker()
    story.say(f"{BURST} transfers are asked for, and {name} is ended with SIGKILL once the first is with its rail")
    standing = [(await stage.intent(one))["status"] for one in (first, *others)]
    still_open = sum(status not in ("SUCCESSFUL", "FAILED") for status in standing)
    story.expect(still_open > 0, "every transfer had ended before the worker did: nothing was rehearsed")
    story.say(f"{still_open} of them had not ended")
    await machinery.await_worker(name)
    story.say(f"{name} is started again")
    for order in orders:
        seen = await stage.until(order["intent_id"], lambda s: s["status"] in ("SUCCESSFUL", "FAILED"))
        story.expect(seen["status"] == "SUCCESSFUL", f"{order['intent_id']} is {seen['status']}")
        kinds = [entry["posting"] for entry in seen["ledger_state"]["entries"]]
        story.expect(len(kinds) == len(set(kinds)), f"{order['intent_id']} was posted twice: {kinds}")
    moved = await stage.posted(stage.payee) - before
    story.expect(moved == BURST * BURST_MINOR, f"the payee got {moved}")
    story.say(f"all {BURST} ended, each with one set of entries; the payee got {moved}")
    last = orders[-1]["intent_id"]
    story.facts |= {"moved": moved, "intent_id": last}
    await stage.verified(story, last)


async def _ask(stage: Stage, story: Story, order: Answer) -> None:
    status, answer = await stage.call("POST", "/transfers", "creator", order)
    story.expect(status == 202, f"the transfer was refused: {status} {answer}")


async def cross_tenant(stage: Stage, story: Story) -> None:
    """An operator of another tenant is refused before anything is shown, and the attempt is evidence."""
    seen = await stage.transfer(story, 10_000)
    intent_id, begun = seen["intent_id"], datetime.now(UTC) - CLOCKS_APART
    status, answer = await stage.call("GET", f"/runtime/intents/{intent_id}", "stranger")
    story.expect(status == 404, f"another tenant got {status}")
    story.say(f"an operator of another tenant asks for {intent_id}: {status} {answer['code']}")
    denial = await _denial(stage, answer["request_id"], begun)
    _tell_denial(story, denial)
    absent = f"{intent_id}-that-nobody-made"
    unknown, other = await stage.call("GET", f"/runtime/intents/{absent}", "stranger")
    story.expect((unknown, other["code"]) == (404, answer["code"]), "foreign and unknown ids differ")
    story.say(f"the same operator asks for {absent}, to compare: {unknown} {other['code']}, the same")
    _tell_denial(story, await _denial(stage, other["request_id"], begun))
    story.facts["denial"] = denial
    story.say("no packet has refusals: bundles of the other tenant have (zentra evidence export); none was made here")
    await stage.verified(story, intent_id)


async def _denial(stage: Stage, request_id: str, begun: datetime) -> Answer:
    """Return the record that tells of this very request, once it is written."""
    minute = begun.replace(second=0, microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")
    while True:
        status, denials = await stage.call("GET", f"/denials?reason=not_found&created_from={minute}", "stranger")
        found = [one for one in denials["data"] if one["request_id"] == request_id] if status == 200 else []
        if found and datetime.fromisoformat(found[0]["last_at"]) >= begun:
            return dict(found[0])
        await anyio.sleep(PAUSE_SECONDS)


def _tell_denial(story: Story, denial: Answer) -> None:
    """Say what is kept of a refusal; refusals of one person, route and minute are one record."""
    times = "the first" if denial["count"] == 1 else f"number {denial['count']}"
    story.say(
        f"  kept with the other tenant: {denial['actor']} ({denial['role']}), {denial['action']}, {denial['reason']}, "
        f"request {denial['request_id']}, {denial['last_at']}; {times} of that sort in its minute"
    )
