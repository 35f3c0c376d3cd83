"""An intent as its owner sees it: a pure function of its records and of the rows beside them.

Everything about money and time is read from the sealed records, so this view cannot disagree with the evidence. Amounts
of the ledger are strings of digits; the amount of the intent is the JSON integer that the client may send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from zentra.runtime.vocabulary import SETTLED

__all__ = ["STAGES", "IntentRows", "is_stable", "stages_of", "view_of"]

_SETTLED: Final = frozenset(state.lifecycle for state in SETTLED)


class IntentRows(msgspec.Struct, frozen=True, kw_only=True):
    """What the store holds of an intent: `records` are (record, hash) by sequence, `leaves` (index, data) by index."""

    id: str
    records: Sequence[tuple[bytes, bytes]]
    leaves: Sequence[tuple[int, bytes]] = ()
    deliveries: Sequence[Mapping[str, Any]] = ()
    cases: Sequence[Mapping[str, Any]] = ()
    review: Mapping[str, Any] | None = None


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
    Stage("ledgered",     "minor-unit entries",   "entry ids and entry hashes",                      "money core",    "svc_ledger",   ("ledger.reserved", "ledger.posted", "ledger.released", "ledger.reversal")),
    Stage("routed",       "settlement pending",   "corridor decision, attempt list",                 "routing layer", "svc_routes",   ("provider.routed", "provider.failover", "provider.callback")),
    Stage("synchronized", "one state retained",   "signature, attempt count",                        "event runtime", "svc_events",   ("money_runtime.synchronized",)),
    Stage("evidenced",    "audit packet ready",   "packet digest, inclusion proof",                  "evidence layer", "svc_evidence", ("review.closed",)),
)
# fmt: on


def view_of(rows: IntentRows) -> dict[str, Any]:
    """Return the whole intent as JSON-ready values."""
    records = [msgspec.json.decode(record) for record, _ in rows.records]
    first, last = records[0], records[-1]
    command = first["facts"]["command"]
    link = f"/runtime/intents/{first['intent_id']}"
    return {
        "id": rows.id,
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
        "created_by": first["actor"],
        "created_at": first["at"],
        "updated_at": last["at"],
        "trace_id": first["trace"],
        "version": last["sequence"],
        "reason": _reason(records),
        "ledger_state": _ledger_state(records),
        "event_stream": [_event(record, link) for record, (_, link) in zip(records, rows.records, strict=True)],
        "audit_packet": _audit_packet(records, rows, f"{link}/evidence"),
        "stages": stages_of(records, bool(rows.deliveries)),
        "deliveries": rows.deliveries,
        "cases": rows.cases,
        "review": rows.review,
        "links": {"self": link, "evidence": f"{link}/evidence"},
    }


def is_stable(view: Mapping[str, Any]) -> bool:
    """Whether nothing more happens without somebody: settled, in review, or with an open case."""
    return (
        view["status"] in _SETTLED
        or view["status"] == "REVIEW"
        or any(case["status"] == "open" for case in view["cases"])
    )


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


def _event(record: Mapping[str, Any], link: bytes) -> dict[str, Any]:
    names = ("sequence", "event", "from", "to", "step", "at", "actor", "cause", "facts")
    return {**{name: record[name] for name in names}, "hash": link.hex()}


def _ledger_state(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entries and what they add up to: held, posted and reversed."""
    entries = []
    held = posted = reversed_ = 0
    for record in records:
        legs = record["facts"].get("entries") or ()
        reversal = 0
        for entry in legs:
            held += int(entry["pending"])
            if entry["posting"] in ("post", "book"):
                posted += int(entry["posted"])
            elif entry["posting"] == "reversal":
                reversal = int(entry["posted"])  # every leg of one reversal carries the same amount
            identity = f"{record['intent']}/{entry['ordinal']}"
            entries.append({"entry_id": identity, **entry, "sequence": record["sequence"], "at": record["at"]})
        reversed_ += reversal
    return {"held": str(held), "posted": str(posted), "reversed": str(reversed_), "entries": entries}


def _audit_packet(records: Sequence[Mapping[str, Any]], rows: IntentRows, link: str) -> dict[str, Any]:
    """Return whether the packet is sealed, over how many records, and where its leaf stands in the log."""
    closed = [(place, record) for place, record in enumerate(records) if record["event"] == "review.closed"]
    leaves = [{"index": index, **msgspec.json.decode(data)} for index, data in rows.leaves]
    packet = next((leaf for leaf in leaves if leaf["kind"] == "packet"), None)
    return {
        "sealed": bool(closed),
        "sealed_at": closed[0][1]["at"] if closed else None,
        "records": closed[0][1]["sequence"] if closed else None,
        "digest": rows.records[closed[0][0]][1].hex() if closed else None,
        "leaf_index": packet["index"] if packet else None,
        "addenda": [{"leaf_index": leaf["index"], "records": leaf["records"], "digest": leaf["chain"]}
                    for leaf in leaves if leaf["kind"] == "addendum"],
        "evidence": link if packet else None,
    }  # fmt: skip


def _reason(records: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """Return the precise signature of a failure or a review: the event and the code behind it."""
    for record in reversed(records):
        facts = record["facts"]
        if record["to"] not in ("FAILED", "REVIEW") or record["from"] == record["to"]:
            continue
        code = facts.get("code") or facts.get("reason") or ", ".join(facts.get("reasons") or ()) or record["event"]
        return {"event": record["event"], "code": code, "detail": facts.get("detail") or ""}
    return None
