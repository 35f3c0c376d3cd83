"""The auditor's own reading of what is known of the people in an intent, and what has to follow from it.

It knows parties as they stood in each version of what is set up, and the names of the list as plain sets of words; it
never compares names otherwise, so every counterparty of a run is either listed word for word or like nobody."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from zentra.bench.simulation.auditor_words import Violation
from zentra.bench.simulation.setting import LISTED
from zentra.runtime.compliance.diligence import Compliance
from zentra.runtime.compliance.states import PartyRef
from zentra.runtime.ports import Configuration

__all__ = ["compliance_due"]

_LISTED_WORDS = {frozenset(name.lower().replace(",", " ").split()) for entry in LISTED for name in entry.names}
_STILL_OPEN = ("not_started", "awaiting_documents", "pending_review", "expired")


def compliance_due(
    where: str,
    command: Mapping[str, Any],
    accounts: tuple[str, str],
    told: Any,
    rules: Compliance,
    configuration: Configuration,
    parties: Mapping[str, PartyRef | None],
    now: datetime,
) -> set[str]:
    """Return what the people in an intent ask for, of "denied", "kyc_state", "sanctions" and "list_fresh" (reviews).

    `accounts` are the ids behind its source and destination; `told` is what the record says was known, `parties`
    holds every account of the tenant that is guarded, with its party.
    Raises Violation where the record tells of other parties, lists or names than there were."""
    parties = {account: _at(now, party) for account, party in parties.items()}
    sides = [parties.get(account) for account in accounts]
    due: set[str] = set()
    leaves = command["kind"] in ("transfer", "payment")
    for side, account, party in zip(("source", "destination"), accounts, sides, strict=True):
        said = told[side]
        if party is not None and said != {"party": party.id, "kyc": party.kyc, "screening": party.screening}:
            raise Violation("R", f"{where} was decided on {said}, {side} was {party}")
        if party is None and said != _without_party(account, parties):
            raise Violation("R", f"{where} was decided on {said}, {side} has no party")
    besides = _besides(command, parties, told)
    if told.get("others", []) != besides:
        raise Violation("R", f"{where} was decided on {told.get('others')}, {besides} are in its legs")
    for other in besides:
        if other == "unknown":
            due |= {"kyc_state"} if rules.kyc_required else set()
        elif other["kyc"] == "denied" or other["screening"] == "true_match":
            due.add("denied")
        elif rules.kyc_required and other["kyc"] in _STILL_OPEN:
            due.add("kyc_state")
    for side, party in zip(("source", "destination"), sides, strict=True):
        if party is None:
            if rules.kyc_required and told[side] == "unknown" and (side == "source" or not leaves):
                due.add("kyc_state")
        elif party.kyc == "denied" or party.screening == "true_match":
            due.add("denied")
        elif rules.kyc_required and party.kyc in _STILL_OPEN:
            due.add("kyc_state")
    name = command.get("counterparty", {}).get("name")
    if name is None:
        if leaves:  # nobody of this tenant screens parties, so that there is one says nothing
            due.add("sanctions")
    elif frozenset(name.lower().replace(",", " ").split()) in _LISTED_WORDS:
        due.add("sanctions")
    if not configuration.lists or any(
        one.info.fetched_at < now - timedelta(hours=rules.list_max_age_hours) for one in configuration.lists.values()
    ):
        due.add("list_fresh")
    kept = [(one["name"], one["digest"]) for one in told.get("lists", ())]
    if kept != [(one.info.name, one.info.digest) for one in configuration.lists.values()]:
        raise Violation("R", f"{where} was decided by {kept}")
    return due


def _at(now: datetime, party: PartyRef | None) -> PartyRef | None:
    """Return a party as it was at a time: an approval is over at the moment that it names."""
    if party is None or party.kyc != "approved" or party.kyc_expires_at is None or now < party.kyc_expires_at:
        return party
    return PartyRef(party.id, "expired", party.screening)


def _besides(command: Mapping[str, Any], parties: Mapping[str, PartyRef | None], told: Any) -> list[Any]:
    """Return who is in the legs of a journal besides its source and destination, each once, as a record says it."""
    found: list[Any] = []
    for name in [leg[side] for leg in command.get("legs", ()) for side in ("source", "destination")]:
        party = parties.get(name)
        said: Any = _without_party(name, parties)
        if party is not None:
            said = {"party": party.id, "kyc": party.kyc, "screening": party.screening}
        if said != "system" and said not in (told["source"], told["destination"], *found):
            found.append(said)
    return found


def _without_party(account: str, parties: Mapping[str, PartyRef | None]) -> str:
    """Return what is said of an account that has no party: it is nobody's money, there is none, or none is named."""
    if not account:
        return "none"
    nobody = account in ("nobody", "nowhere") or account.startswith("virtual:")
    return "unknown" if account in parties or nobody else "system"
