"""The doors to webhook endpoints: where a tenant wants its events, how, and whether it gets them now.

- A secret is shown in the answer that makes it and nowhere else; the answer stored with the key does not hold it, so a
  replay has `"secret": null`. That is the one difference between an answer and its replay. The private half of a key
  is shown to nobody; the public one stands at an address that everybody may read.
- Whoever names the `version` that they have seen changes that one or nothing.
- What is for an endpoint that is disabled is kept, and goes out when it is enabled; the answer says since when it was
  not called, so that what was not even made for it can be asked for. The others hear who has done it.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from zentra.gateway.doors.commands import replayed
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission, Principal
from zentra.gateway.http.endpoint_fields import AMENDMENT, ENDPOINT, EVENTS_DEFAULT, NOT_GIVEN, ROTATION, terms_of
from zentra.gateway.http.fields import NOTHING, read_fields
from zentra.gateway.http.problems import Problem, of_violations, refusals_answered
from zentra.gateway.http.sending import Sending
from zentra.gateway.outward.http import AddressGuard, AddressRefused, refusal_told
from zentra.gateway.sealing import Sealer
from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import Violation, digest_of
from zentra.runtime.names import is_tenant
from zentra.runtime.stream_ports import Outgoing
from zentra.runtime.webhooks.standard import generate_secret, parse_secret, public_key_text
from zentra.runtime.webhooks.terms import SECRETS_MAX, TERMS, EndpointTerms, rotated
from zentra.storage.identifiers import Uuid7
from zentra.storage.intake import endpoints as intake
from zentra.storage.intake.commands import KeyedAnswer
from zentra.storage.intake.configuration import NewEndpoint, create_endpoint
from zentra.storage.intake.endpoints import Amended, Switch
from zentra.storage.pool import Pool
from zentra.storage.reads import endpoints as reads
from zentra.storage.reads.endpoints import EndpointRow

__all__ = ["AMENDMENT", "ENDPOINT", "EVENTS_DEFAULT", "KEYS_PATH", "ROTATION", "WebhookRoutes"]

SECRET_BYTES: Final = 32
KEYS_PATH: Final = "/.well-known/webhook-keys/{tenant}/{id}"

_Write = Callable[[KeyedAnswer], Awaitable[StoredKey | None]]


class WebhookRoutes:
    """The handlers and their routes."""

    def __init__(
        self,
        pool: Pool,
        writer_pool: Pool,
        sealer: Sealer,
        sending: Sending,
        guard: AddressGuard,
        *,
        partitions: int,
        endpoints_max: int,
    ) -> None:
        self._pool, self._writer_pool, self._sealer, self._sending = pool, writer_pool, sealer, sending
        self._guard, self._partitions, self._endpoints_max = guard, partitions, endpoints_max
        self._new_id = Uuid7()

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P, one = Permission, "/webhooks/endpoints/{id}"
        return [
            Route("POST", "/webhooks/endpoints", self.create, P.ENDPOINTS_CREATE, body="json"),
            Route("GET", "/webhooks/endpoints", self.endpoints, P.ENDPOINTS_READ),
            Route("GET", one, self.show, P.ENDPOINTS_READ),
            Route("DELETE", one, self.delete, P.ENDPOINTS_CREATE),
            Route("POST", f"{one}/amend", self.amend, P.ENDPOINTS_CREATE, body="json"),
            Route("POST", f"{one}/disable", self.disable, P.ENDPOINTS_CREATE, body="json or nothing"),
            Route("POST", f"{one}/enable", self.enable, P.ENDPOINTS_CREATE, body="json or nothing"),
            Route("POST", f"{one}/rotate", self.rotate, P.ENDPOINTS_CREATE, body="json or nothing"),
            Route("GET", KEYS_PATH, self.keys, None),
        ]

    async def create(self, request: Request) -> Reply:
        """Set up an endpoint and show its secret, once."""
        values, in_body = read_fields(request.json, ENDPOINT)
        self._vet(values["url"])
        key, asker = request.idempotency_key(in_body), request.principal
        secret, endpoint = generate_secret(secrets.token_bytes(SECRET_BYTES)), f"ep_{self._new_id()}"
        terms = terms_of(values, TERMS)
        keys = (self._new_key(),) if terms.asymmetric else ()
        shown: dict[str, Any] = {
            "id": endpoint, "url": values["url"], "events": values["events"], "status": "enabled",
            "created_by": asker.id, "secret": None, **_terms_shown(terms), "version": 1,
            "public_keys": [{"key": self._public(key), "expires_at": None} for key in keys],
            "links": _links(asker.tenant, endpoint),
        }  # fmt: skip
        given = {name: value for name, value in values.items() if value is not NOT_GIVEN}
        digest = digest_of("endpoint", msgspec.to_builtins(given))
        keyed = KeyedAnswer(
            tenant=asker.tenant, key=key, digest=digest, subject=f"endpoint/{endpoint}", status=201,
            answer=msgspec.json.encode(shown), request_id=request.request_id,
        )  # fmt: skip
        made = NewEndpoint(
            id=endpoint, url=values["url"], events=values["events"], secret=self._sealer.seal(parse_secret(secret)),
            created_by=asker.id, terms=terms, keys=keys,
        )  # fmt: skip
        with refusals_answered():
            stored = await create_endpoint(self._pool, keyed, made, endpoints_max=self._endpoints_max)
        if stored is None:
            return json_reply(201, {**shown, "secret": secret})
        return replayed(digest, stored)

    async def endpoints(self, request: Request) -> Reply:
        """The tenant's endpoints, without secrets."""
        tenant = request.principal.tenant
        rows = await reads.endpoints(self._pool, tenant)
        shown = [self._shown(tenant, row) for row in rows]
        return json_reply(200, {"data": shown, "has_more": False, "next_cursor": None})

    async def show(self, request: Request) -> Reply:
        """An endpoint: how it is set up, whether it is called, and how it does."""
        return json_reply(200, self._shown(request.principal.tenant, await self._seen(request)))

    async def amend(self, request: Request) -> Reply:
        """Change where an endpoint is, what it hears of, or how it wants it."""
        values, in_body = read_fields(request.json, AMENDMENT)
        given = {name: value for name, value in values.items() if value is not NOT_GIVEN}
        if not given.keys() - {"version"}:
            raise of_violations([Violation("", "field_missing", "name at least one field to change")])
        self._vet(given.get("url"))
        seen = await self._seen(request)
        terms = terms_of(values, seen.terms)
        keys = seen.keys or ((self._new_key(),) if terms.asymmetric else ())
        amended = Amended(
            url=given.get("url", seen.url), events=given.get("events", seen.events), terms=terms, keys=keys
        )  # fmt: skip
        after = msgspec.structs.replace(
            seen, url=amended.url, events=amended.events, terms=terms, keys=keys, version=seen.version + 1
        )  # fmt: skip

        async def write(keyed: KeyedAnswer) -> StoredKey | None:
            if given.get("version", seen.version) != seen.version:
                return await intake.amend_endpoint(
                    self._pool, keyed, msgspec.structs.replace(seen, version=given["version"]), amended
                )
            return await intake.amend_endpoint(self._pool, keyed, seen, amended)

        return await self._give(request, in_body, "amend", given, self._shown(request.principal.tenant, after), write)

    async def disable(self, request: Request) -> Reply:
        """Call an endpoint no more; what is under way there still ends, and the rest is kept."""
        _, in_body = read_fields(request.json, NOTHING)
        seen, asker = await self._seen(request), request.principal
        after = msgspec.structs.replace(
            seen, status="disabled", version=seen.version + 1, disabled_at=seen.now, disabled_reason="asked",
            disabled_by=asker.id,
        )  # fmt: skip

        async def write(keyed: KeyedAnswer) -> StoredKey | None:
            return self._told(await intake.disable_endpoint(self._writer_pool, keyed, seen, self._switch(asker)))

        return await self._give(request, in_body, "disable", {}, self._shown(asker.tenant, after), write)

    async def enable(self, request: Request) -> Reply:
        """Call an endpoint again, what was kept for it first; say since when it was not called."""
        _, in_body = read_fields(request.json, NOTHING)
        seen, asker = await self._seen(request), request.principal
        after = msgspec.structs.replace(
            seen, status="enabled", version=seen.version + 1, disabled_at=None, disabled_reason=None, disabled_by=None
        )  # fmt: skip
        shown = self._shown(asker.tenant, after)
        if seen.disabled_at is not None:
            shown["recover"] = {"endpoint": seen.id, "since": seen.disabled_at}

        async def write(keyed: KeyedAnswer) -> StoredKey | None:
            return self._told(await intake.enable_endpoint(self._writer_pool, keyed, seen, self._switch(asker)))

        return await self._give(request, in_body, "enable", {}, shown, write)

    async def rotate(self, request: Request) -> Reply:
        """Give an endpoint a new secret, or a new key; the ones before sign for a while still."""
        values, in_body = read_fields(request.json, ROTATION)
        seen, tenant = await self._seen(request), request.principal.tenant
        kind, overlap = values["signature"], timedelta(seconds=values["overlap_seconds"])
        if kind == "v1":
            secret = generate_secret(secrets.token_bytes(SECRET_BYTES))
            made = rotated(seen.secrets, seen.secrets_until, self._sealer.seal(parse_secret(secret)), seen.now, overlap)
            after = msgspec.structs.replace(seen, secrets=made[0], secrets_until=made[1], version=seen.version + 1)
        else:
            secret = None
            made = rotated(seen.keys, seen.keys_until, self._new_key(), seen.now, overlap)
            after = msgspec.structs.replace(seen, keys=made[0], keys_until=made[1], version=seen.version + 1)

        async def write(keyed: KeyedAnswer) -> StoredKey | None:
            if len(made[0]) > SECRETS_MAX:
                raise Refusal("secrets_too_many", f"{SECRETS_MAX} sign already; wait, or rotate with overlap_seconds 0")
            return await intake.rotate_endpoint(self._pool, keyed, seen, kind, *made)

        shown = {**self._shown(tenant, after), "secret": None}
        return await self._give(request, in_body, "rotate", values, shown, write, secret)

    async def delete(self, request: Request) -> Reply:
        """Take an endpoint away for good; what still waits for it ends."""
        endpoint = request.path_id
        if not await intake.delete_endpoint(self._pool, request.principal.tenant, endpoint):
            raise Problem("not_found")
        return json_reply(200, {"id": endpoint, "status": "deleted"})

    async def keys(self, request: Request) -> Reply:
        """The public keys of an endpoint, for whoever verifies its `v1a` signatures."""
        tenant = request.params["tenant"]
        row = await reads.endpoint(self._pool, tenant, request.path_id) if is_tenant(tenant) else None
        if row is None or not row.keys:
            raise Problem("not_found")
        return json_reply(200, {"keys": self._public_keys(row)}, ((b"cache-control", b"public, max-age=300"),))

    async def _seen(self, request: Request) -> EndpointRow:
        row = await reads.endpoint(self._pool, request.principal.tenant, request.path_id)
        if row is None:
            raise Problem("not_found")
        return row

    async def _give(
        self,
        request: Request,
        in_body: str | None,
        what: str,
        asked: Mapping[str, Any],
        shown: dict[str, Any],
        write: _Write,
        secret: str | None = None,
    ) -> Reply:
        """Do what was asked with its key, and answer; or answer as the key did before."""
        endpoint = request.path_id
        digest = digest_of(f"endpoint/{what}", {"endpoint": endpoint, **msgspec.to_builtins(asked)})
        keyed = KeyedAnswer(
            tenant=request.principal.tenant, key=request.idempotency_key(in_body), digest=digest,
            subject=f"endpoint/{endpoint}", status=200, answer=msgspec.json.encode(shown),
            request_id=request.request_id,
        )  # fmt: skip
        with refusals_answered():
            stored = await write(keyed)
        if stored is None:
            return json_reply(200, shown if secret is None else {**shown, "secret": secret})
        return replayed(digest, stored)

    def _vet(self, url: str | None) -> None:
        """Object to a URL that no attempt would ever be let call; what its name leads to shows when it is called."""
        if url is None:
            return
        try:
            self._guard.vet_url(url)
        except AddressRefused as refused:
            raise of_violations([Violation("/url", "url_refused", refusal_told(refused))]) from None

    def _switch(self, asker: Principal) -> Switch:
        return Switch(command=self._new_id(), by=asker.id, role=asker.role, partitions=self._partitions)

    def _told(self, done: StoredKey | tuple[Outgoing, ...]) -> StoredKey | None:
        """Publish what tells of an endpoint, where something was done now."""
        if isinstance(done, StoredKey):
            return done
        self._sending.send_nowait(done)
        return None

    def _new_key(self) -> bytes:
        return self._sealer.seal(secrets.token_bytes(SECRET_BYTES))

    def _public(self, sealed: bytes) -> str:
        return public_key_text(self._sealer.open(sealed))

    def _public_keys(self, row: EndpointRow) -> list[dict[str, Any]]:
        return [
            {"key": self._public(key), "expires_at": end}
            for key, end in _with_ends(row.keys, row.keys_until)
            if end is None or end > row.now
        ]

    def _shown(self, tenant: str, row: EndpointRow) -> dict[str, Any]:
        live = [end for _, end in _with_ends(row.secrets, row.secrets_until) if end is None or end > row.now]
        return {
            "id": row.id, "url": row.url, "events": row.events, "status": row.status, "version": row.version,
            **_terms_shown(row.terms), "secrets": [{"expires_at": end} for end in live],
            "public_keys": self._public_keys(row), "created_by": row.created_by, "created_at": row.created_at,
            "disabled_at": row.disabled_at, "disabled_reason": row.disabled_reason, "disabled_by": row.disabled_by,
            "failing_since": row.failing_since, "sequence": row.sequence, "links": _links(tenant, row.id),
        }  # fmt: skip


def _with_ends(sealed: tuple[bytes, ...], until: tuple[datetime | None, ...]) -> list[tuple[bytes, datetime | None]]:
    return [(one, until[place] if place < len(until) else None) for place, one in enumerate(sealed)]


def _terms_shown(terms: EndpointTerms) -> dict[str, Any]:
    return {
        "mode": terms.mode, "api_version": terms.version, "fifo": terms.fifo,
        "signatures": ["v1", "v1a"] if terms.asymmetric else ["v1"], "schedule": terms.delays,
        "concurrency": terms.concurrency, "per_second": terms.per_second,
        "disable_after_seconds": terms.disable_after_seconds,
    }  # fmt: skip


def _links(tenant: str, endpoint: str) -> dict[str, str]:
    return {
        "self": f"/webhooks/endpoints/{endpoint}", "deliveries": f"/webhooks/deliveries?endpoint={endpoint}",
        "keys": KEYS_PATH.format(tenant=tenant, id=endpoint),
    }  # fmt: skip
