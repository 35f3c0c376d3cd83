"""The rails of a chaos run: the sandbox rail with a record of its own on disk, so that a killed rail forgets nothing.

Every submission is in the journal before it is answered. A rail that starts reads its journal: it knows what it took,
still counts repeats, and still calls back for what was never called back for. The journal is the truth outside:
`read_journal` says what the rail was asked to pay and what it paid, whatever the runtime believes.

- A line is written whole or not at all by one write; the last line of a killed rail may be cut short and is ignored.
- The record survives the process, not the machine: nothing is synced to the disk."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import msgspec
import uvicorn
from msgspec import Struct

from zentra.gateway.listening import quiet_config
from zentra.gateway.sandbox.crew import Errand
from zentra.gateway.sandbox.scenarios import SCENARIOS, Order, Payment, PaymentBook, RailProfile, Reply, ReplyKind
from zentra.gateway.sandbox.server import SandboxServer

__all__ = ["JournalBook", "RailPayment", "main", "read_journal"]

_encode: Final = msgspec.json.Encoder().encode


class Submitted(Struct, frozen=True, tag="submitted"):
    """A submission as the rail met it."""

    at: float
    order: Order


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


class JournalBook(PaymentBook):
    """A book of payments that is written down, one line per submission."""

    def __init__(self, rail: str, profile: RailProfile, journal: Path) -> None:
        """Read what an earlier life wrote. Raises OSError where the journal cannot be opened."""
        super().__init__(rail, profile)
        self.untold: dict[str, Payment] = {}
        for line in _lines(journal):
            self._read(line)
        self._file = _opened(journal)

    def submit(self, order: Order, now: float) -> Reply:
        """See PaymentBook.submit; what it decided is in the journal when this returns."""
        reply = super().submit(order, now)
        if reply.kind in (ReplyKind.TAKEN, ReplyKind.REPEATED, ReplyKind.REFUSED):
            self._file.write(_encode(Submitted(now, order)) + b"\n")
        return reply

    def finish(self, payment: Payment) -> None:
        """See PaymentBook.finish; the journal says so too."""
        super().finish(payment)
        self._file.write(_encode(Told(payment.order.reference)) + b"\n")

    def close(self) -> None:
        """Close the journal."""
        self._file.close()

    def _read(self, line: Submitted | Told) -> None:
        match line:
            case Submitted(at, order):
                reply = super().submit(order, at)
                if reply.kind is ReplyKind.TAKEN and reply.payment is not None:
                    self.untold[order.reference] = reply.payment
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
        for payment in self._journalled.untold.values():
            self.crew.plan(Errand(self._journalled, payment, self._journalled.notices(payment), 0, 0))

    async def stop(self) -> None:
        """Stop the senders and close the journal."""
        await super().stop()
        self._journalled.close()


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
            made = RailPayment(rail, order.reference, int(order.amount), scenario, line.at, 1, int(pays))
            payments[order.reference] = made
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
    """Serve one rail: `NAME PORT JOURNAL SECRET_FILE idempotent|plain`."""
    rail, port, journal, secret, references = sys.argv[1:]
    profile = RailProfile(Path(secret).read_text().strip(), idempotent=references == "idempotent")
    app = ChaosRail(rail, profile, Path(journal))
    uvicorn.Server(quiet_config(app, "127.0.0.1", int(port))).run()


if __name__ == "__main__":
    main()
