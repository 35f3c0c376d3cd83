"""The rails of a chaos run: sandbox rails and simulated banks with a record of their own on disk, so that a killed rail
forgets nothing.

Every submission is in the journal before it is answered. A rail that starts reads its journal: it knows what it took,
still counts repeats, and still calls back for what was never called back for. The journal is the truth outside:
`read_journal` says what the rail was asked to pay and what it paid, whatever the runtime believes.

- A line is written whole or not at all by one write; the last line of a killed rail may be cut short and is ignored.
- The record survives the process, not the machine: nothing is synced to the disk."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

import msgspec
import uvicorn
from msgspec import Struct

from zentra.bench.chaos.moods import FORGED, RailMood, answered, forged, told
from zentra.gateway.listening import AsgiApp, Receive, Scope, Send, answer, quiet_config, read_body
from zentra.gateway.partners.partner import PartnerProfile
from zentra.gateway.partners.server import DIALECTS, PartnerServer
from zentra.gateway.sandbox.crew import CallbackCrew, Errand
from zentra.gateway.sandbox.scenarios import (
    SCENARIOS,
    Notice,
    Order,
    Payment,
    PaymentBook,
    RailProfile,
    Reply,
    ReplyKind,
)
from zentra.gateway.sandbox.server import SandboxServer

__all__ = ["BANKS", "CLIENT_ID", "MOOD_PATH", "RAILS", "SANDBOXES", "JournalBook", "RailConfig", "RailKind",
           "RailPayment", "main", "read_journal"]  # fmt: skip

CLIENT_ID: Final = "zentra"
MOOD_PATH: Final = "/mood"
"""Where a bank is told its mood: PUT, the word as the body."""
SENDERS: Final = 16

_encode: Final = msgspec.json.Encoder().encode


class RailKind(Struct, frozen=True):
    """A rail of a run: whose dialect it speaks, and whether the same reference twice is one payment there."""

    dialect: str
    idempotent: bool


SANDBOXES: Final = {"chaos_1": RailKind("sandbox", True), "chaos_2": RailKind("sandbox", False)}
BANKS: Final = {
    f"chaos_{dialect}": RailKind(dialect, DIALECTS[dialect].idempotent) for dialect in ("gtbank", "providus")
}
RAILS: Final[Mapping[str, RailKind]] = {**SANDBOXES, **BANKS}
"""Every rail of a run, by name."""


class RailConfig(Struct, frozen=True):
    """What a rail's process is told, in a private file."""

    name: str
    port: int
    journal: str
    secret: str
    client_secret: str


class Submitted(Struct, frozen=True, tag="submitted", omit_defaults=True):
    """A submission as the rail met it, and in which mood."""

    at: float
    order: Order
    mood: RailMood = RailMood.WELL


class Told(Struct, frozen=True, tag="told"):
    """Every callback of a payment was made, or given up."""

    reference: str


_decode: Final = msgspec.json.Decoder(Submitted | Told).decode


class RailPayment(Struct):
    """What a rail's own record says of one reference: how often it was asked, and how often it paid."""

    rail: str
    reference: str
    amount: int
    scenario: str
    at: float
    submits: int = 1
    paid: int = 0
    currency: str = "NGN"
    mood: RailMood = RailMood.WELL


class JournalBook(PaymentBook):
    """A book of payments that is written down, one line per submission."""

    def __init__(self, rail: str, profile: RailProfile, journal: Path) -> None:
        """Read what an earlier life wrote. Raises OSError where the journal cannot be opened."""
        super().__init__(rail, profile)
        self.untold: dict[str, Payment] = {}
        self.mood = RailMood.WELL
        self._moods: dict[str, RailMood] = {}  # of the payments that did not meet a bank that was well
        for line in _lines(journal):
            self._read(line)
        self._file = _opened(journal)

    def submit(self, order: Order, now: float) -> Reply:
        """See PaymentBook.submit; what it decided is in the journal when this returns."""
        self.available = self.mood is not RailMood.REFUSES
        reply = super().submit(order, now)
        if reply.kind is ReplyKind.TAKEN and self.mood is not RailMood.WELL:
            self._moods[order.reference] = self.mood
        if reply.kind in (ReplyKind.TAKEN, ReplyKind.REPEATED, ReplyKind.REFUSED):
            self._file.write(_encode(Submitted(now, order, self.mood)) + b"\n")
        return reply

    def notices(self, payment: Payment) -> tuple[Notice, ...]:
        """See PaymentBook.notices; they are those of the mood in which the payment was taken."""
        return told(self._moods.get(payment.order.reference, RailMood.WELL), super().notices(payment))

    def finish(self, payment: Payment) -> None:
        """See PaymentBook.finish; the journal says so too."""
        super().finish(payment)
        self._file.write(_encode(Told(payment.order.reference)) + b"\n")

    def close(self) -> None:
        """Close the journal."""
        self._file.close()

    def _read(self, line: Submitted | Told) -> None:
        match line:
            case Submitted(at, order, mood):
                reply = super().submit(order, at)
                if reply.kind is ReplyKind.TAKEN and reply.payment is not None:
                    self.untold[order.reference] = reply.payment
                    self._moods[order.reference] = mood
            case Told(reference):
                super().finish(self.untold.pop(reference))


class ChaosRail(SandboxServer):
    """The sandbox server with one journalled rail."""

    def __init__(self, rail: str, profile: RailProfile, journal: Path) -> None:
        book = JournalBook(rail, profile, journal)
        super().__init__({rail: profile})
        self.books[rail] = self._journalled = book

    async def start(self) -> None:
        """Start the senders, and plan every callback that may not have been made before the last end."""
        await super().start()
        _plan_untold(self.crew, self._journalled)

    async def stop(self) -> None:
        """Stop the senders and close the journal."""
        await super().stop()
        self._journalled.close()


class ChaosBank(PartnerServer):
    """The partner simulator with one journalled bank, which can be told a mood."""

    def __init__(self, rail: str, profile: PartnerProfile, journal: Path) -> None:
        super().__init__({rail: profile})
        self._partner = self.partners[rail]
        self._partner.book = self._journalled = JournalBook(rail, self._partner.book.profile, journal)
        self.crew = CallbackCrew(self._composed, self._partner.heard, senders=SENDERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await receive()
            await self.crew.start()
            _plan_untold(self.crew, self._journalled)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self.crew.stop()
            self._journalled.close()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["path"] == MOOD_PATH:
            self._journalled.mood = RailMood((await read_body(receive, 100) or b"").decode())
            await answer(send, 200, b"{}")
        else:
            await answered(self._journalled.mood, self.route, scope, receive, send)

    def _composed(self, errand: Errand) -> tuple[bytes, Mapping[str, str]]:
        body, headers = self._partner.callback(errand)
        return body, forged(headers) if errand.notice.event_id.startswith(FORGED) else headers


def _plan_untold(crew: CallbackCrew, book: JournalBook) -> None:
    for payment in book.untold.values():
        crew.plan(Errand(book, payment, book.notices(payment), 0, 0))


def read_journal(rail: str, journal: Path, *, idempotent: bool) -> list[RailPayment]:
    """Return every payment of a rail, all of them ended; without idempotent references it pays at every submission."""
    payments: dict[str, RailPayment] = {}
    for line in _lines(journal):
        if isinstance(line, Told):
            continue
        order = line.order
        scenario = order.scenario or "success"
        pays = SCENARIOS[scenario].ends == "succeeded"
        known = payments.get(order.reference)
        if known is None:
            payments[order.reference] = RailPayment(
                rail, order.reference, int(order.amount), scenario, line.at, 1, int(pays), order.currency, line.mood
            )
        else:
            known.submits += 1
            known.paid += int(pays and not idempotent)
    return list(payments.values())


def _lines(journal: Path) -> Iterator[Submitted | Told]:
    if journal.exists():
        for text in journal.read_bytes().split(b"\n")[:-1]:  # behind the last line break is nothing, or a torn line
            yield _decode(text)


def _opened(journal: Path) -> IO[bytes]:
    """Return the journal open for appending, without the line that a kill may have torn."""
    file = journal.open("ab", buffering=0)
    file.truncate(journal.read_bytes().rfind(b"\n") + 1)
    return file


def main() -> None:
    """Serve one rail, as the file says whose name is the only argument."""
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=RailConfig)
    kind, journal = RAILS[config.name], Path(config.journal)
    app: AsgiApp
    if kind.dialect == "sandbox":
        app = ChaosRail(config.name, RailProfile(config.secret, idempotent=kind.idempotent), journal)
    else:
        profile = PartnerProfile(kind.dialect, CLIENT_ID, config.client_secret, config.secret)
        app = ChaosBank(config.name, profile, journal)
    uvicorn.Server(quiet_config(app, "127.0.0.1", config.port)).run()


if __name__ == "__main__":
    main()
