"""What some kinds of intents ask for beside amount and accounts: nested values of the canonical command.

They are part of what is sealed and digested, so fields come last, have defaults and are never renamed. A command
without such a term has the bytes that it always had."""

from msgspec import Struct

__all__ = ["Deposit"]


class Deposit(Struct, frozen=True, gc=False):
    """Money that has come in from outside: it is booked, if not to whom it was sent then as unmatched.

    `reference` is the sender's, unique per tenant; `number` the account number that the money was sent to."""

    reference: str
    number: str | None = None
