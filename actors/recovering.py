"""Recoveries: the owner of an endpoint's lane finds what the endpoint has not had, and has it sent, step by step.

Invariants. A step is one commit: what it starts anew or makes, the place behind it, and the timer of the next one. The
next step waits until most of what waits in the lane has gone, so a recovery is as fast as its endpoint and holds a
bounded number of bodies. An endpoint has one recovery under way and a tenant a few: each reads a great deal. How many
others have begun is asked of the store, so two that begin at once for one tenant may both be let through. All pages of
a batch are asked for at once. A delivery that is made late has the id and the bytes that it would have had in time."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from zentra.actors import lanes, webhooks
from zentra.actors.memory import Missing, MissingGround
from zentra.runtime.intents.transaction import Record, Transaction, restore
from zentra.runtime.messages import CommandGiven, TimerFired
from zentra.runtime.partitions import lane_key
from zentra.runtime.webhooks.recovery import (
    MissedIntent,
    Phase,
    Recovery,
    RecoveryPage,
    RecoveryStatus,
    Which,
    begun,
    turned,
)

if TYPE_CHECKING:
    from zentra.actors.tick import Tick

__all__ = ["COMMAND", "RECOVERY_CODES", "RecoveryAsked", "begin", "body_at", "fire", "shown"]

WAITING_MAX: Final = 500  # deliveries that wait in the lane; with more of them a recovery pauses
STEP_PAUSE: Final = timedelta(seconds=0.05)  # others have their turn in between
FULL_PAUSE: Final = timedelta(seconds=1)
RUNNING_MAX: Final = 4  # recoveries of one tenant
COMMAND: Final = "recover_deliveries"
RECOVERY_CODES: Final = ("endpoint_disabled", "recovery_under_way")


class RecoveryAsked(Struct, frozen=True):
    """The body of the command. `before` is None for all until now."""

    which: Which
    since: datetime
    before: datetime | None = None
    events: tuple[str, ...] = ()
    dry_run: bool = False


def begin(tick: "Tick", event: CommandGiven) -> tuple[str, dict[str, object]]:
    """Begin a recovery and take its first step; return the code of the outcome and its detail."""
    asked = msgspec.json.decode(event.body, type=RecoveryAsked)
    endpoint = event.subject
    if lanes.endpoint_of(tick, event.tenant, endpoint) is None:
        return "endpoint_disabled", {}
    under_way = _under_way(tick, event.tenant)
    if endpoint in under_way or len(under_way) >= RUNNING_MAX:
        return "recovery_under_way", {}
    before = tick.now if asked.before is None else min(asked.before, tick.now)
    recovery = begun(
        id=event.command, tenant=event.tenant, endpoint=endpoint, which=asked.which, since=asked.since, before=before,
        events=asked.events, principal=event.principal, dry_run=asked.dry_run,
    )  # fmt: skip
    return "done", shown(_step(tick, recovery))


def fire(tick: "Tick", event: TimerFired) -> None:
    """Take the next step of a recovery, or put it off while its lane is full."""
    tick.clear_timer("recovery", event.key, event.name)
    recovery = _stored(tick, event.key)
    if recovery is None or recovery.status is not RecoveryStatus.RUNNING or event.key in tick.writes.recoveries:
        return
    if lanes.endpoint_of(tick, recovery.tenant, recovery.endpoint) is None:
        tick.writes.recoveries[recovery.id] = msgspec.structs.replace(recovery, status=RecoveryStatus.STOPPED)
        return
    if len(tick.lane(recovery.tenant, recovery.endpoint).waiting) >= WAITING_MAX:
        _again(tick, recovery, FULL_PAUSE)
        return
    _step(tick, recovery)


def shown(recovery: Recovery) -> dict[str, object]:
    """Return how far a recovery is, for whoever has asked for it."""
    return {
        "recovery": recovery.id, "status": str(recovery.status), "dry_run": recovery.dry_run, "found": recovery.found,
        "replayed": recovery.replayed, "made": recovery.made, "skipped": recovery.skipped,
    }  # fmt: skip


def _step(tick: "Tick", recovery: Recovery) -> Recovery:
    page = tick.batch.recovered.pages.get(recovery.id)
    if page is None:
        tick.batch.recovered.unasked[recovery.id] = recovery
        return recovery
    walk = _replay if recovery.phase is Phase.DELIVERIES else _make
    after = walk(tick, recovery, page)
    tick.writes.recoveries[recovery.id] = after
    if after.status is RecoveryStatus.RUNNING:
        _again(tick, after, STEP_PAUSE)
    return after


def _replay(tick: "Tick", recovery: Recovery, page: RecoveryPage) -> Recovery:
    """Start the deliveries of a page anew."""
    wanted = [delivery for delivery, event in page.deliveries if recovery.wants(event)]
    replayed = skipped = 0
    if not recovery.dry_run:
        lanes.ask_together(tick, wanted)
        for delivery in wanted:
            code = webhooks.replay(tick, recovery.tenant, delivery, trigger="replay", actor=recovery.principal)
            replayed += code == "done"
            skipped += code == "delivery_under_way"
    return turned(recovery, page, replayed=replayed, made=0, skipped=skipped, found=len(wanted))


def _make(tick: "Tick", recovery: Recovery, page: RecoveryPage) -> Recovery:
    """Make what was never made of the events of a page."""
    endpoint = lanes.endpoint_of(tick, recovery.tenant, recovery.endpoint)
    assert endpoint is not None  # whoever takes a step has looked
    found = made = 0
    for missed in page.missed:
        for sequence in missed.sequences:
            record = missed.records[sequence - 1][0]
            event = _decode(record).event
            if not recovery.wants(event) or not webhooks.tells(endpoint.events, event):
                continue
            tx = _as_of(missed, sequence)
            if "events" not in tx.command.primitives:
                break
            found += 1
            if not recovery.dry_run:
                made += webhooks.make_late(tick, tx, event, record, endpoint, actor=recovery.principal)
    return turned(recovery, page, replayed=0, made=made, skipped=0, found=found)


def body_at(records: tuple[tuple[bytes, bytes], ...]) -> tuple[Transaction, str, bytes]:
    """Return an intent as it was after these records, the event of the last one, and the bytes that endpoints get."""
    tx = restore(records)
    event = _decode(records[-1][0]).event
    return tx, event, webhooks.body_of(tx, event, records[-1][0])


def _as_of(missed: MissedIntent, sequence: int) -> Transaction:
    return restore(missed.records[:sequence])


def _again(tick: "Tick", recovery: Recovery, pause: timedelta) -> None:
    place = tick.place_of(lane_key(recovery.tenant, recovery.endpoint))
    tick.timer("recovery", recovery.id, "step", place, recovery.tenant, tick.now + pause)


def _stored(tick: "Tick", id: str) -> Recovery | None:
    known = tick.batch.recovered.stored
    if id not in known:
        raise MissingGround(Missing(recoveries={id}))
    return known[id]


def _under_way(tick: "Tick", tenant: str) -> list[str]:
    """Return the endpoint of each recovery of a tenant that is under way, those of this tick included."""
    known = tick.batch.recovered.running
    if tenant not in known:
        raise MissingGround(Missing(running={tenant}))
    written = tick.writes.recoveries
    begun = [one.endpoint for one in written.values() if one.tenant == tenant and one.status is RecoveryStatus.RUNNING]
    return [*begun, *(endpoint for key, endpoint in known[tenant].items() if key not in written)]


_decode: Final = msgspec.json.Decoder(Record).decode
