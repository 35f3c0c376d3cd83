"""What answers about parties and lists look like, as types; `shapes` says how these are used."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from msgspec import Struct

from zentra.gateway.description.shapes import SelfLink
from zentra.runtime.compliance.states import Kyc, Screening
from zentra.storage.reads.parties import ListView, PartyChangeView

__all__ = ["Lists", "Parties", "Party", "PartyCreated", "PartyDone", "PartyHistory"]


class PartyCreated(Struct, frozen=True, kw_only=True):
    """A party that was created: the same bytes for ever under its key, and no name in them."""

    party_id: str
    kind: Literal["person", "organisation"]
    created_by: str
    links: SelfLink


class Party(Struct, frozen=True, kw_only=True):
    """A party; what says who it is, is null for whoever may not see names."""

    party_id: str
    kind: Literal["person", "organisation"]
    legal_name: str | None
    aliases: list[str] | None
    born: date | None
    countries: list[str]
    identifiers: dict[str, str] | None
    kyc_state: Kyc
    kyc_expires_at: datetime | None
    screening_state: Screening
    screened_at: datetime | None
    version: int
    created_by: str
    created_at: datetime
    updated_at: datetime
    links: SelfLink


class PartyDone(Struct, frozen=True, kw_only=True):
    """What was done to a party, and the state that it has from now on."""

    party_id: str
    done: Literal["amend", "kyc", "rescreen"]
    state: str | None
    links: SelfLink


class PartyHistory(Struct, frozen=True):
    """Every change of a party, the latest first."""

    data: list[PartyChangeView]


class Parties(Struct, frozen=True):
    """Parties, newest first."""

    data: list[Party]
    has_more: bool
    next_cursor: str | None


class Lists(Struct, frozen=True):
    """The active lists of the installation."""

    data: list[ListView]
