"""Throwing malformed requests at a running gateway, and judging what became of it.

- A connection that is left in an unknown state is closed; every answer is read whole, its status counted by kind.
- The verdict rests on what the gateway answered, on what its log says, on its memory, and on the rows of the store: as
  many new intents, keys and so on as sound requests were sent, and nothing else.
- What is refused because too much waits (503 `overloaded`) is no fault and is counted apart."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from zentra.bench.fuzzing.malformed import KINDS, SOUND, Thrown, requests
from zentra.gateway.installation.installation import Installation
from zentra.storage.pool import Pool, open_pool

__all__ = ["Verdict", "throw_at", "throw_at_installation"]

ANSWER_SECONDS_MAX: Final = 30.0
LINGER_SECONDS: Final = 0.02  # what is cut off gets no answer; so long it may be looked at
SAMPLES: Final = 50
WARM_SHARE: Final = 0.3  # of the requests: what is remembered of keys and connections has its size by then
GROWTH_MIB_MAX: Final = 16.0
TENANT: Final = "acme"
_TABLES: Final = ("intents", "idempotency", "accounts", "endpoints", "commands", "callbacks")
_MIB: Final = 1 << 20
_ERROR: Final = re.compile(r'"level": ?"(?:error|critical)"|^\S+ (?:error|critical) |^Traceback')


class Verdict(Struct, frozen=True):
    """What was thrown and what became of it; `faults` is empty where everything is as it has to be.

    `memory_mib` are samples of the gateway's resident memory, evenly over the requests; `rows` are new rows by table.
    """

    requests: int
    seconds: float
    by_kind: dict[str, dict[str, int]]
    overloaded: int
    rows: dict[str, int]
    postings: int
    memory_mib: list[float]
    grown_mib: float
    faults: list[str]


class _Tally:
    """What has been seen so far."""

    def __init__(self) -> None:
        self.by_kind: dict[str, Counter[str]] = {kind: Counter() for kind in (SOUND, *KINDS)}
        self.sound_taken: set[str] = set()
        self.overloaded = 0
        self.faults: list[str] = []

    def add(self, thrown: Thrown, status: int | None, body: bytes) -> None:
        """Count one answer; None is none."""
        self.by_kind[thrown.kind]["none" if status is None else str(status)] += 1
        changes = thrown.data.startswith(b"POST")
        if status == 503 and b'"overloaded"' in body:
            self.overloaded += 1
        elif thrown.kind == SOUND:
            if status == 202:
                self.sound_taken.add(thrown.key)
            else:
                self._fault(thrown, f"a sound request was answered {status}: {body[:200]!r}")
        elif status is None:
            if not thrown.alone and thrown.answered:
                self._fault(thrown, "no answer")
        elif status >= 500 or (changes and status < 400):
            self._fault(thrown, f"answered {status}: {body[:200]!r}")

    def _fault(self, thrown: Thrown, text: str) -> None:
        if len(self.faults) < 50:
            self.faults.append(f"{thrown.kind}: {thrown.data[:300]!r}: {text}")


def throw_at_installation(*, count: int, seed: int, connections: int = 16) -> Verdict:
    """Start an installation of its own, throw at its gateway, and return the verdict; raises what it raises."""
    with Installation() as running:
        pid = running.processes.pid("gateway-1")
        assert pid is not None, "an installation that has started has a gateway"
        verdict = asyncio.run(
            throw_at(
                running.base_url, running.keys[TENANT]["ops"], running.postgres_admin_url, pid,
                count=count, seed=seed, connections=connections,
            )
        )  # fmt: skip
        faults = list(verdict.faults)
        if running.processes.pid("gateway-1") != pid:
            faults.append("the gateway died and was started again")
        log = running.processes.log_path("gateway-1").read_text(encoding="utf-8", errors="replace")
        faults += [f"in the log: {line[:300]}" for line in log.splitlines() if _ERROR.search(line)]
    return _with_faults(verdict, faults)


async def throw_at(
    url: str, token: str, admin_url: str, pid: int, *, count: int, seed: int, connections: int = 16
) -> Verdict:
    """Return what became of a gateway at `url`, process `pid`, after `count` requests of one seed.

    Raises OSError where it cannot be reached at all, and Unavailable where its store cannot."""
    address, run = urlsplit(url), f"fuzz-{uuid.uuid4().hex[:12]}"
    tally, memory = _Tally(), [_resident_mib(pid)]
    thrown = _sampled(requests(seed, count, token, run), count, pid, memory)
    pool = await open_pool(admin_url, name="zentra fuzz", connections_max=1)
    try:
        before = await _rows(pool)
        postings = await _postings(pool, run)
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(_throw(str(address.hostname), address.port or 80, thrown, tally))
        seconds = time.monotonic() - began
        new = {table: rows - before[table] for table, rows in (await _rows(pool)).items()}
        foreign = await pool.fetchval(_FOREIGN, run)
        postings = await _postings(pool, run) - postings
    finally:
        await pool.close()
    memory.append(_resident_mib(pid))
    warm = memory[int(len(memory) * WARM_SHARE) :]
    grown = sum(warm[-5:]) / len(warm[-5:]) - sum(warm[:5]) / len(warm[:5])
    faults = [*tally.faults, *_faults_of_rows(new, len(tally.sound_taken), foreign, postings)]
    if grown > GROWTH_MIB_MAX:
        faults.append(f"the gateway has grown by {grown:.1f} MiB since it was warm")
    return Verdict(
        requests=sum(sum(counts.values()) for counts in tally.by_kind.values()), seconds=seconds,
        by_kind={kind: dict(sorted(counts.items())) for kind, counts in tally.by_kind.items()},
        overloaded=tally.overloaded, rows=new, postings=postings, memory_mib=[round(mib, 1) for mib in memory],
        grown_mib=round(grown, 2), faults=faults,
    )  # fmt: skip


def _faults_of_rows(new: dict[str, int], sound: int, foreign: int, postings: int) -> list[str]:
    expected = dict.fromkeys(_TABLES, 0) | {"intents": sound, "idempotency": sound}
    faults = [f"{new[table]} new rows in {table}, not {rows}" for table, rows in expected.items() if new[table] != rows]
    if foreign:
        faults.append(f"{foreign} keys or intents of requests that were not sound")
    if postings > sound:
        faults.append(f"{postings} postings for {sound} book transfers")
    return faults


async def _throw(host: str, port: int, thrown: Iterator[Thrown], tally: _Tally) -> None:
    """Send what comes, over one connection for as long as it lasts."""
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    for one in thrown:
        if writer is None or reader is None or one.alone:
            await _close(writer)
            reader, writer = await asyncio.open_connection(host, port)
        status, body, lasts = await _ask(reader, writer, one)
        tally.add(one, status, body)
        if one.alone or not lasts:
            await _close(writer)
            reader = writer = None
    await _close(writer)


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one: Thrown
) -> tuple[int | None, bytes, bool]:
    """Return status and body of the answer, None where there is none, and whether the connection goes on."""
    try:
        writer.write(one.data)
        await writer.drain()
        async with asyncio.timeout(ANSWER_SECONDS_MAX if one.answered and not one.alone else LINGER_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
            body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return None, b"", False
    return int(lines[0].split()[1]), body, headers.get(b"connection", b"").lower() != b"close"


async def _close(writer: asyncio.StreamWriter | None) -> None:
    if writer is not None:
        writer.close()
        with contextlib.suppress(ConnectionError):  # it was closed from the other side first
            await writer.wait_closed()


def _sampled(thrown: Iterator[Thrown], count: int, pid: int, memory: list[float]) -> Iterator[Thrown]:
    """Yield what is thrown, and look at the memory of the gateway from time to time."""
    step = max(count // SAMPLES, 1)
    for number, one in enumerate(thrown):
        if number % step == 0:
            memory.append(_resident_mib(pid))
        yield one


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / _MIB


async def _rows(pool: Pool) -> dict[str, int]:
    return {table: await pool.fetchval(f"select count(*) from zentra.{table}") for table in _TABLES}  # noqa: S608


async def _postings(pool: Pool, run: str) -> int:
    return int(await pool.fetchval(_POSTINGS, run))


def _with_faults(verdict: Verdict, faults: list[str]) -> Verdict:
    return Verdict(**{name: getattr(verdict, name) for name in Verdict.__struct_fields__} | {"faults": faults})


_FOREIGN: Final = """
select (select count(*) from zentra.intents where intent_id like $1 || '-%' and intent_id not like $1 || '-sound-%')
     + (select count(*) from zentra.idempotency where key like $1 || '-%' and key not like $1 || '-sound-%')
"""
_POSTINGS: Final = """
select count(*) from zentra.postings p join zentra.intents i on i.id = p.intent where i.intent_id like $1 || '-%'
"""
