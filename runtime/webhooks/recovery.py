"""Recoveries: everything that an endpoint has not had since a time is sent to it, by one command, in batches.

Theory of operation. A recovery walks what the store holds, along indexes and in order, a page at a time. Each page is
one step of the owner of the endpoint's lane: it starts deliveries anew, makes those that never were, and moves the
place, in one commit. So a step that was lost is taken again from where the last one ended, and nothing is made twice.

What there is to find depends on `which`:

- `failed`: deliveries that were given up or wait for their next try;
- `missing`: events that fit the endpoint's filter and have no delivery, because they are older than the endpoint or
  happened while it was disabled;
- `undelivered`: both;
- `any`: deliveries that have ended or wait for their next try, those that were taken included.

Missing events are found by walking intents, which is complete: an intent with an event of that time has begun since
(`begun`), or is not at its end and has a timer (`open`), or has a leaf in the log from since then (`sealed`).

The invariants kept here: phases follow one another in the order of their table, places only grow, and a recovery that
has ended stays so."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

from msgspec import Struct, structs

from zentra.runtime.webhooks.delivery import DeliveryState
from zentra.runtime.webhooks.standard import matches

__all__ = [
    "FAILED_STATES",
    "PAGE_DELIVERIES_MAX",
    "PAGE_EVENTS_MAX",
    "PAGE_EXAMINED_MAX",
    "PHASES",
    "MissedIntent",
    "Phase",
    "Recovery",
    "RecoveryPage",
    "RecoveryStatus",
    "Which",
    "begun",
    "states_of",
    "turned",
]

PAGE_DELIVERIES_MAX: Final = 500  # started anew by one step, with their bodies in memory
PAGE_EVENTS_MAX: Final = 200  # made by one step: each is folded from the records of its intent
PAGE_EXAMINED_MAX: Final = 5_000  # rows that one page looks at


class Which(StrEnum):
    """What a recovery is to find."""

    FAILED = "failed"
    MISSING = "missing"
    UNDELIVERED = "undelivered"
    ANY = "any"


class Phase(StrEnum):
    """What a recovery is walking along."""

    DELIVERIES = "deliveries"
    BEGUN = "begun"
    OPEN = "open"
    SEALED = "sealed"


class RecoveryStatus(StrEnum):
    """Where a recovery stands."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"  # the endpoint was disabled meanwhile


W, P = Which, Phase
# An intent that comes to its end during the walk goes from `open` to `sealed`, so that is walked last.
PHASES: Final[Mapping[Which, tuple[Phase, ...]]] = {
    W.FAILED: (P.DELIVERIES,),
    W.MISSING: (P.BEGUN, P.OPEN, P.SEALED),
    W.UNDELIVERED: (P.DELIVERIES, P.BEGUN, P.OPEN, P.SEALED),
    W.ANY: (P.DELIVERIES,),
}
FAILED_STATES: Final = (DeliveryState.EXHAUSTED, DeliveryState.RETRYING)


class Recovery(Struct, frozen=True, kw_only=True):
    """A recovery as stored: what was asked, by whom, and how far it is. `since` and `before` bound the time of events,
    for deliveries that of their making; `events` are filters beside the endpoint's own, none for all."""

    id: str
    tenant: str
    endpoint: str
    which: Which
    since: datetime
    before: datetime
    events: tuple[str, ...]
    principal: str
    dry_run: bool
    status: RecoveryStatus
    phase: Phase
    place: str = ""  # behind what was looked at in this phase; "" at its beginning
    found: int = 0
    replayed: int = 0
    made: int = 0
    skipped: int = 0  # found, and being sent just then

    def wants(self, event: str) -> bool:
        """Return whether it was asked for this event."""
        return not self.events or matches(self.events, event)


class MissedIntent(Struct, frozen=True):
    """The events of one intent without a delivery, by sequence, and its records, with their hashes, up to the last."""

    intent: str
    sequences: tuple[int, ...]
    records: tuple[tuple[bytes, bytes], ...]


class RecoveryPage(Struct, frozen=True):
    """What lies behind the place of a recovery: (id, event) of deliveries or intents that were not told of, the next
    place, and whether the phase ends there."""

    place: str
    last: bool
    deliveries: tuple[tuple[str, str], ...] = ()
    missed: tuple[MissedIntent, ...] = ()


def states_of(which: Which) -> tuple[DeliveryState, ...]:
    """Return the states of deliveries that a recovery starts anew."""
    if which is Which.MISSING:
        return ()
    return (*FAILED_STATES, DeliveryState.DELIVERED) if which is Which.ANY else FAILED_STATES


def begun(
    *, id: str, tenant: str, endpoint: str, which: Which, since: datetime, before: datetime, events: tuple[str, ...],
    principal: str, dry_run: bool,
) -> Recovery:  # fmt: skip
    """Return a recovery that has looked at nothing yet."""
    return Recovery(
        id=id, tenant=tenant, endpoint=endpoint, which=which, since=since, before=before, events=events,
        principal=principal, dry_run=dry_run, status=RecoveryStatus.RUNNING, phase=PHASES[which][0],
    )  # fmt: skip


def turned(recovery: Recovery, page: RecoveryPage, *, replayed: int, made: int, skipped: int, found: int) -> Recovery:
    """Return a recovery after a page: behind it, in the next phase, or done."""
    phases = PHASES[recovery.which]
    phase, place, status = recovery.phase, page.place, recovery.status
    if page.last:
        rest = phases[phases.index(phase) + 1 :]
        phase, place = (rest[0], "") if rest else (phase, page.place)
        status = status if rest else RecoveryStatus.DONE
    return structs.replace(
        recovery, phase=phase, place=place, status=status, found=recovery.found + found,
        replayed=recovery.replayed + replayed, made=recovery.made + made, skipped=recovery.skipped + skipped,
    )  # fmt: skip
