"""The readings during a chaos run, as in Jepsen's bank test: whatever is being broken, no reader may see money wrong.

- One snapshot of the store at a time: per tenant and currency the balances of all accounts sum to zero, and no guarded
  account stands below its floor.
- The same through the API, account by account: nothing available below the limit, and what was ever posted stays
  posted. Across tenants an intent is looked for with the other's key, and must not be found.
- A server that is away gives no reading; that is counted and is nothing wrong."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from zentra.bench.chaos.doors import Answer, HttpDoor, Unanswered
from zentra.bench.chaos.load import TIGHT, Asked
from zentra.runtime.errors import ZentraError
from zentra.storage.pool import Pool, transaction

__all__ = ["Bank", "Readings", "Row", "account_wrongs", "snapshot_wrongs"]

SNAPSHOT_SECONDS: Final = 0.5
API_SECONDS: Final = 0.25
ACCOUNTS: Final = ("customer-1", "customer-2", "merchant-1", "payout-1", TIGHT)
WRONGS_MAX: Final = 50  # kept; the rest are counted
ALL: Final = """
select a.tenant, a.currency, a.account_id, a.guarded, a.overdraft_limit, a.normal_side = 'credit' as credit,
    sum(b.debits_pending)::bigint, sum(b.credits_pending)::bigint,
    sum(b.debits_posted)::bigint, sum(b.credits_posted)::bigint
from accounts a join balances b on b.account = a.id group by a.id
"""


class Row(Struct, frozen=True):
    """One account in a snapshot."""

    tenant: str
    currency: str
    account: str
    guarded: bool
    limit: int
    credit: bool
    debits_pending: int
    credits_pending: int
    debits_posted: int
    credits_posted: int


class Readings(Struct):
    """What was read: how often, how often nobody answered, and everything that was wrong, as (letter, sentence)."""

    snapshots: int = 0
    accounts: int = 0
    foreign: int = 0
    unanswered: int = 0
    wrong: int = 0
    wrongs: list[tuple[str, str]] = field(default_factory=list)

    def add(self, wrongs: list[tuple[str, str]]) -> None:
        """Keep what was found wrong."""
        self.wrong += len(wrongs)
        self.wrongs += wrongs[: max(0, WRONGS_MAX - len(self.wrongs))]


def snapshot_wrongs(rows: list[Row]) -> list[tuple[str, str]]:
    """Return what is wrong with one snapshot of all accounts."""
    wrongs = []
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        posted, pending = sums.get((row.tenant, row.currency), (0, 0))
        posted += row.credits_posted - row.debits_posted
        pending += row.credits_pending - row.debits_pending
        sums[row.tenant, row.currency] = (posted, pending)
        available = (
            row.credits_posted - row.debits_posted - row.debits_pending
            if row.credit
            else row.debits_posted - row.credits_posted - row.credits_pending
        )
        if row.guarded and available < -row.limit:
            wrongs.append(("C", f"{row.tenant} {row.account} stands at {available}, its floor is {-row.limit}"))
    for (tenant, currency), (posted, pending) in sums.items():
        if posted or pending:
            wrongs.append(("A", f"the balances of {tenant} in {currency} sum to {posted} posted, {pending} pending"))
    return wrongs


def account_wrongs(name: str, shown: dict[str, Any], before: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return what is wrong with an account as the API shows it, after what it showed `before`."""
    wrongs = []
    if int(shown["available"]) < -int(shown["overdraft_limit"]):
        wrongs.append(("C", f"the API shows {name} at {shown['available']}, below its floor"))
    for counter in ("debits_posted", "credits_posted"):
        now, then = int(shown["counters"][counter]), int(before["counters"][counter]) if before else 0
        if now < then:
            wrongs.append(("B", f"the API shows {counter} of {name} at {now} after {then}"))
    return wrongs


class Bank:
    """Reads until it is told to stop; `readings` is what it saw."""

    def __init__(self, pool: Pool, door: HttpDoor, asked: Callable[[], list[Asked]], seed: int) -> None:
        self.readings = Readings()
        self._pool, self._door, self._asked = pool, door, asked
        self._draw = random.Random(f"bank/{seed}")  # noqa: S311  # readings, not secrets
        self._seen: dict[tuple[str, str], dict[str, Any]] = {}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Read no more."""
        self._stopping.set()

    async def run(self) -> None:
        """Read the store and the API side by side until stopped."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(SNAPSHOT_SECONDS, self._snapshot))
            group.create_task(self._every(API_SECONDS, self._account))
            group.create_task(self._every(API_SECONDS, self._foreign))

    async def _every(self, seconds: float, read: Callable[[], Any]) -> None:
        while not self._stopping.is_set():
            try:
                await read()
            except (Unanswered, ZentraError):
                self.readings.unanswered += 1
            await asyncio.sleep(seconds)

    async def _snapshot(self) -> None:
        async with transaction(self._pool, snapshot=True) as connection:
            rows = [Row(*row) for row in await connection.fetch(ALL)]
        self.readings.snapshots += 1
        self.readings.add(snapshot_wrongs(rows))

    async def _account(self) -> None:
        tenant, account = self._draw.choice(("acme", "globex")), self._draw.choice(ACCOUNTS)
        answer = await self._door.ask("GET", f"/accounts/{account}", tenant, "dev")
        if answer.status != 200:
            self._note_failure(answer)
            return
        shown = msgspec.json.decode(answer.body)
        self.readings.accounts += 1
        self.readings.add(account_wrongs(f"{tenant} {account}", shown, self._seen.get((tenant, account))))
        self._seen[tenant, account] = shown

    async def _foreign(self) -> None:
        """Look for somebody's intent with the key of the other tenant."""
        mine = [one for one in self._asked()[-50:] if one.outcome == "accepted"]
        if not mine:
            return
        one = self._draw.choice(mine)
        other = "globex" if one.tenant == "acme" else "acme"
        answer = await self._door.ask("GET", f"/runtime/intents/{one.intent_id}", other, "ops")
        if answer.status >= 500:
            self._note_failure(answer)
            return
        self.readings.foreign += 1
        if answer.status != 404:
            self.readings.add([("M", f"{other} asked for {one.intent_id} of {one.tenant} and got {answer.status}")])

    def _note_failure(self, answer: Answer) -> None:
        self.readings.unanswered += 1
        if answer.status < 500:
            self.readings.add([("F", f"a read was answered {answer.status} {answer.code}")])
