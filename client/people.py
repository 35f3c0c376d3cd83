"""Parties: what the API answers about them, and the calls; both clients send these and nothing else.

What says who a party is (names, birth, identifiers) is None for a key that may not see names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from msgspec import Struct

from zentra.client.answers import Answer
from zentra.client.calls import Filters, PageCall, pages
from zentra.client.core import Call, body_call, get_call, json_of
from zentra.client.models import Links, Page

__all__ = [
    "Party",
    "PartyChange",
    "PartyDone",
    "ScreeningList",
    "amend_party",
    "create_party",
    "decide_kyc",
    "get_party",
    "list_parties",
    "list_screening_lists",
    "party_history",
    "rescreen_party",
]


class Party(Struct, frozen=True, kw_only=True):
    """A person or organisation behind accounts; its states are None in the answer that created it."""

    party_id: str
    kind: str
    legal_name: str | None = None
    aliases: tuple[str, ...] | None = None
    born: date | None = None
    countries: tuple[str, ...] = ()
    identifiers: dict[str, str] | None = None
    kyc_state: str | None = None
    kyc_expires_at: datetime | None = None
    screening_state: str | None = None
    screened_at: datetime | None = None
    version: int = 1
    created_by: str
    created_at: datetime | None = None
    updated_at: datetime | None = None
    links: Links = Links()


class PartyChange(Struct, frozen=True, kw_only=True):
    """One change of a party: what, from what to what, by whom and why."""

    number: int
    what: str
    before: str | None = None
    after: str
    actor: str
    reason: str
    detail: dict[str, Any] = {}
    at: datetime


class PartyDone(Struct, frozen=True, kw_only=True):
    """What was done to a party, and the state that it has from now on."""

    party_id: str
    done: str
    state: str | None = None
    links: Links = Links()


class ScreeningList(Struct, frozen=True, kw_only=True):
    """A list that names are held against, in the version that is in force."""

    name: str
    version: int
    digest: str
    fetched_at: datetime
    loaded_at: datetime
    entries: int
    names: int


class _Changes(Struct, frozen=True):
    data: tuple[PartyChange, ...]


class _Lists(Struct, frozen=True):
    data: tuple[ScreeningList, ...]


_party: Final = json_of(Party)
_parties: Final = json_of(Page[Party])
_done: Final = json_of(PartyDone)
_changes: Final = json_of(_Changes)
_lists: Final = json_of(_Lists)


def _history(answer: Answer) -> tuple[PartyChange, ...]:
    return _changes(answer).data


def _in_force(answer: Answer) -> tuple[ScreeningList, ...]:
    return _lists(answer).data


def create_party(
    *,
    party_id: str,
    kind: str,
    legal_name: str,
    aliases: Sequence[str] | None,
    born: date | str | None,
    countries: Sequence[str] | None,
    identifiers: Mapping[str, str] | None,
    idempotency_key: str | None,
) -> Call[Party]:
    """Create a party."""
    said = _said(legal_name, aliases, born, countries, identifiers)
    body = {"party_id": party_id, "kind": kind, **said}
    return body_call(_party, "parties", body=body, idempotency_key=idempotency_key)


def amend_party(
    id: str,
    *,
    reason: str,
    legal_name: str | None,
    aliases: Sequence[str] | None,
    born: date | str | None,
    countries: Sequence[str] | None,
    identifiers: Mapping[str, str] | None,
    idempotency_key: str | None,
) -> Call[PartyDone]:
    """Change what is said of a party."""
    body = {"reason": reason, **_said(legal_name, aliases, born, countries, identifiers)}
    return body_call(_done, "parties", id, "amend", body=body, idempotency_key=idempotency_key)


def _said(
    legal_name: str | None,
    aliases: Sequence[str] | None,
    born: date | str | None,
    countries: Sequence[str] | None,
    identifiers: Mapping[str, str] | None,
) -> dict[str, object]:
    return {
        "legal_name": legal_name, "aliases": None if aliases is None else list(aliases),
        "born": None if born is None else str(born), "countries": None if countries is None else list(countries),
        "identifiers": None if identifiers is None else dict(identifiers),
    }  # fmt: skip


def get_party(id: str) -> Call[Party]:
    """Look at a party."""
    return get_call(_party, "parties", id)


def list_parties(page_size: int | None, filters: Filters) -> PageCall[Party]:
    """List parties."""
    return pages(_parties, "parties", page_size=page_size, filters=filters)


def party_history(id: str) -> Call[tuple[PartyChange, ...]]:
    """Look at every change of a party."""
    return get_call(_history, "parties", id, "history")


def decide_kyc(
    id: str, state: str, reason: str, expires_at: datetime | str | None, idempotency_key: str | None
) -> Call[PartyDone]:
    """Move the KYC state of a party. Raises ValueError for a time without its offset."""
    if isinstance(expires_at, datetime):
        if expires_at.tzinfo is None:
            raise ValueError("a time has its offset: datetime(..., tzinfo=UTC)")
        expires_at = expires_at.isoformat()
    body = {"state": state, "reason": reason, "expires_at": expires_at}
    return body_call(_done, "parties", id, "kyc", body=body, idempotency_key=idempotency_key)


def rescreen_party(id: str, reason: str, idempotency_key: str | None) -> Call[PartyDone]:
    """Have a party screened anew."""
    return body_call(_done, "parties", id, "rescreen", body={"reason": reason}, idempotency_key=idempotency_key)


def list_screening_lists() -> Call[tuple[ScreeningList, ...]]:
    """Ask which lists are in force."""
    return get_call(_in_force, "screening", "lists")
