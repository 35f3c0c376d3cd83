"""Parties as a tenant's people make and change them, under row security.

- The key, what it did and the answer are one commit, as everywhere; so are a change and its row of history.
- A name stands in the row of its party. Answers, history and cases hold ids, states and digests.
- Nobody decides on the identity, or on a match, of a party that they created, or that they amended since a person
  decided the same the last time. Taking back a denial or a true match is for the same people.
- Whoever is amended may be somebody else: an approval is for review again, and the party is screened again. What was
  cleared for an old name is not for a new one. A denial and a true match stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

import asyncpg
import msgspec
from msgspec import Struct

from zentra.runtime.compliance.matching import CUTOFF
from zentra.runtime.compliance.parties import Finding
from zentra.runtime.compliance.states import KYC_MOVES, Kyc, Screening, sandbox_states
from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.storage.intake.commands import KeyedAnswer, once
from zentra.storage.pool import Connection, Pool
from zentra.storage.screening import SCREENER, SCREENING_CASE, open_screening_case

__all__ = [
    "KycDecision",
    "MatchWord",
    "NewParty",
    "amend_party",
    "create_party",
    "decide_kyc",
    "rescreen_party",
    "resolve_match",
]


class NewParty(Struct, frozen=True, kw_only=True):
    """A party to create."""

    party_id: str
    kind: str
    legal_name: str
    created_by: str
    aliases: tuple[str, ...] = ()
    born: date | None = None
    countries: tuple[str, ...] = ()
    identifiers: Mapping[str, str] = {}


class KycDecision(Struct, frozen=True, kw_only=True):
    """An operator's word on the identity of a party."""

    party_id: str
    state: Kyc
    actor: str
    reason: str
    expires_at: datetime | None = None


class MatchWord(Struct, frozen=True):
    """An operator's word on a possible match; `command` is the id that it is known by."""

    case: str
    command: str
    actor: str
    role: str
    resolution: Screening
    reason: str


async def create_party(pool: Pool, keyed: KeyedAnswer, party: NewParty, mode: str) -> StoredKey | None:
    """Create the party and return None, or what the key has stored already.

    In a test tenant a sandbox name forces its states. Raises Refusal `party_exists`; Unavailable and DataError as the
    store does."""
    forced = sandbox_states(mode, party.legal_name)
    kyc, screening = forced or (Kyc.NOT_STARTED, Screening.NOT_SCREENED)

    async def write(connection: Connection) -> None:
        try:
            await connection.execute(
                _PARTY, keyed.tenant, party.party_id, party.kind, party.legal_name, list(party.aliases), party.born,
                list(party.countries), msgspec.json.encode(party.identifiers).decode(), kyc, screening,
                forced is not None, party.created_by,
            )  # fmt: skip
        except asyncpg.UniqueViolationError as error:
            raise Refusal("party_exists", f"{party.party_id} exists already; choose another id") from error
        reason = "created" if forced is None else "created with a name of the sandbox"
        change = _Change(
            keyed.tenant, party.party_id, 1, "created", None, f"{kyc}/{screening}", party.created_by, reason
        )
        await _changed(connection, change)
        if screening is Screening.POSSIBLE_MATCH:
            found = Finding(screening, "", 1000, (), "forced by a name of the sandbox")
            await open_screening_case(connection, keyed.tenant, party.party_id, party.created_by, found, CUTOFF)

    return await once(pool, keyed, write)


async def amend_party(
    pool: Pool, keyed: KeyedAnswer, party_id: str, actor: str, reason: str, changes: Mapping[str, Any]
) -> StoredKey | None:
    """Change what is said of a party and return None, or what the key has stored already.

    `changes` holds columns of `NewParty`, without the kind: all of them say who somebody is. Raises Refusal
    `not_found`."""

    async def write(connection: Connection) -> None:
        row = await _locked(connection, keyed.tenant, party_id)
        told = {**changes}
        if "identifiers" in told:
            told["identifiers"] = msgspec.json.encode(told["identifiers"]).decode()
        before, after = Screening(row["screening_state"]), Screening.NOT_SCREENED
        if before is Screening.TRUE_MATCH:
            after = before
        else:
            told["forced"] = False
        told["screened_by"] = None
        known = now_known = Kyc(row["kyc_state"])
        if known is Kyc.APPROVED:
            now_known = told["kyc_state"] = Kyc.PENDING_REVIEW
            told["kyc_expires_at"] = None
        columns = ", ".join(f"{name} = ${place}" for place, name in enumerate(told, 4))
        await connection.execute(
            f"update parties set screening_state = $3, version = version + 1, updated_at = now(), {columns}"  # noqa: S608
            " where tenant = $1 and party_id = $2",
            keyed.tenant, party_id, after, *[list(v) if isinstance(v, tuple) else v for v in told.values()],
        )  # fmt: skip
        detail = {
            "fields": sorted(changes), "kyc": [str(known), str(now_known)], "screening": [str(before), str(after)],
        }  # fmt: skip
        change = _Change(
            keyed.tenant,
            party_id,
            row["version"] + 1,
            "amended",
            None,
            ", ".join(sorted(changes)),
            actor,
            reason,
            detail,
        )
        await _changed(connection, change)

    return await once(pool, keyed, write)


async def decide_kyc(pool: Pool, keyed: KeyedAnswer, decision: KycDecision) -> StoredKey | None:
    """Move the KYC state of a party and return None, or what the key has stored already.

    When this returns, no decision that did not know of it can be committed any more. Raises Refusal `not_found`,
    `self_approval`, `kyc_move_refused`, `expires_at_in_past`."""

    async def write(connection: Connection) -> None:
        row = await _locked(connection, keyed.tenant, decision.party_id)
        before = Kyc(row["kyc_state"])
        if before is Kyc.DENIED or decision.state in (Kyc.APPROVED, Kyc.DENIED):
            await _four_eyes(connection, keyed.tenant, decision.party_id, row, decision.actor, "kyc")
        if decision.state not in KYC_MOVES[before]:
            raise Refusal("kyc_move_refused", f"a party that is {before} does not become {decision.state}")
        until = decision.expires_at if decision.state is Kyc.APPROVED else None
        if until is not None and not await connection.fetchval("select $1 > now()", until):
            raise Refusal("expires_at_in_past", "the approval would have run out already")
        await connection.execute(
            "update parties set kyc_state = $3, kyc_expires_at = $4, version = version + 1, updated_at = now()"
            " where tenant = $1 and party_id = $2",
            keyed.tenant, decision.party_id, decision.state, until,
        )  # fmt: skip
        change = _Change(
            keyed.tenant, decision.party_id, row["version"] + 1, "kyc", before, decision.state, decision.actor,
            decision.reason,
        )  # fmt: skip
        await _changed(connection, change)

    return await once(pool, keyed, write)


async def rescreen_party(pool: Pool, keyed: KeyedAnswer, party_id: str, actor: str, reason: str) -> StoredKey | None:
    """Have a party screened anew, a true match included; return None, or what the key has stored already.

    Raises Refusal `not_found`, `self_approval`."""

    async def write(connection: Connection) -> None:
        row = await _locked(connection, keyed.tenant, party_id)
        await _four_eyes(connection, keyed.tenant, party_id, row, actor, "screening")
        await _screened(connection, keyed.tenant, party_id, row, Screening.NOT_SCREENED, actor, reason, {})

    return await once(pool, keyed, write)


async def resolve_match(pool: Pool, keyed: KeyedAnswer, word: MatchWord) -> StoredKey | None:
    """End a case of a possible match as `true_match` or `false_positive`; return None, or what the key has stored.

    A false positive clears every pair of the case: it stays cleared until the name or the entry changes. Raises
    Refusal `not_found`, `case_not_open`, `self_approval`."""

    case, actor, resolution, reason = word.case, word.actor, word.resolution, word.reason

    async def write(connection: Connection) -> None:
        found = await connection.fetchrow(
            "select status, detail from cases where tenant = $1 and id = $2 and kind = $3 for update",
            keyed.tenant, case, SCREENING_CASE,
        )  # fmt: skip
        if found is None:
            raise Refusal("not_found", "there is no such case")
        if found["status"] != "open":
            raise Refusal("case_not_open", "somebody resolved it already")
        detail = msgspec.json.decode(found["detail"])
        row = await _locked(connection, keyed.tenant, detail["party"])
        await _four_eyes(connection, keyed.tenant, detail["party"], row, actor, "screening")
        said = {"resolution": str(resolution), "reason": reason}
        await connection.execute(
            "insert into commands (id, tenant, kind, subject, principal, role, body)"
            " values ($1, $2, 'resolve_case', $3, $4, $5, $6)",
            word.command, keyed.tenant, case, actor, word.role, msgspec.json.encode({"case": case, **said}),
        )  # fmt: skip
        await connection.execute(
            "insert into command_outcomes (command, tenant, accepted, code, decided_at)"
            " values ($1, $2, true, 'done', now())",
            word.command, keyed.tenant,
        )  # fmt: skip
        await connection.execute(
            "update cases set status = 'resolved', operator = $3, resolution = $4, resolved_at = now()"
            " where tenant = $1 and id = $2",
            keyed.tenant, case, actor, msgspec.json.encode(said).decode(),
        )  # fmt: skip
        if resolution is Screening.FALSE_POSITIVE:
            for hit in detail["hits"]:
                await connection.execute(
                    _CLEARED, keyed.tenant, detail["name_digest"], hit["list"], hit["entry"], hit["digest"], case,
                    actor, reason,
                )  # fmt: skip
        told = {"case": case, "score": detail["score"]}
        await _screened(connection, keyed.tenant, detail["party"], row, resolution, actor, reason, told)

    return await once(pool, keyed, write)


class _Change(Struct, frozen=True):
    tenant: str
    party_id: str
    number: int
    what: str
    before: str | None
    after: str
    actor: str
    reason: str
    detail: Mapping[str, Any] = {}


async def _changed(connection: Connection, change: _Change) -> None:
    await connection.execute(
        "insert into party_changes (tenant, party_id, number, what, before, after, actor, reason, detail)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        change.tenant, change.party_id, change.number, change.what, change.before, change.after, change.actor,
        change.reason, msgspec.json.encode(change.detail).decode(),
    )  # fmt: skip


async def _locked(connection: Connection, tenant: str, party_id: str) -> asyncpg.Record:
    row = await connection.fetchrow(
        "select version, kyc_state, screening_state, created_by from parties where tenant = $1 and party_id = $2"
        " for update",
        tenant,
        party_id,
    )
    if row is None:
        raise Refusal("not_found", "there is no such party")
    return row


async def _four_eyes(
    connection: Connection, tenant: str, party_id: str, row: asyncpg.Record, actor: str, what: str
) -> None:
    """Raise Refusal `self_approval` where a decision on a party's `what` is not for this actor.

    The row of the party is locked, so nobody amends it meanwhile."""
    if row["created_by"] == actor or await connection.fetchval(_AMENDED, tenant, party_id, actor, what, SCREENER):
        raise Refusal("self_approval", "whoever created or amended a party does not decide on it")


async def _screened(
    connection: Connection,
    tenant: str,
    party_id: str,
    row: asyncpg.Record,
    after: Screening,
    actor: str,
    reason: str,
    detail: Mapping[str, Any],
) -> None:
    """Give a party a screening state by a person's word; what follows from it is found by the next screening."""
    await connection.execute(
        "update parties set screening_state = $3, screened_by = null, forced = forced and $3 <> 'not_screened',"
        " version = version + 1, updated_at = now() where tenant = $1 and party_id = $2",
        tenant, party_id, after,
    )  # fmt: skip
    before = row["screening_state"]
    await _changed(
        connection, _Change(tenant, party_id, row["version"] + 1, "screening", before, after, actor, reason, detail)
    )


_PARTY: Final = """
insert into parties (tenant, party_id, kind, legal_name, aliases, born, countries, identifiers, kyc_state,
                     screening_state, forced, created_by)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
_AMENDED: Final = """
select exists (
    select from party_changes where tenant = $1 and party_id = $2 and what = 'amended' and actor = $3
    and number > coalesce((
        select max(number) from party_changes where tenant = $1 and party_id = $2 and what = $4
        and actor <> $5
        and (before = 'denied' or after in ('approved', 'denied', 'true_match', 'false_positive'))
    ), 0)
)
"""
_CLEARED: Final = """
insert into cleared_pairs (tenant, name_digest, list, entry, entry_digest, case_id, cleared_by, reason)
values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing
"""
