"""The sandbox rail as a real HTTP server: many rails behind one port, each under `/rails/{rail}`.

    POST /rails/{rail}/payments               submit: 202 pending, 200 otherwise, 409 same reference with another body
    GET  /rails/{rail}/payments/{reference}   status, amount, how often it was submitted and paid; 404 unknown
    PUT  /rails/{rail}/control                {"available": false, "scenario": "decline"}: both optional
    GET  /rails/{rail}/control                the same, and counts

Signed callbacks are made by a crew of its own (`crew.py`). The invariants kept here:

- Everything is in memory and bounded; a book full of unfinished payments refuses new ones as unavailable.
- `"accepted": false` is written only of a reference that this rail will never pay.
- Every try of a callback has a new timestamp and signature.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from zentra.gateway.listening import Receive, Scope, Send, answer, hang, read_body
from zentra.gateway.outward.http import AddressPolicy
from zentra.gateway.outward.rail_sandbox import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    CallbackBody,
    PaymentBody,
    sign_callback,
)
from zentra.gateway.sandbox.crew import CallbackCrew, Errand
from zentra.gateway.sandbox.scenarios import (
    PAYMENTS_MAX,
    SCENARIOS,
    Notice,
    Order,
    Payment,
    PaymentBook,
    RailProfile,
    ReplyKind,
)

__all__ = ["SandboxServer", "callback_bytes"]

BODY_BYTES_MAX = 64 * 1024


class Control(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a control request; what is absent stays as it is."""

    available: bool | None = None
    scenario: str | None = None


order_decoder = msgspec.json.Decoder(Order)
control_decoder = msgspec.json.Decoder(Control)


class SandboxServer:
    """The ASGI application. Its senders live from the lifespan's startup to its shutdown."""

    def __init__(
        self,
        profiles: Mapping[str, RailProfile],
        *,
        senders: int = 64,
        payments_max: int = PAYMENTS_MAX,
        address_policy: AddressPolicy | None = None,
    ) -> None:
        """Raises ValueError when a profile names a scenario that does not exist."""
        self.books = {rail: PaymentBook(rail, profile, payments_max) for rail, profile in profiles.items()}
        self.crew = CallbackCrew(_signed, senders=senders, address_policy=address_policy)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._route(scope, receive, send)

    async def start(self) -> None:
        """Start the senders of callbacks; the lifespan does it where a server runs the application."""
        await self.crew.start()

    async def stop(self) -> None:
        """Stop the senders; callbacks that are still due are lost, as they are when a rail crashes."""
        await self.crew.stop()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["method"], scope["path"].split("/"):
            case method, ["", "rails", rail, *rest] if (book := self.books.get(rail)) is not None:
                pass
            case _:
                await answer(send, 404, b'{"status":"no_such_route"}')
                return
        match method, rest:
            case "POST", ["payments"]:
                await self._submit(book, receive, send)
            case "GET", ["payments", *parts] if parts:
                await _look_up(book, "/".join(parts), send)  # the path arrives decoded
            case "PUT", ["control"]:
                await self._control(book, receive, send)
            case "GET", ["control"]:
                await answer(send, 200, self._statistics(book))
            case _:
                await answer(send, 404, b'{"status":"no_such_route"}')

    async def _submit(self, book: PaymentBook, receive: Receive, send: Send) -> None:
        raw = await read_body(receive, BODY_BYTES_MAX)
        try:
            order = order_decoder.decode(raw or b"")
        except ValueError:
            # Nothing is said about acceptance: the reference, which cannot be read, may be known.
            await answer(send, 400, b'{"status":"malformed"}')
            return
        now = time.time()
        reply = book.submit(order, now)
        payment = reply.payment
        if reply.kind is ReplyKind.TAKEN and payment is not None:
            self.crew.plan(Errand(book, payment, book.notices(payment), 0, 0))
        if reply.hangs:
            await hang(receive, book.profile.timings.hang_seconds)
            await answer(send, 504, b'{"status":"timeout"}')
            return
        match reply.kind:
            case ReplyKind.MALFORMED:
                await answer(send, 400, b'{"status":"malformed","accepted":false}')
            case ReplyKind.UNAVAILABLE:
                await answer(send, 503, b'{"status":"unavailable","accepted":false}')
            case ReplyKind.CONFLICT:
                await answer(send, 409, b'{"status":"reference_taken"}')
            case _:
                assert payment is not None
                status = 202 if payment.status(now) == "pending" else 200
                await answer(send, status, _encoded(payment, now))

    async def _control(self, book: PaymentBook, receive: Receive, send: Send) -> None:
        try:
            control = control_decoder.decode(await read_body(receive, BODY_BYTES_MAX) or b"")
        except ValueError:
            await answer(send, 400, b'{"status":"malformed"}')
            return
        if control.scenario is not None and control.scenario not in SCENARIOS:
            await answer(send, 400, b'{"status":"no_such_scenario"}')
            return
        book.available = book.available if control.available is None else control.available
        book.scenario = control.scenario or book.scenario
        await answer(send, 200, self._statistics(book))

    def _statistics(self, book: PaymentBook) -> bytes:
        return msgspec.json.encode(self.crew.statistics(book, time.time()))


def _signed(errand: Errand) -> tuple[bytes, Mapping[str, str]]:
    """Return a callback as this try sends it."""
    body, timestamp = callback_bytes(errand.payment, errand.notice), str(int(time.time()))
    return body, {
        "content-type": "application/json",
        TIMESTAMP_HEADER: timestamp,
        SIGNATURE_HEADER: sign_callback(errand.book.profile.secret, timestamp, body),
    }


def callback_bytes(payment: Payment, notice: Notice) -> bytes:
    """Return the body of one callback, the same bytes on every try; a stale notice carries the time of the submit."""
    occurred = datetime.fromtimestamp(payment.taken_at if notice.status == "pending" else payment.ends_at, UTC)
    return msgspec.json.encode(
        CallbackBody(
            event_id=notice.event_id,
            reference=notice.reference,
            provider_reference=payment.provider_reference,
            status=notice.status,
            amount=notice.amount,
            currency=payment.order.currency,
            occurred_at=occurred.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        )
    )


async def _look_up(book: PaymentBook, reference: str, send: Send) -> None:
    now = time.time()
    payment = book.look_up(reference, now)
    if payment is None:
        await answer(send, 404, b'{"status":"not_found"}')
    else:
        await answer(send, 200, _encoded(payment, now))


def _encoded(payment: Payment, now: float) -> bytes:
    status = payment.status(now)
    return msgspec.json.encode(
        PaymentBody(
            status=status,
            accepted=status != "rejected",
            reference=payment.order.reference,
            amount=payment.order.amount,
            currency=payment.order.currency,
            provider_reference=payment.provider_reference,
            submits=payment.submits,
            paid=payment.paid(now),
        )
    )
