"""The engine's store on Postgres: leases, actors and look-ups, the outbox, and the commit of ticks.

It runs as the batch writer, so every statement that concerns a tenant names the tenant or a key that belongs to one."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from zentra.runtime.errors import DataError
from zentra.runtime.evidence.merkle import Frontier
from zentra.runtime.fees.schedule import FeeRule, FeeSchedule
from zentra.runtime.intents.terms import HOLD_SECONDS_MIN
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.ledger.conversion import FxRate
from zentra.runtime.policy import PolicyRules
from zentra.runtime.policy.document import rules_of
from zentra.runtime.ports import (
    EXPIRING_MAX,
    STRANGERS_MORE,
    STRANGERS_OPEN_MAX,
    WAITING_MAX,
    Claim,
    Configuration,
    Endpoint,
    Expiring,
    ExpiringHold,
    Ground,
    LaneRow,
    Lease,
    LogHead,
    RailCounts,
    StoredIntent,
    TickPlan,
    TickWrites,
    Timer,
    WaitingCallback,
)
from zentra.runtime.rails.port import RailSettings
from zentra.runtime.reviews import Member, ReviewRules, Workload
from zentra.runtime.stream_ports import Outgoing, Position
from zentra.runtime.webhooks.delivery import Delivery, DeliveryState
from zentra.runtime.webhooks.recovery import Recovery, RecoveryPage
from zentra.runtime.webhooks.terms import EndpointTerms, Health
from zentra.storage import outbox
from zentra.storage.engine.accounts import find_accounts
from zentra.storage.engine.journal import UUID_DIGITS, commit_tick
from zentra.storage.engine.ownership import claim_leases, give_up_leases, release_leases
from zentra.storage.engine.recoveries import find_recoveries, find_running, next_page
from zentra.storage.errors import translated
from zentra.storage.intake.callbacks import OPEN_STRANGERS, WAITING, strangers_of, waiting_of
from zentra.storage.intake.evidence_keys import key_history, signing_keys
from zentra.storage.operations import exchange_health, rail_operations
from zentra.storage.pool import Pool
from zentra.storage.routes import CORRIDOR_COLUMNS, corridor_of
from zentra.storage.screening import ListShelf, cleared_pairs

__all__ = ["PostgresStore"]

UNSEND_ROWS: Final = 20_000  # well within the limit of a transaction
_RATES: Final = """
select tenant, sell, buy, mid, spread_bps, fee_minor, as_of, max_age_seconds, source, version
from fx_rates order by 1, 2, 3
"""
_INTENT_IDS: Final = """
select i.tenant, i.intent_id, i.id
from intents i join unnest($1::text[], $2::text[]) as n(tenant, intent_id) using (tenant, intent_id)
"""
_RECORDS: Final = """
select intent, array_agg(record order by sequence), array_agg(hash order by sequence)
from transitions where intent = any($1::uuid[]) group by intent
"""
_DELIVERY: Final = """
select d.id, d.tenant, d.endpoint, d.intent, d.event, d.body, s.status, s.attempts, s.tries, s.trigger, s.sequence,
    s.next_at, s.actor
from deliveries d left join delivery_states s on s.delivery = d.id
"""
# In the order of the lane's index, which is walked no further than there are rows to return.
_OPEN_DELIVERIES: Final = f"""{_DELIVERY}
where s.tenant = $1 and s.endpoint = $2 and s.status in ('pending', 'delivering', 'retrying')
    and ($3 or s.status <> 'retrying' or s.next_at is null)
order by s.sequence, s.delivery limit 2000
"""
# One step along the index for each lane: lanes are few, and of one that is down there may be a million rows.
_OPEN_LANES: Final = """
with recursive lanes as (
    (select tenant, endpoint from delivery_states where status in ('pending', 'delivering', 'retrying')
        order by tenant, endpoint limit 1)
    union all
    select next.tenant, next.endpoint from lanes l cross join lateral (
        select s.tenant, s.endpoint from delivery_states s where s.status in ('pending', 'delivering', 'retrying')
            and (s.tenant, s.endpoint) > (l.tenant, l.endpoint) order by s.tenant, s.endpoint limit 1) next
)
select tenant, endpoint from lanes
"""
_EXPIRING: Final = """
select a.account, clock_timestamp(), h.intent, h.remaining, h.expires_at
from unnest($1::bigint[]) as a(account) left join lateral (
    select intent, remaining, expires_at from holds
    where account = a.account and status = 'open' and expires_at <= clock_timestamp() + make_interval(secs => $2)
    order by expires_at limit $3
) h on true
"""
_TIMERS: Final = """
select kind, key, name, partition, tenant, due_at, extract(epoch from due_at - clock_timestamp())::float8
from timers where partition = any($1::int[]) and due_at < clock_timestamp() + make_interval(secs => $2)
order by due_at limit $3
"""
# One step along the primary key for each timer: what waits for a rail is told by the last record alone.
_STARTED: Final = """
select kind, key, name, partition, t.tenant, due_at, extract(epoch from clock_timestamp() - last.at)::float8
from timers t cross join lateral (
    select state, at from transitions where intent = t.key order by sequence desc limit 1
) last
where partition = any($1::int[]) and due_at < clock_timestamp() + make_interval(secs => $2)
    and kind = 'intent' and name = 'state' and last.state = $4
order by due_at limit $3
"""
_UNCONSUMED: Final = """
with lost as (
    select id from outbox
    where subject like 'zc.%' and sent_at < clock_timestamp() - make_interval(secs => $2) and partition = any($1::int[])
    order by created_at, id limit $3 for update skip locked
), again as (
    update outbox o set sent_at = clock_timestamp() from lost where o.id = lost.id
    returning o.subject, o.body, o.id, o.created_at
)
select subject, body, id from again order by created_at, id
"""
_UNSEND: Final = """
update outbox set sent_at = null
where id in (
    select id from outbox
    where ($1::uuid is null or id > $1) and sent_at <= $3
        and case when subject like 'zc.%' then partition <> all($4::int[]) else sent_at >= $2 end
    order by id limit $5 for update skip locked
) returning id
"""
_MOMENTS: Final = """
select case when $1 = 'infinity'::float8 then '-infinity'::timestamptz
    else clock_timestamp() - make_interval(secs => $1) end, clock_timestamp() - make_interval(secs => $2)
"""
_OUTSTANDING: Final = """
select id from outbox where subject like 'zc.%' and partition = any($1::int[]) order by created_at, id
"""
_WORKLOADS: Final = """
select tenant, assigned_to, count(*) from reviews
where status = 'open' and tenant = any($1::text[]) and assigned_to is not null group by 1, 2
"""
_CLOSED_UNTIL: Final = """
select tenant, book, max(until) from periods where reopened_at is null group by tenant, book
"""
_STATISTICS: Final = """
select
    (select coalesce(sum(abs(total)), 0)::float8 from (
        select sum(b.debits_posted - b.credits_posted) as total from balances b join accounts a on a.id = b.account
        group by a.tenant, a.book, a.currency) posted) as ledger_imbalance_minor_units,
    (select coalesce(sum(abs(total)), 0)::float8 from (
        select sum(b.debits_pending - b.credits_pending) as total from balances b join accounts a on a.id = b.account
        group by a.tenant, a.book, a.currency) pending) as ledger_imbalance_pending_minor_units,
    (select coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)::float8
        from outbox where sent_at is null) as outbox_lag_seconds,
    (select count(*)::float8 from reviews where status = 'open') as reviews_open,
    (select count(*)::float8 from reviews where status = 'open' and due_at < clock_timestamp()) as reviews_overdue,
    (select count(*)::float8 from reviews where status = 'open' and assigned_to is null) as reviews_unassigned,
    (select coalesce(extract(epoch from clock_timestamp() - min(opened_at)), 0)::float8
        from reviews where status = 'open') as reviews_oldest_seconds,
    (select count(*)::float8 from approvals where status = 'open' and expires_at > clock_timestamp()) as approvals_open,
    (select count(*)::float8 from cases where status = 'open') as cases_open,
    (select count(*)::float8 from cases where status = 'open' and deadline < clock_timestamp()) as cases_overdue
"""


class PostgresStore:
    """The `Store` port on a pool of batch-writer connections; the documentation of the methods is the port's."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._claimed = False
        self._policies: dict[tuple[str, int], PolicyRules] = {}
        self.shelf = ListShelf(pool)

    async def partitions(self) -> int:
        """Return the number of partitions, fixed when the installation was made."""
        return int((await self._fetch("select partitions from installation"))[0][0])

    async def claim(self, worker: str, lease_seconds: float) -> Claim:
        """See Store.claim."""
        claim = await claim_leases(self._pool, worker, lease_seconds, first=not self._claimed)
        self._claimed = True
        return claim

    async def give_up(self, worker: str, partitions: Collection[int]) -> None:
        """See Store.give_up."""
        await give_up_leases(self._pool, worker, partitions)

    async def release(self, worker: str) -> None:
        """See Store.release."""
        await release_leases(self._pool, worker)

    async def leases(self, partitions: Collection[int]) -> dict[int, Lease]:
        """See Store.leases. Waits for a commit that is still on its way, so that its outcome is the answer."""
        rows = await self._fetch(
            "select partition, epoch, version, sequence, message_id from leases"
            " where partition = any($1::int[]) order by partition for update",
            sorted(partitions),
        )
        return {row[0]: Lease(row[0], row[1], row[2], Position(row[3], row[4])) for row in rows}

    async def configuration(self) -> Configuration:
        """See Store.configuration. The version is read first: what is read after it is at least as new."""
        version = (await self._fetch("select version from configuration_version"))[0][0]
        policies = await self._fetch(
            "select tenant, version, rules from policies where state = 'active' order by tenant"
        )
        corridors = await self._fetch(
            f"select {CORRIDOR_COLUMNS} from corridors order by tenant, name"  # noqa: S608 - the names of columns
        )
        endpoints = await self._fetch(
            "select tenant, id, url, events, secrets, terms, secrets_until, keys, keys_until, status, since"
            " from endpoints where status <> 'deleted' order by tenant, id"
        )
        rails = await self._fetch("select settings from rails")
        reviews = await self._fetch(
            "select distinct on (tenant) tenant, rules from review_rules order by tenant, version desc"
        )
        members: dict[str, dict[str, Member]] = {}
        for row in await self._fetch("select tenant, id, role, disabled_at is not null from principals"):
            members.setdefault(row[0], {})[row[1]] = Member(row[2], row[3])
        fees = await self._fetch(
            "select distinct on (tenant) tenant, version, rules from fee_schedules order by 1, 2 desc"
        )
        settings = [msgspec.json.decode(row[0], type=RailSettings) for row in rails]
        known = self._policies  # a version never changes, so what was made of it is kept
        self._policies = {
            (row[0], row[1]): known.get((row[0], row[1])) or rules_of(msgspec.json.decode(row[2]), row[1])
            for row in policies
        }
        screening = any(
            one.compliance is not None and one.compliance.screen != "off" for one in self._policies.values()
        )
        return Configuration(
            version=version,
            policies={tenant: rules for (tenant, _), rules in self._policies.items()},
            corridors=_by_tenant(map(corridor_of, corridors)),
            endpoints=_by_tenant(_endpoint(row) for row in endpoints if row[9] == "enabled"),
            endpoints_held=frozenset((row[0], row[1]) for row in endpoints if row[9] == "disabled"),
            rails={rail.name: rail for rail in settings},
            reviews={row[0]: msgspec.json.decode(row[1], type=ReviewRules) for row in reviews},
            members=members,
            fees={row[0]: FeeSchedule(msgspec.json.decode(row[2], type=tuple[FeeRule, ...]), row[1]) for row in fees},
            rates=_by_tenant(FxRate(*row) for row in await self._fetch(_RATES)),
            closed_until={(row[0], row[1]): row[2] for row in await self._fetch(_CLOSED_UNTIL)},
            lists=await self.shelf.active() if screening else {},
            cleared=await cleared_pairs(self._pool) if screening else {},
            operations=await rail_operations(self._pool),
            evidence_keys=signing_keys(await key_history(self._pool)),
        )

    async def accounts(self, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], AccountRef]:
        """See Store.accounts."""
        return await find_accounts(self._pool, names)

    async def intent_ids(self, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """See Store.intent_ids."""
        rows = await self._fetch(_INTENT_IDS, [tenant for tenant, _ in names], [name for _, name in names])
        return {(row[0], row[1]): row[2] for row in rows}

    async def intents(self, ids: Collection[str]) -> dict[str, StoredIntent]:
        """See Store.intents."""
        wanted = _uuids(ids)
        rows = await self._fetch(_RECORDS, wanted)
        made = await self._fetch(
            "select intent, array_agg(id) from deliveries where intent = any($1) group by 1", wanted
        )
        deliveries = {row[0]: frozenset(row[1]) for row in made}
        return {
            row[0]: StoredIntent(tuple(zip(row[1], row[2], strict=True)), deliveries.get(row[0], frozenset()))
            for row in rows
        }

    async def deliveries(self, ids: Collection[str]) -> dict[str, Delivery]:
        """See Store.deliveries."""
        rows = await self._fetch(f"{_DELIVERY} where d.id = any($1::uuid[])", _uuids(ids))
        return {row[0]: _delivery(row) for row in rows}

    async def open_deliveries(self, tenant: str, endpoint: str, *, timed: bool = False) -> list[Delivery]:
        """See Store.open_deliveries."""
        rows = await self._fetch(_OPEN_DELIVERIES, tenant, endpoint, timed)
        return [_delivery(row) for row in rows]

    async def lane(self, tenant: str, endpoint: str) -> LaneRow:
        """See Store.lane."""
        rows = await self._fetch(
            "select sequence, failing_since, failed_at, failures from endpoint_lanes"
            " where tenant = $1 and endpoint = $2",
            tenant,
            endpoint,
        )
        return LaneRow(rows[0][0], Health(*rows[0][1:])) if rows else LaneRow()

    async def recoveries(self, ids: Collection[str]) -> dict[str, Recovery]:
        """See Store.recoveries."""
        with translated():
            return await find_recoveries(self._pool, _uuids(ids))

    async def running_recoveries(self, tenants: Collection[str]) -> dict[str, dict[str, str]]:
        """See Store.running_recoveries."""
        with translated():
            return await find_running(self._pool, tenants)

    async def recovery_page(self, recovery: Recovery) -> RecoveryPage:
        """See Store.recovery_page."""
        with translated():
            async with self._pool.acquire() as connection:
                return await next_page(connection, recovery)

    async def open_lanes(self) -> set[tuple[str, str]]:
        """See Store.open_lanes."""
        return {(row[0], row[1]) for row in await self._fetch(_OPEN_LANES)}

    async def logs(self, tenants: Collection[str]) -> dict[str, LogHead]:
        """See Store.logs."""
        rows = await self._fetch(
            "select distinct on (tenant) tenant, size, frontier, root, at, key_id, signature from log_heads"
            " where tenant = any($1::text[]) order by tenant, size desc",
            sorted(tenants),
        )
        return {
            row[0]: LogHead(row[0], row[1], Frontier(row[1], tuple(row[2])), row[3], row[4], row[5], row[6])
            for row in rows
        }

    async def leaves(self, names: Collection[tuple[str, bytes]]) -> set[tuple[str, bytes]]:
        """See Store.leaves."""
        rows = await self._fetch(
            "select intent, hash from log_leaves where intent = any($1::uuid[])",
            _uuids({intent for intent, _ in names}),
        )
        return {(row[0], row[1]) for row in rows}.intersection(names)

    async def workloads(self, tenants: Collection[str]) -> dict[str, Workload]:
        """See Store.workloads."""
        now = (await self._fetch("select clock_timestamp()"))[0][0]
        found = {tenant: Workload(now, {}) for tenant in tenants}
        for tenant, principal, count in await self._fetch(_WORKLOADS, sorted(tenants)):
            found[tenant].open[principal] = count
        return found

    async def answered(self, commands: Collection[str]) -> set[str]:
        """See Store.answered."""
        rows = await self._fetch(
            "select command from command_outcomes where command = any($1::uuid[])", sorted(commands)
        )
        return {row[0] for row in rows}

    async def expiring_holds(self, accounts: Collection[int]) -> dict[int, Expiring]:
        """See Store.expiring_holds."""
        found: dict[int, list[ExpiringHold]] = {}
        at = None
        for row in await self._fetch(_EXPIRING, sorted(accounts), HOLD_SECONDS_MIN, EXPIRING_MAX):
            at = row[1] if at is None else min(at, row[1])
            holds = found.setdefault(row[0], [])
            if row[2] is not None:
                holds.append(ExpiringHold(row[2], row[3], row[4]))
        return {account: Expiring(at, tuple(holds)) for account, holds in found.items()} if at is not None else {}

    async def waiting_callbacks(
        self, names: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[WaitingCallback, ...]]:
        """See Store.waiting_callbacks."""
        return waiting_of(names, await self._fetch(WAITING, *zip(*sorted(names), strict=True), WAITING_MAX))

    async def open_strangers(self, rails: Collection[str]) -> dict[str, frozenset[str]]:
        """See Store.open_strangers."""
        return strangers_of(rails, await self._fetch(OPEN_STRANGERS, sorted(rails), STRANGERS_MORE, STRANGERS_OPEN_MAX))

    async def due_timers(
        self, partitions: Collection[int], until_seconds: float, limit: int
    ) -> list[tuple[Timer, float]]:
        """See Store.due_timers."""
        rows = await self._fetch(_TIMERS, sorted(partitions), until_seconds, limit)
        return [(Timer(row[0], row[1], row[2], row[3], row[4], row[5]), row[6]) for row in rows]

    async def started_attempts(
        self, partitions: Collection[int], until_seconds: float, limit: int
    ) -> list[tuple[Timer, float]]:
        """See Store.started_attempts."""
        rows = await self._fetch(_STARTED, sorted(partitions), until_seconds, limit, str(State.SUBMITTED))
        return [(Timer(row[0], row[1], row[2], row[3], row[4], row[5]), row[6]) for row in rows]

    async def commit(
        self,
        plan: TickPlan,
        decide: Callable[[Ground], TickWrites],
        draft: Callable[[Ground], Awaitable[TickWrites]] | None = None,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> Ground:
        """See Store.commit."""
        return await commit_tick(self._pool, plan, decide, draft, turn)

    async def unsent(
        self, partitions: Collection[int], older_seconds: float, limit: int, *, commands: bool | None = None
    ) -> list[Outgoing]:
        """See Store.unsent."""
        return await outbox.unsent(self._pool, partitions, older_seconds, limit, commands)

    async def unsend(self, from_seconds: float, to_seconds: float, kept: Collection[int]) -> int:
        """See Store.unsend. Many rows are taken back a few at a time; what is sent again meanwhile stays sent."""
        since, until = (await self._fetch(_MOMENTS, from_seconds, to_seconds))[0]
        rows, last = 0, None
        while True:
            taken = await self._fetch(_UNSEND, last, since, until, sorted(kept), UNSEND_ROWS)
            rows += len(taken)
            if len(taken) < UNSEND_ROWS:
                return rows
            last = max(row[0] for row in taken)

    async def outstanding(self, partitions: Collection[int]) -> list[str]:
        """See Store.outstanding."""
        return [row[0] for row in await self._fetch(_OUTSTANDING, sorted(partitions))]

    async def frames(self, rows: Sequence[str]) -> list[Outgoing]:
        """See Store.frames."""
        return await outbox.frames(self._pool, rows)

    async def unconsumed(self, partitions: Collection[int], sent_seconds: float, limit: int) -> list[Outgoing]:
        """See Store.unconsumed."""
        rows = await self._fetch(_UNCONSUMED, sorted(partitions), sent_seconds, limit)
        return [Outgoing(row[0], row[1], row[2]) for row in rows]

    async def exchange_health(
        self, worker: str, counts: Sequence[RailCounts], lease_seconds: float
    ) -> tuple[int, list[RailCounts]]:
        """See Store.exchange_health."""
        return await exchange_health(self._pool, worker, counts, lease_seconds)

    async def mark_sent(self, ids: Sequence[str]) -> None:
        """See Store.mark_sent."""
        await outbox.mark_sent(self._pool, ids)

    async def trim_outbox(self, partitions: Collection[int], sent_before: datetime) -> int:
        """See Store.trim_outbox."""
        with translated():
            done = await self._pool.execute(
                "delete from outbox where partition = any($1::int[]) and sent_at < $2 and subject not like 'zc.%'",
                sorted(partitions),
                sent_before,
            )
        return int(done.rpartition(" ")[2])

    async def statistics(self) -> Mapping[str, float]:
        """See Store.statistics."""
        return dict((await self._fetch(_STATISTICS))[0])

    async def _fetch(self, statement: str, *arguments: Any) -> list[Any]:
        with translated():
            return await self._pool.fetch(statement, *arguments)


def _uuids(ids: Collection[str]) -> list[str]:
    """Return the ids in order; raise DataError for one that is none: an empty one would end the connection instead."""
    for key in ids:
        if len(key) != UUID_DIGITS:
            raise DataError(f"not a uuid: {key[:64]!r}")
    return sorted(ids)


def _by_tenant(items: Any) -> dict[str, Any]:
    grouped: dict[str, list[Any]] = {}
    for item in items:
        grouped.setdefault(item.tenant, []).append(item)
    return {tenant: tuple(members) for tenant, members in grouped.items()}


def _endpoint(row: Any) -> Endpoint:
    terms = msgspec.json.decode(row[5], type=EndpointTerms)
    events, secrets, secrets_until, keys, keys_until = (tuple(row[place]) for place in (3, 4, 6, 7, 8))
    return Endpoint(row[0], row[1], row[2], events, secrets, terms, secrets_until, keys, keys_until, row[10])


def _delivery(row: Any) -> Delivery:
    begun = row[6] is not None
    return Delivery(
        id=row[0], tenant=row[1], endpoint=row[2], intent=row[3], event=row[4], body=row[5],
        state=DeliveryState(row[6]) if begun else DeliveryState.PENDING, attempts=row[7] or 0, tries=row[8] or 0,
        trigger=row[9] or "automatic", begun=begun, sequence=row[10] or 0, next_at=row[11], actor=row[12] or "",
    )  # fmt: skip
