"""Parties and the lists that they are held against. Every method may raise APIError and ValueError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from zentra.client import people
from zentra.client.asynchronous.transport import AsyncPages, AsyncTransport
from zentra.client.calls import Time
from zentra.client.people import Party, PartyChange, PartyDone, ScreeningList

__all__ = ["AsyncParties", "AsyncScreening"]


class AsyncParties:
    """The people and organisations behind accounts."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        *,
        party_id: str,
        kind: str,
        legal_name: str,
        aliases: Sequence[str] | None = None,
        born: date | str | None = None,
        countries: Sequence[str] | None = None,
        identifiers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Party:
        """Create a `person` or an `organisation`; the answer holds no names."""
        return await self._transport.send(
            people.create_party(
                party_id=party_id, kind=kind, legal_name=legal_name, aliases=aliases, born=born, countries=countries,
                identifiers=identifiers, idempotency_key=idempotency_key,
            )
        )  # fmt: skip

    async def get(self, id: str) -> Party:
        """Return a party; its names for a key that may see names."""
        return await self._transport.send(people.get_party(id))

    def list(
        self,
        *,
        kind: str | None = None,
        kyc_state: str | None = None,
        screening_state: str | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> AsyncPages[Party]:
        """Return the parties that fit, newest first."""
        filters = {
            "kind": kind, "kyc_state": kyc_state, "screening_state": screening_state,
            "created_from": created_from, "created_before": created_before,
        }  # fmt: skip
        return AsyncPages(self._transport, people.list_parties(page_size, filters))

    async def history(self, id: str) -> tuple[PartyChange, ...]:
        """Return every change of a party, the latest first."""
        return await self._transport.send(people.party_history(id))

    async def amend(
        self,
        id: str,
        *,
        reason: str,
        legal_name: str | None = None,
        aliases: Sequence[str] | None = None,
        born: date | str | None = None,
        countries: Sequence[str] | None = None,
        identifiers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> PartyDone:
        """Change what is given of a party; its identity is for review again, and it is screened anew."""
        return await self._transport.send(
            people.amend_party(
                id, reason=reason, legal_name=legal_name, aliases=aliases, born=born, countries=countries,
                identifiers=identifiers, idempotency_key=idempotency_key,
            )
        )  # fmt: skip

    async def decide_kyc(
        self,
        id: str,
        state: str,
        *,
        reason: str,
        expires_at: Time | None = None,
        idempotency_key: str | None = None,
    ) -> PartyDone:
        """Move the KYC state of a party. Raises PermissionDeniedError `self_approval` for whoever created it, and
        ConflictError `kyc_move_refused`."""
        return await self._transport.send(people.decide_kyc(id, state, reason, expires_at, idempotency_key))

    async def rescreen(self, id: str, *, reason: str, idempotency_key: str | None = None) -> PartyDone:
        """Have a party screened anew, a true match included."""
        return await self._transport.send(people.rescreen_party(id, reason, idempotency_key))


class AsyncScreening:
    """The lists that names are held against."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def lists(self) -> tuple[ScreeningList, ...]:
        """Return the lists in force."""
        return await self._transport.send(people.list_screening_lists())
