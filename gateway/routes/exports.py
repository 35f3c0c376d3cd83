"""The doors to exports that a worker makes: ask for one, look at it, fetch its file.

- What is asked is fixed at once, its end at the latest 90 s ago; so the file is the same whoever makes it.
- The file is stored until it expires, and any gateway hands it out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec

from zentra.gateway.doors.commands import replayed
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.downloads import Download
from zentra.gateway.http.fields import SCHEMAS, Check, Field, Objection, identifier, one_of, read_fields
from zentra.gateway.http.lists import CREATED, Lists, checked_query, time
from zentra.gateway.http.problems import Problem
from zentra.gateway.routes.packets import uuid_of
from zentra.runtime.errors import Refusal
from zentra.runtime.intents.command import digest_of
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.storage.identifiers import Uuid7
from zentra.storage.intake.export_jobs import (
    PART_BYTES,
    ExportJob,
    JobAsked,
    JobKey,
    JobPlace,
    ask_export,
    export_job,
    export_jobs,
    export_part,
)
from zentra.storage.pool import Pool

__all__ = ["EXPORT", "JOB_FILTERS", "TAR_TYPE", "ExportRoutes"]

TAR_TYPE: Final = "application/x-tar"
RETRY_SECONDS: Final = 5
STATES: Final = ("waiting", "running", "done", "failed", "expired")
KINDS: Final = sorted(one.value for one in IntentKind)


def kinds(value: Any) -> list[str]:
    """Return kinds of intents, each once, in order."""
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one in KINDS for one in value):
        raise Objection("kind_unknown", f"a list of {', '.join(KINDS)}")
    return sorted(set(value))


SCHEMAS[kinds] = {"type": "array", "minItems": 1, "items": {"type": "string", "enum": KINDS}}
EXPORT: Final[Mapping[str, Field]] = {
    "since": Field(time, None), "until": Field(time, None), "types": Field(kinds, None),
}  # fmt: skip
JOB_FILTERS: Final[Mapping[str, Check]] = {**CREATED, "actor": identifier, "state": one_of("state_unknown", *STATES)}


class ExportRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, lists: Lists) -> None:
        self._pool, self._lists, self._new_id = pool, lists, Uuid7()

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        return [
            Route("POST", "/evidence/exports", self.ask, P.EVIDENCE_READ, body="json or nothing"),
            Route("GET", "/evidence/exports/jobs", self.jobs, P.EVIDENCE_READ),
            Route("GET", "/evidence/exports/{id}", self.show, P.EVIDENCE_READ),
            Route("GET", "/evidence/exports/{id}/content", self.content, P.EVIDENCE_READ),
        ]

    async def ask(self, request: Request) -> Reply:
        """Have an export made."""
        values, in_body = read_fields(request.json, EXPORT)
        told = {name: None if values[name] is None else values[name].isoformat() for name in ("since", "until")}
        digest = digest_of("evidence/export", {**told, "types": values["types"]})
        key = JobKey(request.idempotency_key(in_body), digest, request.request_id)
        who = request.principal
        asked = JobAsked(id=str(self._new_id()), tenant=who.tenant, actor=who.id, role=who.role, **values)
        try:
            done = await ask_export(self._pool, asked, key, lambda job: msgspec.json.encode(_shown(job)))
        except Refusal as refusal:
            again = RETRY_SECONDS if refusal.reason == "exports_too_many" else None
            raise Problem(refusal.reason, refusal.detail, retry_after=again) from None
        if isinstance(done, ExportJob):
            return json_reply(202, _shown(done), (_location(f"evidence/exports/{done.id}"),))
        return replayed(key.digest, done, (_location(done.subject),))

    async def jobs(self, request: Request) -> Reply:
        """A page of what was asked for, the latest first."""
        asked = self._lists.asked(request, JOB_FILTERS, JobPlace)
        found = await export_jobs(self._pool, asked.tenant, asked.filters, after=asked.after, limit=asked.limit)
        return asked.page([_shown(one) for one in found.rows], found.after)

    async def show(self, request: Request) -> Reply:
        """One export, and how far it is."""
        checked_query(request, {})
        return json_reply(200, _shown(await self._job(request)))

    async def content(self, request: Request) -> Reply:
        """The finished file."""
        checked_query(request, {})
        job = await self._job(request)
        if job.state == "expired":
            raise Problem("export_expired")
        if job.state != "done" or job.bytes is None:
            raise Problem("export_not_done", f"it is {job.state}", retry_after=RETRY_SECONDS)
        headers = (
            (b"content-type", TAR_TYPE.encode()), (b"etag", b'"%b"' % str(job.sha256).encode()),
            (b"content-disposition", b'attachment; filename="%b.tar"' % job.id.encode()),
        )  # fmt: skip
        return Reply(200, b"", stream=Download(job.bytes, headers, self._parts(request.principal.tenant, job)))

    async def _parts(self, tenant: str, job: ExportJob) -> AsyncIterator[bytes]:
        for number in range(-(-(job.bytes or 0) // PART_BYTES)):
            content = await export_part(self._pool, tenant, job.id, number)
            if content is None:
                raise Problem("export_expired")
            yield content

    async def _job(self, request: Request) -> ExportJob:
        job = await export_job(self._pool, request.principal.tenant, uuid_of(request.params["id"]))
        if job is None:
            raise Problem("not_found")
        return job


def _shown(job: ExportJob) -> dict[str, Any]:
    path = f"/evidence/exports/{job.id}"
    links = {"self": path, "content": f"{path}/content"} if job.state == "done" else {"self": path}
    return {**msgspec.structs.asdict(job), "links": links}


def _location(path: str) -> tuple[bytes, bytes]:
    return b"location", b"/" + path.encode()
