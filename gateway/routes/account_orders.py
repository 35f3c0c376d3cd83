"""The doors that change an account: freeze, unfreeze, close, reopen, limit; its numbers and monitors; who did what.

- A change is in force for every commit of the ledger that begins after its answer.
- Each has a reason, and a record with who, when, from what and to what, chained to the record before it.
- What is taken away (a number, a monitor) is taken away once: asking again changes nothing and needs no key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from zentra.gateway.doors.commands import answered
from zentra.gateway.doors.ibans import proved_iban
from zentra.gateway.http.app import Handler, Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import (
    Field,
    Objection,
    limit_minor,
    one_of,
    read_fields,
    signed_minor,
    text,
)
from zentra.gateway.http.lists import Lists
from zentra.gateway.http.problems import Problem, of_violations, refusals_answered
from zentra.gateway.routes.accounts import number_name
from zentra.gateway.routes.packets import uuid_of
from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import Violation, digest_of
from zentra.runtime.ledger.monitors import CONDITIONS, FIGURES
from zentra.runtime.ledger.names import SCHEMES, account_number
from zentra.storage.identifiers import Uuid7
from zentra.storage.intake import accounts as intake
from zentra.storage.intake.accounts import STATUS_CHANGES, ChangedBy, NewMonitor, NewNumber
from zentra.storage.intake.commands import KeyedAnswer
from zentra.storage.pool import Pool
from zentra.storage.reads import accounts as reads
from zentra.storage.reads.accounts import ChangePlace

__all__ = ["LIMIT", "MONITOR", "NUMBER", "STATUS", "AccountOrderRoutes"]

STATUS: Final[Mapping[str, Field]] = {"reason": Field(text)}
LIMIT: Final[Mapping[str, Field]] = {"overdraft_limit": Field(limit_minor), "reason": Field(text)}
NUMBER: Final[Mapping[str, Field]] = {
    "scheme": Field(one_of("scheme_unknown", *SCHEMES)), "number": Field(text, ""), "reason": Field(text, ""),
}  # fmt: skip
MONITOR: Final[Mapping[str, Field]] = {
    "of": Field(one_of("figure_unknown", *FIGURES)), "when": Field(one_of("condition_unknown", *CONDITIONS)),
    "minor": Field(signed_minor), "reason": Field(text, ""),
}  # fmt: skip

Give = Callable[[Pool, KeyedAnswer, ChangedBy], Awaitable[StoredKey | None]]


class AccountOrderRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, lists: Lists) -> None:
        self._pool, self._lists = pool, lists
        self._new_id = Uuid7()

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        one = "/accounts/{id}"
        status = [Route("POST", f"{one}/{change}", self._status(change), P.ACCOUNTS_MANAGE, body="json")
                  for change in STATUS_CHANGES]  # fmt: skip
        return [
            *status,
            Route("POST", f"{one}/limit", self.limit, P.ACCOUNTS_LIMIT, body="json"),
            Route("GET", f"{one}/changes", self.changes, P.ACCOUNTS_READ),
            Route("POST", f"{one}/numbers", self.add_number, P.ACCOUNTS_CREATE, body="json"),
            Route("GET", f"{one}/numbers", self.numbers, P.ACCOUNTS_READ),
            Route("DELETE", f"{one}/numbers/{{number}}", self.retire_number, P.ACCOUNTS_MANAGE),
            Route("POST", f"{one}/monitors", self.add_monitor, P.ACCOUNTS_CREATE, body="json"),
            Route("GET", f"{one}/monitors", self.monitors, P.ACCOUNTS_READ),
            Route("DELETE", f"{one}/monitors/{{monitor}}", self.remove_monitor, P.ACCOUNTS_CREATE),
        ]

    def _status(self, change: str) -> Handler:
        async def handle(request: Request) -> Reply:
            values, in_body = read_fields(request.json, STATUS)
            shown = {"change": change, "status": STATUS_CHANGES[change][1]}

            async def give(pool: Pool, keyed: KeyedAnswer, by: ChangedBy) -> StoredKey | None:
                return await intake.change_status(pool, keyed, change, by)

            return await self._give(request, in_body, change, values, shown, give)

        return handle

    async def limit(self, request: Request) -> Reply:
        """Say how far an account may be overdrawn."""
        values, in_body = read_fields(request.json, LIMIT)
        limit = values["overdraft_limit"]
        asked = {**values, "overdraft_limit": str(limit)}
        shown = {"change": "limit", "overdraft_limit": str(limit)}

        async def give(pool: Pool, keyed: KeyedAnswer, by: ChangedBy) -> StoredKey | None:
            return await intake.change_limit(pool, keyed, limit, by)

        return await self._give(request, in_body, "limit", asked, shown, give)

    async def changes(self, request: Request) -> Reply:
        """Who changed the account, when, why, from what and to what; the latest first."""
        asked = self._lists.asked(request, {}, ChangePlace)
        found = await reads.changes(
            self._pool, asked.tenant, request.path_id, after=asked.after, limit=asked.limit
        )  # fmt: skip
        if found is None:
            raise Problem("not_found")
        return asked.page([{**msgspec.json.decode(row.record), "hash": row.hash.hex()} for row in found.rows],
                          found.after)  # fmt: skip

    async def add_number(self, request: Request) -> Reply:
        """Give a number to an account; a virtual one is made here."""
        values, in_body = read_fields(request.json, NUMBER)
        scheme, number = values["scheme"], values["number"]
        if scheme == "virtual":
            if number:
                raise of_violations([Violation("/number", "number_malformed", "virtual numbers are made here")])
            number = intake.minted_number()
        try:
            given = NewNumber(scheme, account_number(scheme, number))
            if scheme == "iban":
                proved_iban(given.number)
        except Refusal as refusal:
            raise of_violations([Violation("/number", refusal.reason, refusal.detail)]) from None
        asked = {**values, "number": "" if scheme == "virtual" else given.number}
        shown = {"change": "number_added", "scheme": scheme, "number": given.number}

        async def give(pool: Pool, keyed: KeyedAnswer, by: ChangedBy) -> StoredKey | None:
            return await intake.add_number(pool, keyed, given, by)

        return await self._give(request, in_body, "number", asked, shown, give, 201)

    async def numbers(self, request: Request) -> Reply:
        """The numbers of an account, the oldest first."""
        found = await reads.numbers(self._pool, request.principal.tenant, request.path_id)
        if found is None:
            raise Problem("not_found")
        return json_reply(200, {"data": found, "has_more": False, "next_cursor": None})

    async def retire_number(self, request: Request) -> Reply:
        """Let a number mean nobody any more."""
        named = request.params["number"]
        try:
            scheme, number = number_name(named)
        except Objection:
            raise Problem("not_found") from None
        await self._take(request, lambda tenant, by: intake.retire_number(
            self._pool, tenant, NewNumber(scheme, number), by))  # fmt: skip
        return json_reply(200, {"account_id": request.path_id, "change": "number_retired", "number": named})

    async def add_monitor(self, request: Request) -> Reply:
        """Be told whenever a figure of an account comes to meet a condition."""
        values, in_body = read_fields(request.json, MONITOR)
        monitor = NewMonitor(self._new_id(), values["of"], values["when"], values["minor"])
        asked = {**values, "minor": str(monitor.minor)}
        shown = {"change": "monitor_added", "monitor": monitor.id, "of": monitor.of, "when": monitor.when,
                 "minor": str(monitor.minor)}  # fmt: skip

        async def give(pool: Pool, keyed: KeyedAnswer, by: ChangedBy) -> StoredKey | None:
            return await intake.add_monitor(pool, keyed, monitor, by)

        return await self._give(request, in_body, "monitor", asked, shown, give, 201)

    async def monitors(self, request: Request) -> Reply:
        """The monitors of an account, the oldest first."""
        found = await reads.monitors(self._pool, request.principal.tenant, request.path_id)
        if found is None:
            raise Problem("not_found")
        shown = [{**msgspec.structs.asdict(one), "minor": str(one.minor)} for one in found]
        return json_reply(200, {"data": shown, "has_more": False, "next_cursor": None})

    async def remove_monitor(self, request: Request) -> Reply:
        """Take a monitor away."""
        monitor = uuid_of(request.params["monitor"])
        await self._take(request, lambda tenant, by: intake.remove_monitor(self._pool, tenant, monitor, by))
        return json_reply(200, {"account_id": request.path_id, "change": "monitor_removed", "monitor": monitor})

    async def _give(
        self, request: Request, in_body: str | None, kind: str, asked: Mapping[str, Any], shown: Mapping[str, Any],
        give: Give, status: int = 200,
    ) -> Reply:  # fmt: skip
        """Do one change under its key and return the answer, the stored one where the key is known."""
        account_id, asker = request.path_id, request.principal
        key = request.idempotency_key(in_body)
        by = _by(request, account_id, asked["reason"])
        link = f"/accounts/{account_id}"
        answer = msgspec.json.encode({
            "account_id": account_id, **shown, "reason": asked["reason"], "changed_by": asker.id,
            "links": {"self": link, "changes": f"{link}/changes"},
        })  # fmt: skip
        digest = digest_of(f"account/{kind}", {"account_id": account_id, **asked})
        keyed = KeyedAnswer(
            tenant=asker.tenant, key=key, digest=digest, subject=f"account/{account_id}", status=status, answer=answer,
            request_id=request.request_id,
        )  # fmt: skip
        with refusals_answered():
            stored = await give(self._pool, keyed, by)
        return answered(keyed, stored)

    async def _take(self, request: Request, take: Callable[[str, ChangedBy], Awaitable[None]]) -> None:
        with refusals_answered():
            await take(request.principal.tenant, _by(request, request.path_id, ""))


def _by(request: Request, account_id: str, reason: str) -> ChangedBy:
    who = request.principal
    return ChangedBy(
        account_id=account_id, principal=who.id, role=who.role, reason=reason, request_id=request.request_id
    )
