"""Incidents of other people's machines: what a payment rail says twice, late, against itself, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from zentra.gateway.rehearsals.story import Answer, Stage, Story, callbacks_of, tell_ledger

__all__ = [
    "contradictory_callback",
    "duplicate_callback",
    "happy",
    "late_callback",
    "never_settles",
    "rail_failover",
    "rail_timeout",
]


async def happy(stage: Stage, story: Story) -> None:
    """A transfer goes from the API edge to a sealed packet."""
    seen = await stage.transfer(story, 125_000)
    story.expect(seen["status"] == "SUCCESSFUL", f"it is {seen['status']}")
    call = await stage.receiver.wait(lambda c: c.intent_id == seen["intent_id"] and c.type == "ledger.posted")
    story.expect(call.signed, "the webhook's signature does not verify")
    tell_ledger(story, seen)
    story.say(f"  webhook   {call.type} {call.id} delivered, signature verified")
    await stage.verified(story, seen["intent_id"])


async def duplicate_callback(stage: Stage, story: Story) -> None:
    """The provider says the same success three times; the money moves once."""
    before = await stage.posted(stage.payee)
    seen = await stage.transfer(story, 40_000, "duplicate_callback")
    story.expect(seen["status"] == "SUCCESSFUL", f"it is {seen['status']}")
    # The replay has the same event id and is only counted; the third call has an id of its own and is a record.
    seen = await stage.until(seen["intent_id"], lambda s: len(callbacks_of(s)) == 2 and _times_called(s) == 3)
    moved = await stage.posted(stage.payee) - before
    story.expect(moved == 40_000, f"the payee got {moved}")
    for callback in seen["callbacks"]:
        story.say(f"  callback  {callback['rail']} {callback['event_id']}: attempt count {callback['repeats'] + 1}")
    story.say(f"the provider reported the success {_times_called(seen)} times; the payee got {moved}, once")
    story.facts["callbacks"] = {callback["event_id"]: callback["repeats"] + 1 for callback in seen["callbacks"]}
    story.facts["moved"] = moved
    await stage.verified(story, seen["intent_id"])


async def late_callback(stage: Stage, story: Story) -> None:
    """The callback comes seconds after a poll has settled the payment: it is recorded and moves nothing."""
    before = await stage.posted(stage.payee)
    seen = await stage.transfer(story, 45_000, "late_success")
    intent_id = seen["intent_id"]
    seen = await stage.until(intent_id, lambda s: s["status"] == "SUCCESSFUL")
    story.say("a poll has found the payment made; the provider's own callback is still on its way")
    seen = await stage.until(intent_id, lambda s: bool(s["callbacks"]) and len(callbacks_of(s)) == 2)
    moved = await stage.posted(stage.payee) - before
    story.expect((moved, seen["status"]) == (45_000, "SUCCESSFUL"), f"the payee got {moved}, it is {seen['status']}")
    story.say(f"the late callback is a record; the payee got {moved}, once")
    story.facts["moved"] = moved
    await stage.verified(story, intent_id)


async def contradictory_callback(stage: Stage, story: Story) -> None:
    """The provider says "paid" and then "declined": the money stays, one case opens, a person closes it."""
    before = await stage.posted(stage.payee)
    seen = await stage.transfer(story, 55_000, "contradictory_status")
    intent_id = seen["intent_id"]
    seen = await stage.until(intent_id, lambda s: bool(s["cases"]))
    moved = await stage.posted(stage.payee) - before
    story.expect((moved, seen["status"]) == (55_000, "SUCCESSFUL"), f"the payee got {moved}, it is {seen['status']}")
    opened = _open_cases(seen)
    story.expect(len(opened) == 1, f"{len(opened)} cases are open")
    story.say(f"the first valid outcome holds; a case opens: {opened[0]['kind']}, for {opened[0]['operator']}")
    await _resolve(stage, story, opened[0]["id"], "dismissed", "the provider's desk confirms the payment")
    seen = await stage.until(intent_id, lambda s: not _open_cases(s))
    story.facts |= {"moved": moved, "cases": len(seen["cases"])}
    await stage.verified(story, intent_id)


async def rail_timeout(stage: Stage, story: Story) -> None:
    """The rail takes the payment and never answers the submit: no other rail, no second submit, a poll settles it."""
    before = await stage.posted(stage.payee)
    seen = await stage.transfer(story, 65_000, "timeout_then_success", wait=0)
    intent_id = seen["intent_id"]
    seen = await stage.until(intent_id, lambda s: s["status"] not in ("ACCEPTED", "PROCESSING"))
    held = abs(int((await stage.balance(stage.payer))["pending"]))
    waits = (await stage.intent(intent_id))["status"] == "AWAITING_PROVIDER"  # after the balance: so it did before
    story.expect(not waits or held == 65_000, f"{held} are held while the outcome is unknown")
    seen = await stage.until(intent_id, lambda s: s["status"] in ("SUCCESSFUL", "FAILED"))
    story.expect(seen["status"] == "SUCCESSFUL", f"it is {seen['status']}")
    kinds = [entry["posting"] for entry in seen["ledger_state"]["entries"]]
    story.expect(kinds == ["reserve", "post", "settle"], f"its entries are {', '.join(kinds)}")
    seen_held = f"{held} are held on the payer's account" if waits else "it was over before the balance could be read"
    story.say(f"the submit gets no answer: {seen_held}; from the reservation to the posting nothing is released")
    await _one_rail(stage, story, seen)
    moved = await stage.posted(stage.payee) - before
    story.expect(moved == 65_000, f"the payee got {moved}")
    story.say(f"the payee got {moved}, once")
    story.facts["moved"] = moved
    await stage.verified(story, intent_id)


async def rail_failover(stage: Stage, story: Story) -> None:
    """The first rail refuses to accept anything: the next one of the corridor is asked, and only one pays."""
    before = await stage.posted(stage.payee)
    probe = await stage.transfer(story, 5_000)
    first = _rail_of(probe)
    async with _taken_away(stage, first):
        story.say(f"rail {first} accepts nothing any more")
        seen = await stage.transfer(story, 75_000)
        seen = await stage.until(seen["intent_id"], lambda s: s["status"] in ("SUCCESSFUL", "FAILED"))
    story.expect(seen["status"] == "SUCCESSFUL", f"it is {seen['status']}: has the corridor a second rail?")
    moved = await stage.posted(stage.payee) - before
    story.expect(moved == 80_000, f"the payee got {moved}")
    second = next(e["facts"]["rail"] for e in reversed(seen["event_stream"]) if e["event"] in _ROUTED)
    story.expect(second != first, f"{first} was chosen again")
    story.say(f"{first} did not accept, {second} paid; the payee got 75000, once")
    story.facts |= {"from": first, "to": second}
    await stage.verified(story, seen["intent_id"])


async def never_settles(stage: Stage, story: Story) -> None:
    """The rail never answers: the hold stays visible, a case opens, an operator resolves it."""
    before = await stage.balance(stage.payer)
    seen = await stage.transfer(story, 70_000, "never_answers", wait=1)
    intent_id = seen["intent_id"]
    seen = await stage.until(intent_id, lambda s: bool(_open_cases(s)))
    story.expect(seen["status"] == "AWAITING_PROVIDER", f"it is {seen['status']}")
    held = abs(int((await stage.balance(stage.payer))["pending"]))
    story.expect(held == 70_000, f"the hold shows {held}")
    story.say(f"the rail is silent past its deadline; {held} stay reserved")
    await _one_rail(stage, story, seen)
    case = _open_cases(seen)[0]
    story.say(f"a case opens: {case['kind']}, for {case['operator']}")
    await _resolve(stage, story, case["id"], "declined", "the provider's desk confirms that nothing was paid")
    seen = await stage.until(intent_id, lambda s: s["status"] == "FAILED")
    tell_ledger(story, seen)
    after = await stage.balance(stage.payer)
    story.expect(after["available"] == before["available"], "the release did not restore the balance")
    story.say("the release entry is kept and the balance is as before")
    await stage.verified(story, intent_id)


_ROUTED = ("provider.routed", "provider.failover")


async def _one_rail(stage: Stage, story: Story, seen: Answer) -> None:
    """Expect that one rail was asked to pay, and once, by its own count where that can be read."""
    routed = [event["facts"] for event in seen["event_stream"] if event["event"] in _ROUTED]
    story.expect(len(routed) == 1, f"{len(routed)} attempts were made while the outcome was unknown")
    rail, reference = routed[0]["rail"], routed[0]["reference"]
    submits = await stage.submits(rail, reference)
    if submits is None:
        story.say(f"no rail but {rail} was asked; how often could not be read (--sandbox-url)")
        return
    story.expect(submits == 1, f"{rail} counts {submits} submits of {reference}")
    story.say(f"no rail but {rail} was asked, and by its own count it got one submit")
    story.facts["submits"] = submits


def _rail_of(seen: Answer) -> str:
    return str(next(event["facts"]["rail"] for event in seen["event_stream"] if event["event"] == "provider.routed"))


def _times_called(seen: Answer) -> int:
    """Return how often the provider called about an intent, repeats of one event included."""
    return sum(callback["repeats"] + 1 for callback in seen["callbacks"])


def _open_cases(seen: Answer) -> list[Answer]:
    return [case for case in seen["cases"] if case["status"] == "open"]


async def _resolve(stage: Stage, story: Story, case: str, resolution: str, reason: str) -> None:
    body = {"resolution": resolution, "reason": reason}
    status, answer = await stage.call("POST", f"/cases/{case}/resolve", "operator", body, wait=5)
    story.expect(status in (200, 202), f"the case could not be resolved: {status} {answer}")
    story.say(f"the operator resolves it as {resolution}: {reason}")


@asynccontextmanager
async def _taken_away(stage: Stage, rail: str) -> AsyncIterator[None]:
    """Let a rail of the sandbox accept nothing for a while."""
    await _set_available(stage, rail, available=False)
    try:
        yield
    finally:
        await _set_available(stage, rail, available=True)


async def _set_available(stage: Stage, rail: str, *, available: bool) -> None:
    url = f"{stage.site.sandbox_url}/rails/{rail}/control"
    async with stage.session.put(url, json={"available": available}) as response:
        response.raise_for_status()
