"""After the last fault: find out what was not acknowledged, and wait until everything has come to an end.

- A request without an answer is looked up by the intent_id that the client gave it; a drawn half of those that are not
  there is asked once more with the same key, as a client would that still wants it.
- What the consumer missed is recovered by one command for each endpoint, as support would do after an outage.
- Contradictions of rails are resolved by the operator of the tenant.
- Waiting has a bound; what has not settled by then is for the verdict to name."""

import asyncio
import random
import time
from typing import Any, Final

from zentra.bench.chaos.doors import HttpDoor, Unanswered
from zentra.bench.chaos.load import Asked, Load
from zentra.bench.chaos.site import Site
from zentra.runtime.errors import Unavailable
from zentra.runtime.evidence.keyring import KeyRing
from zentra.runtime.evidence.packet import verify_packet
from zentra.storage.errors import translated

__all__ = ["packets_flaws", "resolve", "wait_recovered", "wait_settled"]

SETTLE_SECONDS_MAX: Final = 180.0  # an attempt whose report was lost is made again within 80 s
ASK_SECONDS_MAX: Final = 30.0
POLL_SECONDS: Final = 0.25
TIDY_SECONDS: Final = 5.0
PACKETS: Final = 25

UNSETTLED: Final = """
select
    (select count(*) from intents i where not exists (
        select from transitions t where t.intent = i.id and (t.state = any($1) or t.state = 'REVIEW'))
        and not exists (select from cases c where c.intent = i.id and c.status = 'open'))
    + (select count(*) from intents i where exists (
        select from transitions t where t.intent = i.id and t.state = any($1))
        and not exists (select from log_leaves l where l.intent = i.id)),
    (select count(*) from outbox where sent_at is null)
    + (select count(*) from commands c where not exists (select from command_outcomes o where o.command = c.id)),
    (select count(*) from deliveries d left join delivery_states s on s.delivery = d.id
        where s.status is distinct from 'delivered'),
    (select count(*) from log_leaves) - (select coalesce(sum(size), 0) from (
        select max(size) as size from log_heads group by tenant) as heads),
    (select count(*) from cases where status = 'open' and kind = 'provider_contradiction')
        + (select count(*) from recoveries where status = 'running')
        + (select count(*) from endpoints e where not exists (
            select from recoveries r where r.endpoint = e.id and r.created_at > to_timestamp($2)
                and r.which = 'undelivered' and r.status <> 'stopped'))
"""
SETTLED: Final = ["SUCCESSFUL", "FAILED", "RECONCILED", "REVERSED"]
# Each endpoint once from its beginning, whatever it seems to have had, and again where something waits for minutes.
MISSED: Final = """
select e.tenant, e.id, e.created_at from endpoints e where not exists (
    select from recoveries r where r.endpoint = e.id and r.created_at > to_timestamp($1) and r.which = 'undelivered')
union select e.tenant, e.id, e.created_at from endpoints e
join deliveries d on d.endpoint = e.id join delivery_states s on s.delivery = d.id
where s.status = 'exhausted' or (s.status = 'retrying' and s.next_at > now() + interval '10 seconds')
"""
CONTRADICTED: Final = "select tenant, id from cases where status = 'open' and kind = 'provider_contradiction' limit 200"
COMPLETED: Final = """
select i.id, extract(epoch from t.at)::float8 from intents i join transitions t on t.intent = i.id
where i.created_at >= to_timestamp($1) and t.state = 'SUCCESSFUL' and t.event = 'ledger.posted'
    and ($2 = '' or exists (select from transitions r where r.intent = i.id and r.event = 'provider.routed'
        and convert_from(r.record, 'UTF8')::json -> 'facts' ->> 'rail' = $2))
order by t.at limit 5000
"""


async def wait_recovered(site: Site, ended_at: float, *, rail: str, wanted: Any, seconds_max: float) -> float | None:
    """Return how long after `ended_at` the first intent completed that was asked for after it, or None within the
    bound; `rail` and `wanted` (of an intent's uuid) narrow which intents count."""
    deadline = ended_at + seconds_max
    while time.time() < deadline:
        try:
            with translated():
                rows = await site.pool.fetch(COMPLETED, ended_at, rail)
        except Unavailable:
            rows = []
        for uuid, at in rows:
            if wanted(uuid):
                return max(0.0, round(float(at) - ended_at, 3))
        await asyncio.sleep(POLL_SECONDS / 2)
    return None


async def resolve(load: Load, door: HttpDoor, seed: int) -> dict[str, bool]:
    """Look up every request whose outcome nobody knows; return by intent_id whether it is there.

    Raises TimeoutError where the API does not answer for long."""
    draw = random.Random(f"resolve/{seed}")  # noqa: S311  # a choice of requests, not a secret
    known = {one.key for one in load.asked if one.outcome in ("accepted", "replayed")}
    doubtful = {one.key: one for one in load.asked if one.key not in known and one.original is None}
    found: dict[str, bool] = {}
    async with asyncio.timeout(ASK_SECONDS_MAX + len(doubtful)):
        for one in doubtful.values():
            found[one.intent_id] = await _is_there(door, one)
            if not found[one.intent_id] and draw.random() < 0.5:
                found[one.intent_id] = await _asked_again(load, one)
    return found


async def _asked_again(load: Load, one: Asked) -> bool:
    """Ask with the same key until there is an answer to it; return whether the intent was accepted."""
    while True:
        again = load.again(one)
        await load.send(again)
        if again.outcome not in ("in_flight", "shed", "unanswered"):
            return again.outcome in ("accepted", "replayed")
        await asyncio.sleep(POLL_SECONDS)


async def _is_there(door: HttpDoor, one: Asked) -> bool:
    while True:
        try:
            answer = await door.ask("GET", f"/runtime/intents/{one.intent_id}", one.tenant, "dev")
        except Unanswered:
            answer = None
        if answer is not None and answer.status in (200, 404):
            return answer.status == 200
        await asyncio.sleep(POLL_SECONDS)


async def wait_settled(site: Site, told: Any, seconds_max: float = SETTLE_SECONDS_MAX) -> float | None:
    """Wait until intents, outbox, deliveries and log have settled; return the seconds, or None where they have not.

    `told` is given what is left at each look. Raises what the store raises."""
    begun, since = time.monotonic(), time.time()
    tidied_at = 0.0
    while (seconds := time.monotonic() - begun) < seconds_max:
        with translated():
            row = await site.pool.fetchrow(UNSETTLED, SETTLED, since)
        left = tuple(int(count) for count in row or (1,))
        told(left)
        if not any(left):
            return round(seconds, 2)
        if seconds - tidied_at >= TIDY_SECONDS or not tidied_at:
            tidied_at = seconds or 0.001
            await _tidy(site, since)
        await asyncio.sleep(POLL_SECONDS)
    return None


async def _tidy(site: Site, since: float) -> None:
    """Have what consumers missed sent again, and resolve what rails have contradicted."""
    with translated():
        missed, contradicted = await site.pool.fetch(MISSED, since), await site.pool.fetch(CONTRADICTED)
    for tenant, endpoint, made_at in missed:
        body = {"since": made_at.isoformat(), "which": "undelivered"}
        await _asked_for(site, tenant, f"/webhooks/endpoints/{endpoint}/recover", body)
    for tenant, case in contradicted:
        body = {"resolution": "dismissed", "reason": "the bank's desk confirms its last word"}
        await _asked_for(site, tenant, f"/cases/{case}/resolve", body)


async def _asked_for(site: Site, tenant: str, path: str, body: dict[str, str]) -> None:
    await site.http.ask("POST", path, tenant, "ops", key=f"tidy-{time.monotonic_ns()}", body=body)


async def packets_flaws(site: Site, ring: KeyRing, asked: list[Asked], seed: int) -> tuple[int, list[str]]:
    """Export the packets of some settled intents and verify them offline; return how many, and what is wrong.

    Raises Unanswered where the API does not answer."""
    accepted = [one for one in asked if one.outcome == "accepted"]
    drawn = random.Random(f"packets/{seed}").sample(accepted, min(PACKETS, len(accepted)))  # noqa: S311  # no secret
    flaws: list[str] = []
    count = 0
    for one in drawn:
        answer = await site.http.ask("GET", f"/runtime/intents/{one.intent_id}/evidence", one.tenant, "dev")
        if answer.status != 200:
            if answer.code != "evidence_not_sealed":
                flaws.append(f"the packet of {one.intent_id} was answered {answer.status} {answer.code}")
            continue
        count += 1
        verdict = verify_packet(answer.body, ring)
        flaws += [f"{one.intent_id} {problem.where}: {problem.detail}" for problem in verdict.problems]
    return count, flaws
