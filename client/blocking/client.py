"""`Zentra`, the client of one tenant's API.

Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import httpx2

from zentra.client.answers import SEEN, Answer, RawResponse, raw_response
from zentra.client.blocking.accounts import Accounts, Books, Deposits
from zentra.client.blocking.deciding import Approvals, Reviews
from zentra.client.blocking.deliveries import Webhooks
from zentra.client.blocking.fees import Fees
from zentra.client.blocking.holding import Holds
from zentra.client.blocking.journals import Conversions, Journals, Rates
from zentra.client.blocking.money import (
    Commands,
    Events,
    Intents,
    Payments,
    Transfers,
)
from zentra.client.blocking.parties import Parties, Screening
from zentra.client.blocking.policies import Policies
from zentra.client.blocking.routes import Rails, Routes
from zentra.client.blocking.transport import Transport
from zentra.client.blocking.work import (
    Cases,
    Denials,
    Evidence,
    Meta,
)
from zentra.client.core import Settings

__all__ = ["Runtime", "Zentra"]

P = ParamSpec("P")
T = TypeVar("T")


class Runtime:
    """What is below `/runtime`."""

    def __init__(self, transport: Transport) -> None:
        self.intents = Intents(transport)
        self.commands = Commands(transport)
        self.events = Events(transport)


class Zentra:
    """A client of one tenant's API; a context manager, or `close` it yourself.

    `AsyncZentra` belongs to one asyncio event loop, `Zentra` may be shared by threads."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | Sequence[str] | None = None,
        timeout: float = 30.0,
        max_retries: int = 2,
        total_timeout: float = 120.0,
        http_client: httpx2.Client | None = None,
    ) -> None:
        """`api_key` and `base_url` come from ZENTRA_API_KEY and ZENTRA_BASE_URL where they are not given.

        Of several base URLs the one that answered last is used; the next one is tried at once where it fails.
        `timeout` is for one attempt and `total_timeout` for all of a call with the pauses between them, both in seconds
        and without what the server is asked to wait. An `http_client` of yours stays open when this is closed. Raises
        ZentraError without a key or URL, and ValueError for a senseless one."""
        settings = Settings(api_key, base_url, timeout, max_retries, total_timeout)
        self._use(Transport(settings, http_client))

    def _use(self, transport: Transport) -> None:
        self._transport = transport
        self.runtime = Runtime(transport)
        self.transfers = Transfers(transport)
        self.payments = Payments(transport)
        self.holds = Holds(transport)
        self.journals = Journals(transport)
        self.conversions = Conversions(transport)
        self.rates = Rates(transport)
        self.accounts = Accounts(transport)
        self.books = Books(transport)
        self.deposits = Deposits(transport)
        self.fees = Fees(transport)
        self.policies = Policies(transport)
        self.routes = Routes(transport)
        self.rails = Rails(transport)
        self.reviews = Reviews(transport)
        self.approvals = Approvals(transport)
        self.cases = Cases(transport)
        self.denials = Denials(transport)
        self.parties = Parties(transport)
        self.screening = Screening(transport)
        self.webhooks = Webhooks(transport)
        self.evidence = Evidence(transport)
        self.meta = Meta(transport)

    def with_options(
        self, *, timeout: float | None = None, max_retries: int | None = None, total_timeout: float | None = None
    ) -> Zentra:
        """Return a client with other limits over the same connections, which this one closes.

        Raises ValueError for what makes no sense."""
        other = object.__new__(type(self))
        other._use(self._transport.changed(self._transport.settings.changed(timeout, max_retries, total_timeout)))
        return other

    def with_raw_response(self, method: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> RawResponse[T]:
        """Call a method of this client and return its value with status and headers of the last answer to it.

        `with_raw_response(client.runtime.intents.get, "order-1")`. Raises what the method raises, and TypeError for one
        that makes no request."""
        seen: list[Answer] = []
        token = SEEN.set(seen)
        try:
            return raw_response(method(*args, **kwargs), seen)
        finally:
            SEEN.reset(token)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Zentra({self._transport.settings!r})"
