"""An intent as its owner sees it: a pure function of its records and of the rows beside them.

Everything about money and time is read from the sealed records, so this view cannot disagree with the evidence. Amounts
of the ledger are strings of digits; the amount of the intent is the JSON integer that the client may send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from zentra.gateway.routes.term_view import terms_of
from zentra.runtime.evidence.chain import GENESIS, chain
from zentra.runtime.intents.transaction import REVERSALS
from zentra.runtime.intents.vocabulary import COMPOSED, SETTLED, State
from zentra.storage.reads.lists import IntentRow
from zentra.storage.reads.tenant import IntentView, LeafView
from zentra.storage.reads.work import CallbackView, DeliveryView

__all__ = ["STAGES", "delivery_shown", "is_stable", "row_of", "stages_of", "view_of"]

_SETTLED: Final = frozenset(state.lifecycle for state in SETTLED)


class Stage(msgspec.Struct, frozen=True):
    """One of the six steps; `events` are those that reach it."""

    name: str
    state: str
    proof: str
    boundary: str
    actor: str
    events: tuple[str, ...]


# A table is read down its columns.
# ruff: noqa: E501
# fmt: off
STAGES: Final = (
    Stage("accepted",     "no ledger state yet",  "intent id, idempotency key, tenant scope",        "API edge",      "svc_edge",     ("ingress.accepted",)),
    Stage("controlled",   "scope validated",      "policy version, input digest, rule results",      "policy engine", "svc_policy",   ("policy.accepted", "policy.review", "policy.denied")),
    Stage("ledgered",     "minor-unit entries",   "entry ids and entry hashes",                      "money core",    "svc_ledger",   ("ledger.reserved", "ledger.posted", "ledger.released", "ledger.reversal", "hold.captured", "hold.voided", "hold.expired")),
    Stage("routed",       "settlement pending",   "corridor decision, attempt list",                 "routing layer", "svc_routes",   ("provider.routed", "provider.failover", "provider.callback")),
    Stage("synchronized", "one state retained",   "signature, attempt count",                        "event runtime", "svc_events",   ("money_runtime.synchronized",)),
    Stage("evidenced",    "audit packet ready",   "packet digest, inclusion proof",                  "evidence layer", "svc_evidence", ("review.closed",)),
)
# fmt: on


def view_of(intent: IntentView) -> dict[str, Any]:
    """Return the whole intent as JSON-ready values."""
    records = [msgspec.json.decode(record) for record in intent.timeline]
    links = _chain(intent.timeline)
    first, last = records[0], records[-1]
    command = first["facts"]["command"]
    link = f"/runtime/intents/{first['intent_id']}"
    return {
        "id": intent.id,
        "intent_id": first["intent_id"],
        "status": last["to"],
        "step": last["step"],
        "kind": command["kind"],
        "amount": int(command["minor"]),
        "currency": command["currency"],
        "source": command["source"],
        "destination": command["destination"],
        "scope": command["scope"],
        "country": command.get("country"),
        "money_model": command["money_model"],
        "primitives": command["primitives"],
        "metadata": command["metadata"],
        **terms_of(records, intent.corrected_by),
        "created_by": first["actor"],
        "created_at": first["at"],
        "updated_at": last["at"],
        "trace_id": first["trace"],
        "version": last["sequence"],
        "reason": _reason(records),
        "ledger_state": _ledger_state(records),
        "event_stream": [_event(record, hashed) for record, hashed in zip(records, links, strict=True)],
        "audit_packet": _audit_packet(records, links, intent.leaves, f"{link}/evidence"),
        "stages": stages_of(records, bool(intent.deliveries)),
        "callbacks": [_callback_shown(callback) for callback in intent.callbacks],
        "deliveries": [delivery_shown(delivery) for delivery in intent.deliveries],
        "cases": intent.cases,
        "review": intent.review,
        "links": {"self": link, "evidence": f"{link}/evidence"},
    }


def row_of(intent: IntentRow) -> dict[str, Any]:
    """Return an intent as a list shows it: without history, which the intent itself has."""
    command, last = intent.command, intent.last
    state = State(last.state)
    return {
        "id": intent.id,
        "intent_id": intent.intent_id,
        "status": state.lifecycle,
        "step": state.step,
        "kind": command.kind,
        "amount": command.amount,
        "currency": command.currency,
        "source": command.source,
        "destination": command.destination,
        "scope": command.scope,
        "metadata": command.metadata,
        "created_by": intent.principal,
        "created_at": intent.created_at,
        "updated_at": last.at,
        "version": last.sequence,
        "links": {"self": f"/runtime/intents/{intent.intent_id}"},
    }


def is_stable(intent: IntentView) -> bool:
    """Whether nothing more happens without somebody: settled, in review, held until a date, or with an open case."""
    state = intent.last.state
    return (
        state in SETTLED or state in (State.REVIEW, State.HELD) or any(case.status == "open" for case in intent.cases)
    )


def delivery_shown(delivery: DeliveryView) -> dict[str, Any]:
    """Return a delivery as JSON-ready values; the payload is the JSON that is sent, with the same bytes on every try."""
    return {
        "id": delivery.id,
        "webhook_id": f"msg_{delivery.id}",
        "endpoint": delivery.endpoint,
        "intent": delivery.intent,
        "intent_id": msgspec.json.decode(delivery.body, type=_Payload).data.intent_id,
        "sequence": delivery.sequence,
        "event": delivery.event,
        "status": delivery.status,
        "created_at": delivery.created_at,
        "next_at": delivery.next_at,
        "attempts_made": delivery.attempts_made,
        "attempts": delivery.attempts,
        "payload": msgspec.Raw(delivery.body),
    }


def _callback_shown(callback: CallbackView) -> dict[str, Any]:
    """Return what a rail reported, by the digest that the records name; the bytes are in the packet."""
    return {
        "rail": callback.rail,
        "event_id": callback.event_id,
        "received_at": callback.received_at,
        "digest": callback.digest.hex(),
        "repeats": callback.repeats,
        "status": callback.status,
        "trust": callback.trust,
        "same_as": callback.same_as,
    }


class _PayloadData(msgspec.Struct):
    intent_id: str


class _Payload(msgspec.Struct):
    data: _PayloadData


def stages_of(records: Sequence[Mapping[str, Any]], has_deliveries: bool) -> list[dict[str, Any]]:
    """Return the timeline of six stages, each with the first event that reached it and the last one that told of it.

    With no matching endpoint there is nothing to deliver, so `synchronized` is reached when the lifecycle settles."""
    timeline = []
    for stage in STAGES:
        told = [record for record in records if record["event"] in stage.events]
        if stage.name == "synchronized" and not told and not has_deliveries:
            told = [record for record in records if record["to"] in _SETTLED][:1]
        reached = told[0] if told else None
        timeline.append(
            {
                "stage": stage.name,
                "reached": reached is not None,
                "reached_at": reached["at"] if reached else None,
                "sequence": reached["sequence"] if reached else None,
                "event": told[-1]["event"] if told else None,
                "state": stage.state,
                "proof": stage.proof,
                "boundary": stage.boundary,
                "actor": stage.actor,
            }
        )
    return timeline


def _chain(timeline: Sequence[bytes | msgspec.Raw]) -> list[bytes]:
    """Return the hash of each record, computed anew."""
    links, link = [], GENESIS
    for record in timeline:
        link = chain(link, bytes(record))
        links.append(link)
    return links


def _event(record: Mapping[str, Any], link: bytes) -> dict[str, Any]:
    names = ("sequence", "event", "from", "to", "step", "at", "actor", "cause", "facts")
    return {**{name: record[name] for name in names}, "hash": link.hex()}


def _ledger_state(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entries and what they add up to: held, posted and reversed."""
    entries: list[dict[str, Any]] = []
    held = posted = reversed_ = 0
    command = records[0]["facts"]["command"]
    fees: dict[str, Any] = {"version": None, "lines": []}
    fee_held = fee_posted = fee_back = 0
    for record in records:
        legs = record["facts"].get("entries") or ()
        fees = record["facts"].get("fees", fees)
        reversal = 0
        if command["kind"] in COMPOSED and legs:  # many postings that go by the amount of the intent
            way = legs[0]["posting"] in REVERSALS
            posted, reversal = int(command["minor"]), (int(legs[0]["posted"]) if len(entries) == 1 else posted) * way
        for entry in legs:
            if entry["posting"].startswith("fee"):
                fee_held += int(entry["pending"])
                if entry["posting"] == "fee_refund":
                    fee_back += int(entry["posted"])
                else:
                    fee_posted += int(entry["posted"])
            else:
                held += int(entry["pending"])
            if command["kind"] in COMPOSED:
                pass
            elif entry["posting"] in ("post", "book"):
                posted += int(entry["posted"])
            elif entry["posting"] in REVERSALS and entry["credit"] == command["source"]:
                reversal += int(entry["posted"])  # the last leg of each way back
            identity = f"{record['intent']}/{entry['ordinal']}"
            entries.append({"entry_id": identity, **entry, "sequence": record["sequence"], "at": record["at"]})
        reversed_ += reversal
    charged = {"held": str(fee_held), "posted": str(fee_posted), "given_back": str(fee_back), **fees}
    return {
        "held": str(held), "posted": str(posted), "reversed": str(reversed_), "fees": charged, "entries": entries,
    }  # fmt: skip


def _audit_packet(
    records: Sequence[Mapping[str, Any]], links: Sequence[bytes], stored: Sequence[LeafView], link: str
) -> dict[str, Any]:
    """Return whether the packet is sealed, over how many records, and where its leaf stands in the log."""
    closed = [(place, record) for place, record in enumerate(records) if record["event"] == "review.closed"]
    leaves = [{"index": leaf.index, **msgspec.json.decode(leaf.data)} for leaf in stored]
    packet = next((leaf for leaf in leaves if leaf["kind"] == "packet"), None)
    return {
        "sealed": bool(closed),
        "sealed_at": closed[0][1]["at"] if closed else None,
        "records": closed[0][1]["sequence"] if closed else None,
        "digest": links[closed[0][0]].hex() if closed else None,
        "leaf_index": packet["index"] if packet else None,
        "addenda": [{"leaf_index": leaf["index"], "records": leaf["records"], "digest": leaf["chain"]}
                    for leaf in leaves if leaf["kind"] == "addendum"],
        "evidence": link if packet else None,
    }  # fmt: skip


def _reason(records: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """Return the precise signature of a failure or a review that stands: the event and the code behind it."""
    if not records or records[-1]["to"] not in ("FAILED", "REVIEW"):
        return None
    for record in reversed(records):
        facts = record["facts"]
        if record["to"] not in ("FAILED", "REVIEW") or record["from"] == record["to"]:
            continue
        code = facts.get("code") or facts.get("reason") or ", ".join(facts.get("reasons") or ()) or record["event"]
        return {"event": record["event"], "code": code, "detail": facts.get("detail") or ""}
    return None
