"""A consumer is down for a time, some of it disabled, and one command brings it everything: counted on both sides.

    .venv/bin/python -m tests.scenarios.outages --intents 2000

First on the twins, with the worker's own decisions and an outage of an hour by their clock; then on a real
installation, with sockets, for as long as the intents take. Nothing may be missing, nothing may come under another id
or with other bytes, and both runs take one command."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from tests.actors.world import ACCOUNTS, configuration, endpoint, hook, transfer
from tests.scenarios.people import Books, Person, intent_body, until
from zentra.bench.twins.fleet import Fleet
from zentra.bench.twins.transport import ScriptedReply
from zentra.gateway.installation.installation import Installation
from zentra.gateway.listening import listening
from zentra.gateway.rehearsals.receiver import Receiver
from zentra.runtime.webhooks.standard import parse_secret

__all__ = ["Figures", "real_outage", "virtual_outage"]

AT_ONCE = 32
HOUR = 3_600


class Figures(Struct, frozen=True):
    """What was counted: events that the endpoint asked for, those it had before, and after one command."""

    intents: int
    events: int
    failed: int  # deliveries that the outage left behind
    without: int  # events that had no delivery, because the endpoint was disabled
    found: int
    arrived: int  # different webhook ids that were accepted in the end
    missing: int
    changed_ids: int  # deliveries of before that came under another id, or with other bytes
    commands: int
    seconds: float  # from the command to the last arrival

    @property
    def whole(self) -> bool:
        """Whether the endpoint has everything, as it would have had it."""
        return self.missing == self.changed_ids == 0 and self.arrived == self.events == self.found


def virtual_outage(intents: int) -> Figures:
    """Return the figures of an hour of outage by the clock of the twins; an endpoint that hears of everything."""
    hooked = endpoint("hook", "*")
    fleet = Fleet(configuration(endpoints=(hooked,), limits=None), lane_width=8)
    for ref in ACCOUNTS:
        fleet.store.open_account(ref)
    refs = {ref.account_id: ref for ref in ACCOUNTS}
    fleet.store.book(refs["liquidity-ngn"], refs["customer"], 10**12)
    fleet.endpoints.answer(hook(), [ScriptedReply(503)])
    since = fleet.store.now()
    for number in range(intents):
        if number == intents // 2:  # from then on it is disabled
            fleet.advance(HOUR / 2)
            fleet.store.configure(msgspec.structs.replace(fleet.store.current, endpoints={"acme": ()}))
        fleet.submit(transfer(1_000, kind="book_transfer"))
        fleet.run_until_idle()
    fleet.advance(HOUR / 2)
    before = {f"msg_{key}": made.body for key, made in fleet.store.rows.deliveries.items()}
    events = sum(row.event in ("policy.accepted", "ledger.posted") for rows in fleet.store.rows.transitions.values()
                 for row in rows)  # fmt: skip
    fleet.store.configure(msgspec.structs.replace(fleet.store.current, endpoints={"acme": (hooked,)}))
    fleet.endpoints.answer(hook(), [ScriptedReply(200)])
    fleet.endpoints.received.clear()
    began = fleet.seconds()
    given = fleet.command("recover_deliveries", "hook", {"which": "undelivered", "since": since},
                          partition=fleet.partition_of("acme/hook"))  # fmt: skip
    while fleet.store.rows.recoveries.get(given) is None or fleet.store.rows.recoveries[given].status == "running":
        fleet.advance(1)
    fleet.advance(5)
    arrived = {one.headers["webhook-id"]: one.body for one in fleet.endpoints.received}
    return _figures(intents, events, before, arrived, fleet.store.rows.recoveries[given].found, fleet.seconds() - began)


def _figures(
    intents: int, events: int, before: dict[str, bytes], arrived: dict[str, bytes], found: int, seconds: float
) -> Figures:
    return Figures(
        intents=intents, events=events, failed=len(before), without=events - len(before), found=found,
        arrived=len(arrived), missing=events - len(arrived),
        changed_ids=sum(arrived.get(key) != body for key, body in before.items()), commands=1, seconds=seconds,
    )  # fmt: skip


async def real_outage(installation: Installation, intents: int) -> Figures:
    """Return the figures of an outage of a real endpoint of acme, on sockets, while so many intents are made."""
    receiver = Receiver()
    async with listening(receiver) as url, aiohttp.ClientSession() as session, Books.opened(installation) as books:
        dev, ops = (Person(installation, session, "acme", who) for who in ("dev", "ops"))
        made = (await dev.post("/webhooks/endpoints", {"url": f"{url}/hook", "events": ["ledger.posted"]})).json
        receiver.secrets.append(parse_secret(made["secret"]))
        since = await books.pool.fetchval("select clock_timestamp()")
        receiver.down = True
        asked = [await _transfers(dev, intents // 2)]
        await _settled(books, made["id"], intents // 2, "s.status = 'retrying'")
        await _switched(books, made["id"], "disabled")
        asked.append(await _transfers(dev, intents - intents // 2))
        await _posted(books, asked[1])
        before = {
            f"msg_{row[0]}": row[1]
            for row in await books.pool.fetch("select id, body from deliveries where endpoint = $1", made["id"])
        }
        receiver.down = False
        await _switched(books, made["id"], "enabled")
        began = time.monotonic()
        answer = await ops.post(f"/webhooks/endpoints/{made['id']}/recover", {"since": since.isoformat()}, wait=5)
        assert answer.status in (200, 202), answer.body
        recovery = answer.json["recovery"]

        async def stands() -> Any:
            return (await ops.get(f"/webhooks/recoveries/{recovery}")).json

        done = await until(stands, lambda seen: seen.get("status") == "done")
        await _settled(books, made["id"], intents, "s.status = 'delivered'")
        accepted = {call.id: call.body for call in receiver.calls if call.accepted and call.signed}
        await _switched(books, made["id"], "disabled")  # nobody is there any more
        twice = [key for key, times in Counter(c.id for c in receiver.calls if c.accepted).items() if times > 1]
        assert not twice, f"{len(twice)} came twice"
        return _figures(intents, intents, before, accepted, done["found"], time.monotonic() - began)


async def _transfers(dev: Person, count: int) -> list[str]:
    """Ask for so many book transfers, some at once; return their ids."""
    ids: list[str] = []
    limit = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with limit:
            body = intent_body(kind="book_transfer", amount=1)
            answer = await dev.post("/runtime/intents", body)
            assert answer.status == 202, answer.body
            ids.append(body["intent_id"])

    await asyncio.gather(*(one() for _ in range(count)))
    return ids


async def _settled(books: Books, endpoint: str, count: int, condition: str) -> None:
    query = (
        "select count(*) from deliveries d join delivery_states s on s.delivery = d.id where d.endpoint = $1 and "
        + condition
    )
    await until(lambda: books.count(query, endpoint), lambda seen: seen >= count)


async def _posted(books: Books, intent_ids: list[str]) -> None:
    query = (
        "select count(*) from intents i join transitions t on t.intent = i.id"
        " where i.tenant = 'acme' and i.intent_id = any($1::text[]) and t.event = 'ledger.posted'"
    )
    await until(lambda: books.pool.fetchval(query, intent_ids), lambda seen: seen == len(intent_ids))


async def _switched(books: Books, endpoint: str, status: str) -> None:
    await books.pool.execute("update endpoints set status = $2 where id = $1", endpoint, status)


def _told(name: str, run: Callable[[], Figures]) -> bool:
    figures = run()
    sys.stdout.write(f"{name}\n")
    for field, value in msgspec.to_builtins(figures).items():
        sys.stdout.write(f"  {field.replace('_', ' '):12} {value}\n")
    sys.stdout.write(
        f"  {'verdict':12} {'nothing missing, ids and bytes unchanged' if figures.whole else 'NOT WHOLE'}\n"
    )
    sys.stdout.flush()
    return figures.whole


def main() -> None:
    """Run both and leave with 1 where anything is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--intents", type=int, default=2_000)
    count = parser.parse_args().intents
    whole = _told("an hour by the clock of the twins", lambda: virtual_outage(count))
    with Installation() as installation:
        whole &= _told("a real installation", lambda: asyncio.run(real_outage(installation, count)))
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
