"""The crew that makes a simulated rail's callbacks: a fixed number of senders behind a timer heap.

- A payment waits in the event loop's timers, never in a task of its own; the callbacks of one payment are made one
  after the other.
- A callback that was not heard is composed and sent again `len(RETRY_SECONDS)` times, then given up; what is still due
  when the crew stops is lost, as it is when a rail crashes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, NamedTuple

import aiohttp

from zentra.gateway.outward.http import AddressPolicy, AddressRefused, Answer, OutwardHttp
from zentra.gateway.sandbox.scenarios import Notice, Payment, PaymentBook

__all__ = ["CallbackCrew", "Errand", "Heard", "heard_by_status"]

logger = logging.getLogger(__name__)

RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0)  # a gateway that restarts is back within these
CALLBACK_TIMEOUT_SECONDS = 10.0


class Errand(NamedTuple):
    """One callback on its way: which payment, which of its notices, which try."""

    book: PaymentBook
    payment: Payment
    notices: tuple[Notice, ...]
    position: int
    attempt: int

    @property
    def notice(self) -> Notice:
        """What is to be told."""
        return self.notices[self.position]


class Heard(Enum):
    """What a rail makes of the answer to its callback."""

    RESTS = auto()  # it was taken, or was known
    AGAIN = auto()
    GIVES_UP = auto()  # it was refused for good


def heard_by_status(errand: Errand, answer: Answer) -> Heard:
    """Return what a rail that reads the status alone makes of an answer."""
    return Heard.RESTS if 200 <= answer.status < 300 else Heard.AGAIN


class CallbackCrew:
    """Delivers errands from `start` to `stop`; `compose` makes body and headers anew for each try."""

    def __init__(
        self,
        compose: Callable[[Errand], tuple[bytes, Mapping[str, str]]],
        heard: Callable[[Errand, Answer], Heard] = heard_by_status,
        *,
        senders: int = 64,
        address_policy: AddressPolicy | None = None,
    ) -> None:
        self.delivered: Counter[str] = Counter()  # by rail
        self.given_up: Counter[str] = Counter()
        self._compose, self._heard, self._senders = compose, heard, senders
        # It calls back to whoever submits, and that is the gateway of the same machine or cluster.
        self._policy = address_policy or AddressPolicy(allow_private=True)
        self._due: asyncio.Queue[Errand] = asyncio.Queue()  # bounded by the books: one errand per payment
        self._http: OutwardHttp | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the senders."""
        self._http = OutwardHttp(self._policy, connections_per_host_max=self._senders)
        self._tasks = [asyncio.create_task(self._deliver_for_ever(self._http)) for _ in range(self._senders)]

    async def stop(self) -> None:
        """Stop the senders; callbacks that are still due are lost."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def plan(self, errand: Errand) -> None:
        """Have the errand's next notice delivered when it is due."""
        if errand.position >= len(errand.notices):
            if errand.notices:
                errand.book.finish(errand.payment)
            return
        delay = errand.payment.taken_at + errand.notice.delay - time.time()
        asyncio.get_running_loop().call_later(max(0.0, delay), self._due.put_nowait, errand)

    def statistics(self, book: PaymentBook, now: float) -> dict[str, Any]:
        """Return what a rail has taken and told so far, as its `control` shows it."""
        return {
            "available": book.available,
            "scenario": book.scenario,
            "payments": len(book),
            "submits": sum(payment.submits for payment in book),
            "paid": sum(payment.paid(now) for payment in book),
            "callbacks_delivered": self.delivered[book.rail],
            "callbacks_given_up": self.given_up[book.rail],
        }

    async def _deliver_for_ever(self, http: OutwardHttp) -> None:
        while True:
            errand = await self._due.get()
            heard = await self._deliver(http, errand)
            if heard is Heard.RESTS:
                self.delivered[errand.book.rail] += 1
            elif heard is Heard.AGAIN and errand.attempt < len(RETRY_SECONDS):
                again = errand._replace(attempt=errand.attempt + 1)
                asyncio.get_running_loop().call_later(RETRY_SECONDS[errand.attempt], self._due.put_nowait, again)
                continue
            else:
                self.given_up[errand.book.rail] += 1
            self.plan(errand._replace(position=errand.position + 1, attempt=0))

    async def _deliver(self, http: OutwardHttp, errand: Errand) -> Heard:
        body, headers = self._compose(errand)
        timeout = http.timeout(CALLBACK_TIMEOUT_SECONDS)
        try:
            url = errand.payment.order.callback_url
            response = await http.request("POST", url, body=body, headers=headers, timeout=timeout)
        except (AddressRefused, aiohttp.ClientError, OSError) as error:  # OSError covers TimeoutError
            logger.info("sandbox callback failed", extra={"rail": errand.book.rail, "error": type(error).__name__})
            return Heard.AGAIN
        return self._heard(errand, response)
