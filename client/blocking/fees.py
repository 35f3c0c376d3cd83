"""What is charged, and what a movement would cost. Methods raise APIError, and ValueError for what cannot be sent.

Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zentra.client import calls
from zentra.client.blocking.transport import Pages, Transport
from zentra.client.models import FeeSchedule, Quote

__all__ = ["Fees"]


class Fees:
    """The tenant's fees: quotes, and the schedule in its versions."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def quote(
        self,
        *,
        amount: int,
        currency: str,
        source: str,
        destination: str,
        kind: str = "transfer",
        country: str | None = None,
    ) -> Quote:
        """Return what such an intent would be charged now; make it with `fee_quote=quote.digest` to agree to just that.

        Raises APIError and ValueError."""
        return self._transport.send(
            calls.quote(
                amount=amount,
                currency=currency,
                source=source,
                destination=destination,
                kind=kind,
                country=country,
            )
        )

    def list(self, *, page_size: int | None = None) -> Pages[FeeSchedule]:
        """Return the versions of the schedule, the newest first; that one is in force."""
        return Pages(self._transport, calls.list_fee_schedules(page_size))

    def get(self, version: int) -> FeeSchedule:
        """Return one version. Raises APIError."""
        return self._transport.send(calls.get_fee_schedule(version))

    def put(self, rules: Sequence[Mapping[str, object]], *, idempotency_key: str | None = None) -> FeeSchedule:
        """Put rules in force as a new version, and return it; the rules in force once more are that version.

        Raises APIError (UnprocessableEntityError naming every rule that makes no sense) and ValueError."""
        return self._transport.send(calls.put_fee_schedule(rules, idempotency_key))
