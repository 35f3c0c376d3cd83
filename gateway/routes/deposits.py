"""The door for money that has come in: it is booked to whom its number belongs, or to nobody yet.

- A deposit is a book transfer from the settlement account, made by the reference that the sender gave it: the same
  reference is the same deposit for ever, whatever key it comes under.
- What cannot be booked where it was sent (nobody has the number, the account is closed, frozen, or in another currency)
  is booked to the suspense account, and a case tells a person: money that came in is not refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zentra.gateway.doors.intents import IntentDoor
from zentra.gateway.http.app import Reply, Request, Route
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import SCHEMAS, Field, Objection, currency, identifier, read_fields
from zentra.gateway.http.problems import of_violations, refusals_answered
from zentra.gateway.http.reading import one_key
from zentra.gateway.http.waiting import IntentWaiters
from zentra.gateway.routes.accounts import number_name
from zentra.gateway.routes.intents import asker_of, created_reply
from zentra.runtime.errors import Refusal
from zentra.runtime.intents.command import IntentCommand, Violation
from zentra.runtime.intents.terms import Deposit
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.ledger.money import AMOUNT_SCHEMA, parse_minor
from zentra.runtime.ledger.names import DEFAULT_BOOK, system_account_id
from zentra.storage.intake.accounts import need_system_accounts
from zentra.storage.pool import Pool
from zentra.storage.reads import accounts as reads

__all__ = ["DEPOSIT", "DepositRoutes"]

REFERENCE_MAX: Final = 120  # with the word before it, it is an intent_id


def _amount(value: Any) -> int:
    try:
        return parse_minor(value)
    except Refusal as refusal:
        raise Objection(refusal.reason, refusal.detail) from None


def _reference(value: Any) -> str:
    if len(identifier(value)) > REFERENCE_MAX:
        raise Objection("id_malformed", f"at most {REFERENCE_MAX} characters")
    return str(value)


SCHEMAS[_amount] = dict(AMOUNT_SCHEMA)
SCHEMAS[_reference] = {"type": "string", "pattern": f"^[A-Za-z0-9][A-Za-z0-9._:-]{{0,{REFERENCE_MAX - 1}}}$"}
DEPOSIT: Final[Mapping[str, Field]] = {
    "reference": Field(_reference), "amount": Field(_amount), "currency": Field(currency),
    "number": Field(number_name, ""), "account": Field(identifier, ""),
}  # fmt: skip


class DepositRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, door: IntentDoor, waiters: IntentWaiters) -> None:
        self._pool, self._door, self._waiters = pool, door, waiters

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        return [Route("POST", "/deposits", self.create, Permission.DEPOSITS_CREATE, body="json")]

    async def create(self, request: Request) -> Reply:
        """Book money that has come in."""
        values, in_body = read_fields(request.json, DEPOSIT)
        number, account = values["number"], values["account"]
        if bool(number) == bool(account):
            raise of_violations([Violation("/number", "field_missing", "name a number or an account, and not both")])
        reference, tenant, code = values["reference"], request.principal.tenant, values["currency"]
        given = request.idempotency_keys
        key = one_key(given, in_body) if given or in_body is not None else f"deposit:{reference}"
        if number:
            name = ":".join(number)
            target = await reads.number_target(self._pool, tenant, *number)
        else:
            name, target = account, await reads.target(self._pool, tenant, account)
        if target is None or (target.currency, target.book) != (code, DEFAULT_BOOK):
            with refusals_answered():
                await need_system_accounts(self._pool, tenant, code)
        command = IntentCommand(
            kind=IntentKind.BOOK_TRANSFER, minor=str(values["amount"]), currency=code,
            source=system_account_id("settlement", code), destination=name, intent_id=f"deposit:{reference}",
            deposit=Deposit(reference, name if number else None),
        )  # fmt: skip
        created = await self._door.ask(command, key, asker_of(request), request.request_id)
        return await created_reply(self._pool, self._waiters, request, created)
