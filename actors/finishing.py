"""How a tick ends: all that its events asked for becomes rows, leaves, frames and dead letters, named and in order.

Balances are folded per account, a tenant's log is appended to and its head signed once, events become frames of one
partition and stage. The ids of frames follow from the fence that commits them, so ending twice gives the same bytes."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from zentra.actors import lanes
from zentra.actors.framing import Told, arrays_of, frames_of
from zentra.actors.relay import row_of
from zentra.actors.stages import LEAF_WAITS
from zentra.actors.tick import CASE_DEADLINE, Input, Tick, derived_id
from zentra.runtime.evidence.history import SignHead, in_force
from zentra.runtime.evidence.merkle import Frontier, leaf_hash
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.messages import Due, Event, LeafDue, encode_frame
from zentra.runtime.names import is_tenant
from zentra.runtime.ports import CaseRow, LogHead, TickPlan, TickWrites
from zentra.runtime.stream_ports import Outgoing

__all__ = ["finish", "owner_of"]

_INTENT: Final = re.compile(r"[0-9a-f]{32}\Z", re.ASCII)


def finish(tick: Tick, plan: TickPlan) -> TickWrites:
    """Return everything to write: balances folded per account, logs appended, frames cut and named."""
    writes = tick.writes
    writes.postings, writes.velocity_changes = tick.book.postings, tick.counts
    refs = {ref.id: ref for ref in plan.accounts}
    writes.balance_changes = {key: (refs[key], change) for key, change in tick.book.changes.items()}
    lanes.finish_lanes(tick)
    _append_leaves(tick)
    # a partition that was lost has been here before: its place may have named frames already
    anchor = next((fence for fence in plan.fences if fence.partition not in tick.lost), plan.fences[0])
    prefix = f"{anchor.partition:04x}{anchor.epoch:08x}{anchor.version:012x}"
    messages: list[tuple[int, str, bytes, Told]] = []
    for (partition, stage), events in tick.frames.items():
        subject = tick.rules.command_subject(partition, stage)
        messages += [(partition, subject, body, ()) for body in frames_of(events)]
    for (partition, tenant, topic), transitions in tick.feed.items():
        subject = tick.rules.event_subject(partition, tenant, topic)
        messages += [(partition, subject, body, told) for body, told in arrays_of(transitions)]
    messages += _dead_letters(tick)
    writes.outbox = [
        (partition, Outgoing(subject, body, f"{prefix}{number:08x}", told))
        for number, (partition, subject, body, told) in enumerate(messages)
    ]
    return writes


def _append_leaves(tick: Tick) -> None:
    for tenant, due in tick.leaves.items():
        head = tick.log_head(tenant)
        at = tick.now if head is None else max(tick.now, head.at)  # a clock may be set back, a log never is
        kid, sign = _signer(tick, at)
        if sign is None:
            _postpone(tick, kid, due)
            continue
        size = head.size if head else 0
        hashes = [leaf_hash(leaf.data) for leaf in due]
        for offset, (leaf, link) in enumerate(zip(due, hashes, strict=True)):
            tick.writes.leaves.append((tenant, size + offset, leaf.intent, leaf.data, link))
        frontier, tiles = (head.frontier if head else Frontier()).append(hashes)
        tick.writes.tiles += [(tenant, tile.level, tile.index, tile.hash) for tile in tiles if tile.level > 0]
        root = frontier.root()
        key_id, signature = sign(tenant, frontier.size, root, at)
        signed = LogHead(tenant, frontier.size, frontier, root, at, key_id, signature)
        tick.writes.heads.append(signed)
        tick.heads[tenant] = signed


def _signer(tick: Tick, at: datetime) -> tuple[str, SignHead | None]:
    """Return the key that signs heads of a time and what signs with it, or None where this worker lacks the key."""
    kid = in_force(tick.configuration.evidence_keys, timestamp(at))
    return ("", tick.rules.sign_head) if kid is None else (kid, tick.rules.signers.get(kid))


def _postpone(tick: Tick, kid: str, due: Sequence[LeafDue]) -> None:
    """Give leaves that nobody here can sign for back to their intents, which hand them over again after a while.

    No leaf is logged without a head, and money goes on."""
    tick.unsigned[kid] += len(due)
    for leaf in due:
        place = tick.rules.partition_of(leaf.intent)
        tick.send(place, "evidence", Due(leaf.intent, leaf.tenant, LEAF_WAITS))


def _dead_letters(tick: Tick) -> list[tuple[int, str, bytes, Told]]:
    """Return what poisoned events leave behind: a letter with the reason, and a case for an operator."""
    letters: list[tuple[int, str, bytes, Told]] = []
    for index, reason in tick.batch.poisoned.items():
        entry = tick.batch.inputs[index]
        if entry.partition in tick.lost:
            continue
        body = entry.raw if entry.event is None else encode_frame([entry.event])
        tenant, intent = owner_of(entry.event)
        reason = reason.replace("\x00", "\ufffd")
        case = derived_id("poison", *_sameness(tick, entry, body, intent, reason))
        letter = {"reason": reason, "stage": entry.stage, "cause": entry.cause, "frame": body.hex(), "case": case}
        subject = tick.rules.dead_subject("poison", entry.partition)
        letters.append((entry.partition, subject, msgspec.json.encode(letter), ()))
        detail = {"stage": entry.stage, "cause": entry.cause, "reason": reason[:500]}
        tick.writes.cases_opened.append(
            CaseRow(case, tenant, intent, None, "poison_message", detail, tick.now, tick.now + CASE_DEADLINE)
        )
    return letters


def owner_of(event: Event | None) -> tuple[str, str | None]:
    """Return the tenant and the intent of what is set aside, "-" and None where it does not name them well: whatever is
    wrong with it must not keep its case out of the store."""
    tenant, intent = getattr(event, "tenant", "-"), getattr(event, "intent", None)
    if not (tenant == "-" or is_tenant(tenant)) or not (intent is None or _INTENT.match(intent)):
        return "-", None
    return tenant, intent


def _sameness(tick: Tick, entry: Input, body: bytes, intent: str | None, reason: str) -> tuple[str, ...]:
    """Return what makes one poison the same as another, and so its case.

    A frame that a stream lost comes again under another id of the same row. A timer comes again and again, and so does
    what a state asks for while it lasts, each time in another frame: once their case is resolved they get another, a
    day later."""
    row = row_of(entry.cause) or entry.cause
    if entry.stage == "timer":
        return (row, tick.day, body.hex())
    if isinstance(entry.event, Due) and intent is not None:
        return (entry.stage, intent, tick.day, reason)
    return (row, body.hex())
