"""Dead letters for operators: what was set aside and where it stands, and one more try of its frame.

- A letter names the case that it opened; an old one does not, and there it is derived from what it holds. What retries
  a letter is named by the letter, so it happens once, whoever asks and however often.
- Whether the retry does anything is the engine's to say: an event whose version has passed changes nothing, and one
  that fails again leaves a letter of its own."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from zentra.actors.finishing import owner_of
from zentra.actors.resolving import CaseResolution
from zentra.actors.tick import derived_id
from zentra.gateway.production import assert_production, nats_tls
from zentra.gateway.settings import Settings
from zentra.runtime.errors import Refusal
from zentra.runtime.messages import Event, decode_frame
from zentra.runtime.subjects import DEAD
from zentra.storage.intake.commands import Command
from zentra.storage.intake.dead_letters import Retrial, register_retrials
from zentra.storage.pool import Pool, open_pool
from zentra.storage.reads.dead_letters import read_handlings
from zentra.streams.connection import Connection, connect
from zentra.streams.dead_letters import DeadLetter, dead_letter, dead_letters
from zentra.streams.topology import stream_state

__all__ = ["DeadLetters", "Shown", "operator_name"]

PAGE: Final = 100  # letters looked at together
NOBODY: Final = "-"


class Shown(Struct, frozen=True):
    """One letter as an operator sees it."""

    id: int
    at: datetime
    status: str
    stage: str
    partition: int
    tenant: str
    event: str
    reason: str
    cause: str
    case: str
    handled_by: str | None
    handled_at: datetime | None


class DeadLetters:
    """The letters of an installation."""

    def __init__(self, pool: Pool, client: Connection) -> None:
        self._pool, self._client = pool, client

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: Settings) -> AsyncIterator[DeadLetters]:
        """Yield them; raises SettingsError, Unavailable or StreamUnavailable."""
        settings.need("postgres_writer_url", "nats_url")
        assert_production(settings)
        async with AsyncExitStack() as stack:
            pool = await open_pool(settings.postgres_writer_url, name="zentra cli", connections_max=1)
            stack.push_async_callback(pool.close)
            client = await connect(settings.nats_url, name="zentra cli", tls=nats_tls(settings))
            stack.push_async_callback(client.close)
            yield cls(pool, client)

    async def oldest(self, limit: int, *, only_open: bool = False) -> list[Shown]:
        """Return at most `limit` letters, oldest first; raises Unavailable or StreamUnavailable."""
        shown: list[Shown] = []
        async for page in self._pages():
            shown += [one for one in await self._shown(page) if one.status == "open" or not only_open]
            if len(shown) >= limit:
                break
        return shown[:limit]

    async def retry(self, id: int, *, by: str, reason: str) -> bool:
        """Try a letter once more; return whether this is the first time.

        Raises Refusal where there is no such letter, or none that could be tried; Unavailable or StreamUnavailable."""
        letter = await dead_letter(self._client, id)
        if letter is None:
            raise Refusal("not_found", f"there is no letter {id}; see: zentra deadletters list")
        if not letter.stage:
            raise Refusal("letter_unreadable", f"letter {id} holds no frame that could be tried again")
        return bool(await register_retrials(self._pool, [_retrial(letter, by, reason)]))

    async def retry_all(self, *, by: str, reason: str) -> tuple[int, ...]:
        """Try every open letter once more that was there when this began; return which were. Raises as `retry` does.

        A letter that a failed retry leaves behind meanwhile is not among them, so this ends."""
        last = (await stream_state(self._client, DEAD)).last
        retried: list[int] = []
        async for page in self._pages():
            known = [letter for letter in page if letter.stage and letter.sequence <= last]
            handlings = await read_handlings(self._pool, [_names(letter) for letter in known])
            due = [letter for letter, where in zip(known, handlings, strict=True) if where.status == "open"]
            new = await register_retrials(self._pool, [_retrial(letter, by, reason) for letter in due])
            retried += [letter.sequence for letter in due if _names(letter)[0] in new]
            if page[-1].sequence >= last:
                break
        return tuple(retried)

    async def _shown(self, page: Sequence[DeadLetter]) -> list[Shown]:
        handlings = await read_handlings(self._pool, [_names(letter) for letter in page])
        rows = []
        for letter, where in zip(page, handlings, strict=True):
            event = _event(letter)
            rows.append(
                Shown(
                    letter.sequence, letter.at, where.status, letter.stage or NOBODY, letter.partition,
                    owner_of(event)[0], type(event).__name__ if event is not None else NOBODY, letter.reason,
                    letter.cause,
                    _names(letter)[1], where.by, where.at,
                )
            )  # fmt: skip
        return rows

    async def _pages(self) -> AsyncIterator[Sequence[DeadLetter]]:
        page: list[DeadLetter] = []
        async for letter in dead_letters(self._client):
            page.append(letter)
            if len(page) == PAGE:
                yield page
                page = []
        if page:
            yield page


def operator_name() -> str:
    """Return who is at the keyboard, for the record."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without users
        return "operator"


def _names(letter: DeadLetter) -> tuple[str, str]:
    """Return the ids of the command that retries a letter and of the case that it opened."""
    return derived_id("retry", letter.id), letter.case or derived_id("poison", letter.cause, letter.frame.hex())


def _event(letter: DeadLetter) -> Event | None:
    """Return the event of a letter, or None where its frame holds none."""
    try:
        events = decode_frame(letter.frame)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return events[0] if events else None


def _retrial(letter: DeadLetter, by: str, reason: str) -> Retrial:
    command, case = _names(letter)
    tenant, _ = owner_of(_event(letter))  # whose case it is
    body = CaseResolution(case, "retry", reason, None, "poison_message")
    given = Command(
        id=command, kind="resolve_case", subject=case, principal=by, role="operator", body=msgspec.json.encode(body),
        partition=letter.partition,
    )  # fmt: skip
    return Retrial(
        tenant=tenant, stage=letter.stage, frame=letter.frame, frame_id=derived_id("again", letter.id), command=given
    )
