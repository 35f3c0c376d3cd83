"""What strikes between two steps: the world around the workers turns against them, and is repaired at the end.

A strike returns whether it could strike at all; only then is it counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import structs

from zentra.bench.simulation import hooks, roads
from zentra.bench.simulation.faults import FAULTS, Fault
from zentra.bench.simulation.outside import Callback
from zentra.bench.simulation.setting import APPROVED_SECONDS, GLOBEX, MONITORS, PARTIES, UNTRUSTED, rates
from zentra.bench.simulation.shelf import LEASE_SECONDS
from zentra.runtime.compliance.states import PartyRef
from zentra.runtime.evidence.history import SigningKey
from zentra.runtime.fees.schedule import FeeSchedule
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.ledger.book import available
from zentra.runtime.policy import PolicyRules
from zentra.runtime.rails.routing import find_corridor, reference_of
from zentra.runtime.reviews import Approvals, Member, ReviewRules

if TYPE_CHECKING:
    from zentra.bench.simulation.outside import SimulatedRail
    from zentra.bench.simulation.simulation import Simulation
    from zentra.bench.simulation.workers import SimulatedWorker

__all__ = ["STRIKES", "change_configuration", "repair"]

FAILOVER: Final = "provider.failover"
ROLLBACK_SECONDS_MAX: Final = 60.0  # a server syncs its files at least that often; what is older is on its disk
WORKERS_MAX: Final = 4  # with those that are stopped for ever
STOPPED_SECONDS_MAX: Final = 4 * LEASE_SECONDS


def _victim(simulation: Simulation) -> SimulatedWorker | None:
    running = [worker for worker in simulation.workers if worker.running]
    return simulation.random.choice(running) if running else None


# The stream -----------------------------------------------------------------------------------------------------------


def _repeat_old_frame(simulation: Simulation) -> bool:
    messages = simulation.stream.log().messages
    if not messages or not simulation.stream.available:
        return False
    simulation.append_again(simulation.random.choice(messages))
    return True


def _poison(simulation: Simulation) -> bool:
    body = b"\xc1" + simulation.random.randbytes(8)
    simulation.garbage.add(body)
    partition = simulation.random.randrange(simulation.store.partitions)
    simulation.border.emit_bytes(partition, simulation.random.choice(("policy", "ledger", "webhook", "log")), body)
    return True


def _stream_away(simulation: Simulation) -> bool:
    return _for_a_while(simulation, "stream", 0.2, 12)


def _stream_full(simulation: Simulation) -> bool:
    return _for_a_while(simulation, "room", 0.2, 12)


def _roll_back(simulation: Simulation) -> bool:
    log = simulation.stream.log()
    since = simulation.time - ROLLBACK_SECONDS_MAX
    kept = max((last for at, last in simulation.stream_history if at <= since), default=0)
    floor = max(kept, log.last - simulation.random.choice((1, 5, 60)), log.first - 1)
    if floor >= log.last:
        return False
    simulation.stream.roll_back(floor)
    return True


def _purge(simulation: Simulation) -> bool:
    worker = _victim(simulation)
    if worker is not None:
        worker.look_after()
    return False  # it counts itself where something was purged


# Workers --------------------------------------------------------------------------------------------------------------


def _kill(simulation: Simulation) -> bool:
    worker = _victim(simulation)
    if worker is not None:
        worker.kill()
    return worker is not None


def _hand_over(simulation: Simulation) -> bool:
    worker = _victim(simulation)
    if worker is None or worker.busy("fly"):
        return False
    worker.spawn("drain", worker.hand_over())
    if not worker.dead:
        worker.kill()
    return True


def _stop(simulation: Simulation) -> bool:
    worker = _victim(simulation)
    if worker is None:
        return False
    worker.listen_once()
    worker.stalled_until = simulation.time + simulation.random.uniform(0.5, STOPPED_SECONDS_MAX)
    return True


def _stop_for_ever(simulation: Simulation) -> bool:
    worker = _victim(simulation)
    if worker is None or len(simulation.workers) > WORKERS_MAX:
        return False
    worker.stalled_until = float("inf")
    simulation.add_worker()
    return True


def _miss_leases(simulation: Simulation) -> bool:
    worker = _victim(simulation)
    if worker is None:
        return False
    worker.beats_missed_until = simulation.time + simulation.random.uniform(LEASE_SECONDS, 3 * LEASE_SECONDS)
    return True


def _forget(simulation: Simulation) -> bool:
    worker = _victim(simulation)
    if worker is not None:
        worker.forget()
    return worker is not None


# Clocks and servers ---------------------------------------------------------------------------------------------------


def _store_clock(*steps: float) -> Callable[[Simulation], bool]:
    def strike(simulation: Simulation) -> bool:
        simulation.store_offset += simulation.random.choice(steps)
        return True

    return strike


def _gateway_clock(simulation: Simulation) -> bool:
    simulation.gateway_offset = simulation.random.choice((-3_600.0, -30.0, -0.5, 0.5, 30.0, 400.0))
    return True


def _store_away(simulation: Simulation) -> bool:
    simulation.store.away_until = simulation.time + simulation.random.uniform(0.2, 15)
    return True


# Outside --------------------------------------------------------------------------------------------------------------


def _rail(name: str) -> Callable[[Simulation], bool]:
    def strike(simulation: Simulation) -> bool:
        rail = simulation.random.choice(list(simulation.rails.values()))
        setattr(rail, name, simulation.time + simulation.random.uniform(1, 90))
        return True

    return strike


def _contradict(simulation: Simulation) -> bool:
    """Let a rail say of a payment what is not so: another end, or another amount."""
    random = simulation.random
    if random.random() < 0.5 and _claim_what_was_left(simulation):
        return True
    rail = random.choice([rail for name, rail in simulation.rails.items() if name not in UNTRUSTED])
    return _lie(simulation, rail, minor=random.choice((0, 1)))


def _claim_what_was_left(simulation: Simulation) -> bool:
    """Let a rail that did not accept a payment say that it has paid it, after another one was asked."""
    left = [rows for rows in simulation.store.rows.transitions.values() if any(t.event == FAILOVER for t in rows)]
    if not left:
        return False
    rows = simulation.random.choice(left)
    first = next(msgspec.json.decode(t.record)["facts"] for t in rows if t.event == "provider.routed")
    command = msgspec.json.decode(rows[0].record)["facts"]["command"]
    rail = simulation.rails[first["rail"]]
    _call_back(simulation, rail, first["reference"], "succeeded", int(command["minor"]), command["currency"])
    return True


def _forge(simulation: Simulation) -> bool:
    """Let somebody who knows the secret of a rail say what they like in its name; the rail itself stays honest."""
    random = simulation.random
    rail = simulation.rails[random.choice(sorted(UNTRUSTED))]
    return _lie(simulation, rail, minor=random.choice((0, 0, 1)))


def _lie(simulation: Simulation, rail: SimulatedRail, *, minor: int) -> bool:
    random, payments = simulation.random, list(rail.inner.book)
    if not payments:
        return False
    payment = random.choice(payments)
    status = random.choice(("succeeded", "declined"))
    amount = int(payment.order.amount) + minor
    _call_back(simulation, rail, payment.order.reference, status, amount, payment.order.currency)
    return True


def _call_back(
    simulation: Simulation, rail: SimulatedRail, reference: str, status: str, minor: int, currency: str
) -> None:
    fields = {
        "event_id": f"forged-{simulation.step}-{simulation.random.randrange(10**6)}", "reference": reference,
        "status": status, "amount": str(minor), "currency": currency, "provider_reference": "forged",
        "occurred_at": "2026-01-05T12:00:00Z",
    }  # fmt: skip
    simulation.callbacks.append(Callback(rail.settings.name, msgspec.json.encode(fields), simulation.time))


def _too_early(simulation: Simulation) -> bool:
    """Let a rail speak of an attempt that there is not yet, and perhaps never will be."""
    random, rows = simulation.random, simulation.store.rows.transitions
    requests = simulation.border.requests[-20:]
    if not requests:
        return False
    asked = random.choice(requests)
    corridor = find_corridor(simulation.store.current.corridors.get(asked.tenant, ()), asked.command)
    if corridor is None:
        return False
    made = sum(row.event in ("provider.routed", "provider.failover") for row in rows[asked.intent])
    rail = simulation.rails[corridor.rails[min(made, len(corridor.rails) - 1)]]
    command, status = asked.command, random.choice(("succeeded", "declined"))
    _call_back(simulation, rail, reference_of(asked.intent, made + 1), status, command.amount, command.currency)
    return True


def _replay(simulation: Simulation) -> bool:
    """Let a rail make a callback once more that was taken long ago."""
    if not simulation.called_back:
        return False
    simulation.callbacks.append(simulation.random.choice(simulation.called_back))
    return True


def _endpoint_down(simulation: Simulation) -> bool:
    members = [e for endpoints in simulation.store.current.endpoints.values() for e in endpoints]
    if not members:
        return False
    url = simulation.random.choice(members).url
    simulation.endpoints.down_until[url] = simulation.time + simulation.random.uniform(1, 400)
    return True


def _endpoint_gone(simulation: Simulation) -> bool:
    members = [e for endpoints in simulation.store.current.endpoints.values() for e in endpoints]
    if not members:
        return False
    url = simulation.random.choice(members).url
    simulation.endpoints.gone_until[url] = simulation.time + simulation.random.uniform(1, 60)
    return True


def _for_a_while(simulation: Simulation, what: str, shortest: float, longest: float) -> bool:
    return simulation.close(what, simulation.time + simulation.random.uniform(shortest, longest))


F = Fault
STRIKES: Final[Mapping[Fault, Callable[[Simulation], bool]]] = {
    F.OLD_FRAME_REPEATED: _repeat_old_frame,
    F.POISON_FRAME: _poison,
    F.STREAM_AWAY: _stream_away,
    F.STREAM_FULL: _stream_full,
    F.STREAM_ROLLED_BACK: _roll_back,
    F.STREAM_PURGED: _purge,
    F.KILLED_BETWEEN_TICKS: _kill,
    F.HANDED_OVER: _hand_over,
    F.STORE_AWAY: _store_away,
    F.STOPPED_WITH_INPUTS: _stop,
    F.STOPPED_FOR_EVER: _stop_for_ever,
    F.LEASE_MISSED: _miss_leases,
    F.STORE_CLOCK_FORWARD: _store_clock(0.5, 4, 11, 90, 3_700),
    F.STORE_CLOCK_BACK: _store_clock(-0.5, -4, -11, -90),
    F.GATEWAY_CLOCK_WRONG: _gateway_clock,
    F.FORGOTTEN: _forget,
    F.RAIL_SILENT: _rail("silent_until"),
    F.RAIL_REFUSES: _rail("refuses_until"),
    F.RAIL_SLOW: _rail("slow_until"),
    F.CALLBACK_CONTRADICTS: _contradict,
    F.CALLBACK_REPLAYED: _replay,
    F.CALLBACK_TOO_EARLY: _too_early,
    F.CALLBACK_FORGED: _forge,
    F.ENDPOINT_DOWN: _endpoint_down,
    F.ENDPOINT_GONE: _endpoint_gone,
}
assert STRIKES.keys() == {fault for fault, kind in FAULTS.items() if kind.step}


def repair(simulation: Simulation) -> None:
    """Let everything work again, and nobody be held up any more; processes that were stopped for ever are ended."""
    simulation.gateway_offset = 0.0
    simulation.store.away_until = simulation.time
    simulation.open_everything()
    simulation.endpoints.down_until.clear()
    simulation.endpoints.gone_until.clear()
    hooks.enable_all(simulation)
    for rail in simulation.rails.values():
        rail.silent_until = rail.refuses_until = rail.slow_until = simulation.time
    simulation.store.configure(structs.replace(simulation.store.current, operations={}))
    simulation.auditor.configured()
    for key in simulation.store.current.evidence_keys:
        simulation.hold_key(key.key_id)
    for worker in list(simulation.workers):
        worker.beats_missed_until = 0.0
        if worker.stalled_until == float("inf"):
            worker.kill()
        worker.stalled_until = 0.0


def change_configuration(simulation: Simulation) -> None:
    """Change what is set up: a policy, a fee, an endpoint, people, the rules of reviews, rates, an account, a party,
    corridors, how a rail is operated, or the key that signs."""
    random, store, current = simulation.random, simulation.store, simulation.store.current
    match random.randrange(11):
        case 10:
            _rotate_key(simulation)
        case 8 | 9:
            roads.change(simulation)
        case 5:
            tenant = random.choice(sorted(current.rates))
            put = rates(tenant, current.rates[tenant][0].version + 1, simulation.store_time())
            store.configure(structs.replace(current, rates={**current.rates, tenant: put}))
        case 6:
            name = random.choice([key for key, ref in sorted(store.refs.items()) if ref.party is not None])
            ref = store.refs[name]
            assert ref.party is not None
            kyc, screening = random.choice(PARTIES)
            seconds = random.choice(APPROVED_SECONDS)
            until = None if seconds is None else simulation.store_time() + timedelta(seconds=seconds)
            store.refs[name] = structs.replace(ref, party=PartyRef(ref.party.id, kyc, screening, until))
            store.configure(current)
        case 4:
            tenant = random.choice(sorted(current.fees))
            schedule = current.fees[tenant]
            rule = structs.replace(schedule.rules[0], flat_minor=random.randrange(50))
            fees = {**current.fees, tenant: FeeSchedule((rule, *schedule.rules[1:]), schedule.version + 1)}
            store.configure(structs.replace(current, fees=fees))
        case 0:
            tenant = random.choice(sorted(current.policies))
            rules: PolicyRules = current.policies[tenant]
            after = GLOBEX[rules.version % len(GLOBEX)] if tenant == "globex" else rules  # another is promoted
            policies = {**current.policies, tenant: structs.replace(after, version=rules.version + 1)}
            store.configure(structs.replace(current, policies=policies))
        case 1:
            hooks.change(simulation)
        case 2:
            tenant = random.choice(sorted(current.members))
            people = current.members[tenant]
            who = random.choice(sorted(people))
            roles = ("operator", "operator", "admin", "developer")
            changed = Member(random.choice(roles), disabled=random.random() < 0.3)
            store.configure(structs.replace(current, members={**current.members, tenant: {**people, who: changed}}))
        case 3:
            wants = ReviewRules(
                due_seconds=random.choice((5, 40, 14_400)), expires_seconds=random.choice((60, 3_000, 259_200)),
                assigns=random.random() < 0.8, escalates_to=random.choice(("admin", "operator", "")),
                approvals=random.choice(({}, {"*": Approvals(minor_min=200_000)})),
            )  # fmt: skip
            store.configure(structs.replace(current, reviews={**current.reviews, "acme": wants}))
        case _:
            _change_account(simulation)
    simulation.auditor.configured()


def _rotate_key(simulation: Simulation) -> None:
    """Let another evidence key follow in a while; sometimes the workers get it long after it is in force."""
    random, store = simulation.random, simulation.store
    known = store.current.evidence_keys
    missing = [key.key_id for key in known if key.key_id not in simulation.signers]
    if missing:
        simulation.hold_key(missing[0])
        return
    latest = max([simulation.store_time(), *(head.at for head in store.rows.heads.values())])
    since = timestamp(latest + timedelta(seconds=random.uniform(0.1, 30)))
    if since <= known[-1].since:
        return  # one follows already
    key = SigningKey(f"key{len(known)}", since)
    if random.random() < 0.7:
        simulation.hold_key(key.key_id)
    store.configure(structs.replace(store.current, evidence_keys=(*known, key)))


def _change_account(simulation: Simulation) -> None:
    """Freeze an account or let it go, close it or open it again, set its limit, take its monitors or give them."""
    random, store = simulation.random, simulation.store
    name = random.choice([key for key, ref in sorted(store.refs.items()) if ref.guarded])
    ref, balance = store.refs[name], store.balance(store.refs[name].id)
    alone = not store.locks  # who closes an account, or sets its limit, waits for the commits that are under way
    match random.randrange(5):
        case 0 | 1 if ref.status != "closed":
            store.change_account(structs.replace(ref, status="open" if ref.status == "frozen" else "frozen"))
        case 2 if ref.status == "closed":
            store.change_account(structs.replace(ref, status="open"))
        case 2 if alone and available(ref, balance) == 0 == balance.debits_pending + balance.credits_pending:
            store.change_account(structs.replace(ref, status="closed"))
        case 3 if alone:
            used = max(0, -available(ref, balance))
            store.change_account(structs.replace(ref, overdraft_limit=used + random.choice((0, 0, 50_000))))
        case 4:
            monitors = () if ref.monitors else MONITORS.get(ref.account_id, ())
            store.change_account(structs.replace(ref, monitors=monitors))
