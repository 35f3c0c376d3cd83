"""The doors to parties: who is behind accounts, what is known of them, and the lists they are held against.

- A name goes in and comes out here and nowhere else: answers that are stored with a key, history and cases have none.
- Who may read parties sees their states; names are shown to those who may see names.
- Nobody decides on a party that they created or amended: on neither its identity nor a match.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from typing import Any, Final

import msgspec

from zentra.gateway.doors.commands import answered
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import SCHEMAS, Field, Objection, identifier, one_of, read_fields, text
from zentra.gateway.http.lists import CREATED, Check, Lists, time
from zentra.gateway.http.problems import Problem, of_violations
from zentra.runtime.compliance.states import Kyc, Screening
from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import Violation, digest_of
from zentra.runtime.names import COUNTRY_PATTERN, LEGAL_CHARACTERS_MAX, LEGAL_KINDS, LEGAL_NAME_SCHEMA, is_legal_name
from zentra.runtime.pointers import escaped
from zentra.storage.identifiers import Uuid7
from zentra.storage.intake import parties as intake
from zentra.storage.intake.commands import KeyedAnswer
from zentra.storage.intake.parties import KycDecision, MatchWord, NewParty
from zentra.storage.pool import Pool
from zentra.storage.reads import parties as reads
from zentra.storage.reads.parties import PartyPlace, PartyView

__all__ = [
    "AMENDMENT",
    "KYC",
    "MATCH_RESOLUTIONS",
    "PARTY",
    "PARTY_FILTERS",
    "RESCREEN",
    "PartyRoutes",
    "resolve_match",
]

ALIASES_MAX: Final = 32
COUNTRIES_MAX: Final = 16
IDENTIFIERS_MAX: Final = 16
MATCH_RESOLUTIONS: Final = (str(Screening.TRUE_MATCH), str(Screening.FALSE_POSITIVE))
_NOT_GIVEN: Final = ""
_new_id: Final = Uuid7()
_Write = Callable[[KeyedAnswer], Awaitable[StoredKey | None]]


def person_name(value: Any) -> str:
    """Return a name of 1 to 300 characters."""
    if not isinstance(value, str):
        raise Objection("field_type", "expected a string")
    if not is_legal_name(value):
        raise Objection("text_malformed", f"1 to {LEGAL_CHARACTERS_MAX} characters, no control characters")
    return value


def name_list(value: Any) -> tuple[str, ...]:
    """Return other names, at most 32."""
    return tuple([_below(place, person_name, one) for place, one in enumerate(_list(value, ALIASES_MAX))])


def country_list(value: Any) -> tuple[str, ...]:
    """Return countries of ISO 3166-1, at most 16."""
    return tuple([_below(place, _country, one) for place, one in enumerate(_list(value, COUNTRIES_MAX))])


def birth(value: Any) -> date:
    """Return a date of birth or incorporation."""
    try:
        if isinstance(value, str) and len(value) == 10:
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise Objection("time_malformed", "a date like 1970-12-31")


def identifiers(value: Any) -> dict[str, str]:
    """Return what identifies a party to others: at most 16 short texts by name."""
    if not isinstance(value, dict) or len(value) > IDENTIFIERS_MAX:
        raise Objection("field_type", f"an object of at most {IDENTIFIERS_MAX} texts")
    return {str(_below(name, identifier, name)): str(_below(name, text, one)) for name, one in value.items()}


def _list(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise Objection("field_type", f"a list of at most {most}")
    return value


def _below(place: object, check: Callable[[Any], Any], value: Any) -> Any:
    try:
        return check(value)
    except Objection as objection:
        raise Objection(objection.code, objection.detail, f"/{escaped(str(place))}") from None


def _country(value: Any) -> str:
    if not isinstance(value, str) or not COUNTRY_PATTERN.match(value):
        raise Objection("country_malformed", "two capital letters, ISO 3166-1")
    return value


SCHEMAS.update({
    person_name: LEGAL_NAME_SCHEMA,
    name_list: {"type": "array", "maxItems": ALIASES_MAX, "items": LEGAL_NAME_SCHEMA},
    country_list: {"type": "array", "maxItems": COUNTRIES_MAX, "items": {"type": "string", "pattern": "^[A-Z]{2}$"}},
    birth: {"type": "string", "format": "date"},
    identifiers: {
        "type": "object", "maxProperties": IDENTIFIERS_MAX, "propertyNames": SCHEMAS[identifier],
        "additionalProperties": SCHEMAS[text],
    },
})  # fmt: skip
kyc_word: Final = one_of("status_unknown", *Kyc)
_SAID: Final[Mapping[str, Field]] = {
    "aliases": Field(name_list, _NOT_GIVEN),
    "born": Field(birth, _NOT_GIVEN),
    "countries": Field(country_list, _NOT_GIVEN),
    "identifiers": Field(identifiers, _NOT_GIVEN),
}
PARTY: Final[Mapping[str, Field]] = {
    "party_id": Field(identifier),
    "kind": Field(one_of("kind_unknown", *LEGAL_KINDS)),
    "legal_name": Field(person_name),
    **_SAID,
}
AMENDMENT: Final[Mapping[str, Field]] = {
    "reason": Field(text), "legal_name": Field(person_name, _NOT_GIVEN), **_SAID,
}  # fmt: skip
KYC: Final[Mapping[str, Field]] = {
    "state": Field(kyc_word), "reason": Field(text), "expires_at": Field(time, _NOT_GIVEN),
}  # fmt: skip
RESCREEN: Final[Mapping[str, Field]] = {"reason": Field(text)}
PARTY_FILTERS: Final[Mapping[str, Check]] = {
    **CREATED, "kind": one_of("kind_unknown", *LEGAL_KINDS), "kyc_state": kyc_word,
    "screening_state": one_of("status_unknown", *Screening),
}  # fmt: skip


class PartyRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, lists: Lists) -> None:
        self._pool, self._lists = pool, lists

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        return [
            Route("POST", "/parties", self.create, P.PARTIES_CREATE, body="json"),
            Route("GET", "/parties", self.parties, P.PARTIES_READ),
            Route("GET", "/parties/{id}", self.show, P.PARTIES_READ),
            Route("GET", "/parties/{id}/history", self.history, P.PARTIES_READ),
            Route("POST", "/parties/{id}/amend", self.amend, P.PARTIES_CREATE, body="json"),
            Route("POST", "/parties/{id}/kyc", self.kyc, P.PARTIES_DECIDE, body="json"),
            Route("POST", "/parties/{id}/rescreen", self.rescreen, P.PARTIES_DECIDE, body="json"),
            Route("GET", "/screening/lists", self.lists, P.PARTIES_READ),
        ]

    async def create(self, request: Request) -> Reply:
        """Create a party; names of the sandbox force states in test tenants."""
        values, in_body = read_fields(request.json, PARTY)
        given, asker = _given(values), request.principal
        party = NewParty(**given, created_by=asker.id)
        link = f"/parties/{party.party_id}"
        shown = {
            "party_id": party.party_id, "kind": party.kind, "created_by": asker.id, "links": {"self": link},
        }  # fmt: skip

        async def write(keyed: KeyedAnswer) -> StoredKey | None:
            return await intake.create_party(self._pool, keyed, party, asker.mode)

        return await _keyed(request, in_body, "party", given, f"party/{party.party_id}", 201, shown, write)

    async def show(self, request: Request) -> Reply:
        """A party; its names for those who may see names."""
        seen = await reads.party(self._pool, request.principal.tenant, request.path_id, names=_sees_names(request))
        if seen is None:
            raise Problem("not_found")
        return json_reply(200, _shown(seen))

    async def parties(self, request: Request) -> Reply:
        """The tenant's parties, the newest first."""
        asked = self._lists.asked(request, PARTY_FILTERS, PartyPlace)
        found = await reads.parties(
            self._pool, asked.tenant, asked.filters, after=asked.after, limit=asked.limit, names=_sees_names(request)
        )
        return asked.page([_shown(row) for row in found.rows], found.after)

    async def history(self, request: Request) -> Reply:
        """Every change of a party, the latest first: who did it and why."""
        found = await reads.history(self._pool, request.principal.tenant, request.path_id)
        if found is None:
            raise Problem("not_found")
        return json_reply(200, {"data": found})

    async def amend(self, request: Request) -> Reply:
        """Change what is said of a party: its identity is for review again, and it is screened anew."""
        values, in_body = read_fields(request.json, AMENDMENT)
        reason = values.pop("reason")
        given, party = _given(values), request.path_id
        if not given:
            raise of_violations([Violation("", "field_missing", "name at least one field to change")])
        actor = request.principal.id

        async def write(keyed: KeyedAnswer) -> StoredKey | None:
            return await intake.amend_party(self._pool, keyed, party, actor, reason, given)

        return await self._done(request, in_body, "amend", {**given, "reason": reason}, write)

    async def kyc(self, request: Request) -> Reply:
        """Move the KYC state of a party: whoever created or amended it neither approves nor denies it."""
        values, in_body = read_fields(request.json, KYC)
        decision = KycDecision(
            party_id=request.path_id, state=Kyc(values["state"]), actor=request.principal.id, reason=values["reason"],
            expires_at=values["expires_at"] or None,
        )  # fmt: skip

        async def write(keyed: KeyedAnswer) -> StoredKey | None:
            return await intake.decide_kyc(self._pool, keyed, decision)

        return await self._done(request, in_body, "kyc", _given(values), write, str(decision.state))

    async def rescreen(self, request: Request) -> Reply:
        """Have a party screened anew: the only way out of a true match."""
        values, in_body = read_fields(request.json, RESCREEN)
        party, asker = request.path_id, request.principal

        async def write(keyed: KeyedAnswer) -> StoredKey | None:
            return await intake.rescreen_party(self._pool, keyed, party, asker.id, values["reason"])

        return await self._done(request, in_body, "rescreen", values, write, str(Screening.NOT_SCREENED))

    async def lists(self, request: Request) -> Reply:
        """The lists that names are held against: version, digest and age."""
        return json_reply(200, {"data": await reads.screening_lists(self._pool, request.principal.tenant)})

    async def _done(
        self,
        request: Request,
        in_body: str | None,
        what: str,
        asked: Mapping[str, Any],
        write: _Write,
        state: str | None = None,
    ) -> Reply:
        party = request.path_id
        shown = {"party_id": party, "done": what, "state": state, "links": {"self": f"/parties/{party}"}}
        body = {"party": party, **asked}
        return await _keyed(request, in_body, f"party/{what}", body, f"party/{party}", 200, shown, write)


async def resolve_match(
    pool: Pool, request: Request, in_body: str | None, case: str, resolution: str, reason: str
) -> Reply:
    """End a case of a possible match: the party is whom the list names, or it is not.

    It is a command like every resolution of a case, decided in the transaction that registers it."""
    asker, command = request.principal, _new_id()
    links = {"self": f"/runtime/commands/{command}", "subject": f"/cases/{case}"}
    shown = {
        "command": command, "status": "done", "kind": "resolve_case", "case": case, "resolution": resolution,
        "outcome": "done", "detail": {}, "links": links,
    }  # fmt: skip
    word = MatchWord(case, command, asker.id, asker.role, Screening(resolution), reason)

    async def write(keyed: KeyedAnswer) -> StoredKey | None:
        return await intake.resolve_match(pool, keyed, word)

    asked = {"case": case, "resolution": resolution, "reason": reason}
    return await _keyed(request, in_body, "party/match", asked, f"case/{case}", 200, shown, write)


async def _keyed(
    request: Request,
    in_body: str | None,
    what: str,
    asked: Mapping[str, Any],
    subject: str,
    status: int,
    shown: Mapping[str, Any],
    write: _Write,
) -> Reply:
    """Do what was asked with its key, and answer; or answer as the key did before."""
    answer = msgspec.json.encode(shown)
    digest = digest_of(what, msgspec.to_builtins(asked))
    keyed = KeyedAnswer(
        tenant=request.principal.tenant, key=request.idempotency_key(in_body), digest=digest, subject=subject,
        status=status, answer=answer, request_id=request.request_id,
    )  # fmt: skip
    try:
        stored = await write(keyed)
    except Refusal as refusal:
        raise Problem(refusal.reason, "" if refusal.reason == "not_found" else refusal.detail) from None
    location = ((b"location", shown["links"]["self"].encode()),) if status == 201 else ()
    return answered(keyed, stored, location)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != _NOT_GIVEN}


def _sees_names(request: Request) -> bool:
    return Permission.PARTIES_NAMES in request.principal.permissions


def _shown(party: PartyView) -> dict[str, Any]:
    return {**msgspec.structs.asdict(party), "links": {"self": f"/parties/{party.party_id}"}}
