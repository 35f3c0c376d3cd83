"""From a recording and a running installation to a verdict: wait, read everything once more on record, check."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

import anyio
from msgspec import Struct

from zentra.bench.histories.answers import code_of
from zentra.bench.histories.checking import Violation, check
from zentra.bench.histories.clients import Clients, Target
from zentra.bench.histories.ending import read_ending, unsettled
from zentra.bench.histories.recording import Call, Create, Operation, ReadAccount, ReadEntries, ReadIntent, Recorder
from zentra.bench.histories.violations import ORDERED
from zentra.gateway.installation.installation import Installation
from zentra.storage.pool import Pool, open_pool

__all__ = ["HistoryReport", "outcome_of", "verify"]

POLL_SECONDS: Final = 0.1
READERS: Final = 8
SETTLE_SECONDS_MAX: Final = 60.0


class HistoryReport(Struct, frozen=True, kw_only=True):
    """What was recorded, what it was checked against, and what is wrong with it. `exact_order` says that the order of
    the commits is the database's own; without it `not_checked` names the rules that were left out."""

    violations: tuple[Violation, ...]
    calls: int
    outcomes: dict[str, int]
    intents: int
    commits: int
    exact_order: bool
    seconds: float
    not_checked: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.violations


async def verify(
    target: Target | Installation, recorder: Recorder, *, settle_seconds: float = SETTLE_SECONDS_MAX
) -> HistoryReport:
    """Return the verdict on everything that `recorder` has written down.

    Waits at most `settle_seconds` until no intent goes on by itself, reads every account and every intent whose fate is
    unknown over the API, so that the check has to explain these reads as well, and then reads the store. Nobody may
    write under the recorded keys any longer. Where the database kept no commit times (`keep_commit_times`), the rules
    that need an order are left out. Raises Unavailable, and HistoryBroken for a damaged recording."""
    where = target if isinstance(target, Target) else Target.of(target)
    history = recorder.history()
    tenants = sorted({call.operation.tenant for call in history})
    violations: list[Violation] = []
    intents = commits = 0
    exact = True
    async with await open_pool(where.postgres_url, name="zentra histories", connections_max=1) as pool:
        for tenant in tenants:
            await _settled(pool, tenant, settle_seconds)
        async with Clients(where, recorder) as clients:
            await _read_all(clients, history)
        history = recorder.history()
        began = time.perf_counter()
        for tenant in tenants:
            ending = await read_ending(pool, tenant)
            found = check([call for call in history if call.operation.tenant == tenant], ending)
            violations += [one for one in found if ending.exact or one.rule not in ORDERED]
            intents += len(ending.intents)
            commits += len(ending.commits)
            exact = exact and ending.exact
    return HistoryReport(
        violations=tuple(violations), calls=len(history), outcomes=dict(Counter(map(outcome_of, history))),
        intents=intents, commits=commits, exact_order=exact, seconds=round(time.perf_counter() - began, 3),
        not_checked=() if exact else tuple(sorted(ORDERED)),
    )  # fmt: skip


def outcome_of(call: Call) -> str:
    """Return the word for what became of a call: its kind, and what was heard."""
    kind = "create" if isinstance(call.operation, Create) else "read"
    if not call.known:
        return f"{kind} unknown"
    return f"{kind} {call.status} {'replayed' if call.replayed else code_of(call)}".strip()


async def _settled(pool: Pool, tenant: str, seconds: float) -> None:
    """Return when nothing goes on by itself, or when the patience runs out: what is left the check names."""
    with anyio.move_on_after(seconds):
        while True:
            if not await unsettled(pool, tenant):
                return
            await anyio.sleep(POLL_SECONDS)


async def _read_all(clients: Clients, history: Sequence[Call]) -> None:
    """Read, on record, every account that was named and every intent that nobody was told of."""
    looks: dict[tuple[str, str, str], Operation] = {}
    for call in history:
        operation = call.operation
        if isinstance(operation, ReadAccount | ReadEntries):
            names = [operation.account_id]
        elif isinstance(operation, Create):
            names = [name for end in ("source", "destination") if isinstance(name := operation.body.get(end), str)]
            intent_id = operation.body.get("intent_id")
            if not call.known and intent_id is not None:
                look = ReadIntent(tenant=operation.tenant, intent_id=intent_id)
                looks["intent", operation.tenant, intent_id] = look
        else:
            continue
        for name in names:
            looks["account", operation.tenant, name] = ReadAccount(tenant=operation.tenant, account_id=name)
    left = iter(looks.values())

    async def reader() -> None:
        process = clients.process()
        for look in left:
            if not (await clients.ask(process, look)).status:
                process = clients.process()

    async with anyio.create_task_group() as group:
        for _ in range(READERS):
            group.start_soon(reader)
