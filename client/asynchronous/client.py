"""`AsyncZentra`, the client of one tenant's API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import httpx2

from zentra.client.answers import SEEN, Answer, RawResponse, raw_response
from zentra.client.asynchronous.accounts import AsyncAccounts, AsyncBooks, AsyncDeposits
from zentra.client.asynchronous.deciding import AsyncApprovals, AsyncReviews
from zentra.client.asynchronous.deliveries import AsyncWebhooks
from zentra.client.asynchronous.fees import AsyncFees
from zentra.client.asynchronous.holding import AsyncHolds
from zentra.client.asynchronous.journals import AsyncConversions, AsyncJournals, AsyncRates
from zentra.client.asynchronous.money import (
    AsyncCommands,
    AsyncEvents,
    AsyncIntents,
    AsyncPayments,
    AsyncTransfers,
)
from zentra.client.asynchronous.parties import AsyncParties, AsyncScreening
from zentra.client.asynchronous.policies import AsyncPolicies
from zentra.client.asynchronous.routes import AsyncRails, AsyncRoutes
from zentra.client.asynchronous.transport import AsyncTransport
from zentra.client.asynchronous.work import (
    AsyncCases,
    AsyncDenials,
    AsyncEvidence,
    AsyncMeta,
)
from zentra.client.core import Settings

__all__ = ["AsyncRuntime", "AsyncZentra"]

P = ParamSpec("P")
T = TypeVar("T")


class AsyncRuntime:
    """What is below `/runtime`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self.intents = AsyncIntents(transport)
        self.commands = AsyncCommands(transport)
        self.events = AsyncEvents(transport)


class AsyncZentra:
    """A client of one tenant's API; a context manager, or `aclose` it yourself.

    `AsyncZentra` belongs to one asyncio event loop, `Zentra` may be shared by threads."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | Sequence[str] | None = None,
        timeout: float = 30.0,
        max_retries: int = 2,
        total_timeout: float = 120.0,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        """`api_key` and `base_url` come from ZENTRA_API_KEY and ZENTRA_BASE_URL where they are not given.

        Of several base URLs the one that answered last is used; the next one is tried at once where it fails.
        `timeout` is for one attempt and `total_timeout` for all of a call with the pauses between them, both in seconds
        and without what the server is asked to wait. An `http_client` of yours stays open when this is closed. Raises
        ZentraError without a key or URL, and ValueError for a senseless one."""
        settings = Settings(api_key, base_url, timeout, max_retries, total_timeout)
        self._use(AsyncTransport(settings, http_client))

    def _use(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self.runtime = AsyncRuntime(transport)
        self.transfers = AsyncTransfers(transport)
        self.payments = AsyncPayments(transport)
        self.holds = AsyncHolds(transport)
        self.journals = AsyncJournals(transport)
        self.conversions = AsyncConversions(transport)
        self.rates = AsyncRates(transport)
        self.accounts = AsyncAccounts(transport)
        self.books = AsyncBooks(transport)
        self.deposits = AsyncDeposits(transport)
        self.fees = AsyncFees(transport)
        self.policies = AsyncPolicies(transport)
        self.routes = AsyncRoutes(transport)
        self.rails = AsyncRails(transport)
        self.reviews = AsyncReviews(transport)
        self.approvals = AsyncApprovals(transport)
        self.cases = AsyncCases(transport)
        self.denials = AsyncDenials(transport)
        self.parties = AsyncParties(transport)
        self.screening = AsyncScreening(transport)
        self.webhooks = AsyncWebhooks(transport)
        self.evidence = AsyncEvidence(transport)
        self.meta = AsyncMeta(transport)

    def with_options(
        self, *, timeout: float | None = None, max_retries: int | None = None, total_timeout: float | None = None
    ) -> AsyncZentra:
        """Return a client with other limits over the same connections, which this one closes.

        Raises ValueError for what makes no sense."""
        other = object.__new__(type(self))
        other._use(self._transport.changed(self._transport.settings.changed(timeout, max_retries, total_timeout)))
        return other

    async def with_raw_response(
        self, method: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> RawResponse[T]:
        """Call a method of this client and return its value with status and headers of the last answer to it.

        `with_raw_response(client.runtime.intents.get, "order-1")`. Raises what the method raises, and TypeError for one
        that makes no request."""
        seen: list[Answer] = []
        token = SEEN.set(seen)
        try:
            return raw_response(await method(*args, **kwargs), seen)
        finally:
            SEEN.reset(token)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncZentra({self._transport.settings!r})"
