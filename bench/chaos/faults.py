"""The faults themselves: each hits a real process, a real store or the consumer, and puts it back.

- A fault is a pair of times: the hit, and the moment from which nothing is wrong any more (the process answers again,
  the signal was sent, the limit is back). Recovery is counted from the second.
- Whatever a fault took away is put back before it returns, also when the run is broken off in the middle of it."""

import asyncio
import os
import shutil
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from zentra.bench.chaos.consumer import Mood
from zentra.bench.chaos.moods import RailMood
from zentra.bench.chaos.plan import Fault, Planned
from zentra.bench.chaos.rail import BANKS, SANDBOXES
from zentra.bench.chaos.site import Site
from zentra.gateway.devstack.processes import ServerProcess
from zentra.runtime.rails.operating import Maintenance
from zentra.runtime.subjects import COMMANDS
from zentra.storage.errors import translated
from zentra.storage.operations import drain_rail, lift_maintenance, set_maintenance
from zentra.streams.connection import connect

__all__ = ["Hit", "inject"]

MOODS: Final[Mapping[Fault, RailMood]] = {
    Fault.BANK_HANGS: RailMood.HANGS,
    Fault.BANK_FAILS: RailMood.FAILS,
    Fault.BANK_REFUSES: RailMood.REFUSES,
    Fault.CALLBACKS_LOST: RailMood.LOSES,
    Fault.CALLBACKS_DOUBLED: RailMood.DOUBLES,
    Fault.CALLBACKS_DISORDERED: RailMood.DISORDERS,
    Fault.CALLBACKS_EARLY: RailMood.HURRIES,
    Fault.CALLBACKS_FORGED: RailMood.FORGES,
    Fault.CALLBACKS_CONTRADICT: RailMood.CONTRADICTS,
}
REST_SECONDS: Final = 1.5  # until what was decided before has been sent
RESTING: Final = frozenset({Fault.RAIL_DRAINED, Fault.RAIL_MAINTAINED})
MEMBERS_EXPIRED_EVERY_SECONDS: Final = 0.3  # far below the third of a lease in which members renew themselves
ADMIN_SECONDS_MAX: Final = 5.0


class Hit(Struct, kw_only=True):
    """What was done: unix times of the hit and of its end, and the worker or rail that it concerned, if any; `wrong` is
    what may not have happened meanwhile."""

    fault: Fault
    hit_at: float
    ended_at: float
    worker: str = ""
    rail: str = ""
    partitions: tuple[int, ...] = ()
    note: str = ""
    wrong: str = ""


async def inject(site: Site, planned: Planned) -> Hit:
    """Do what is planned and return what was done; raises what the servers' own administration raises."""
    hit = Hit(fault=planned.fault, hit_at=time.time(), ended_at=0.0)
    await _FAULTS[planned.fault](site, planned, hit)
    hit.ended_at = time.time()
    if planned.fault in MOODS:
        taken = await asyncio.to_thread(site.rails.taken, hit.rail, hit.hit_at, hit.ended_at)
        hit.note = f"it took {taken} payments meanwhile"
    if planned.fault in RESTING:
        late = await asyncio.to_thread(site.rails.taken, hit.rail, hit.hit_at + REST_SECONDS, hit.ended_at)
        hit.wrong = f"it was sent {late} payments while it rested" if late else ""
    return hit


async def _gateway_killed(site: Site, planned: Planned, hit: Hit) -> None:
    await _process_killed(site, "gateway-1", planned.lasts)


async def _worker_killed(site: Site, planned: Planned, hit: Hit) -> None:
    hit.worker = f"worker-{planned.victim}"
    hit.partitions = await _owned(site, hit.worker)
    await _process_killed(site, hit.worker, planned.lasts)


async def _process_killed(site: Site, name: str, seconds: float) -> None:
    processes = site.installation.processes
    await asyncio.to_thread(processes.kill, name)
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.to_thread(processes.start, name)


async def _rail_killed(site: Site, planned: Planned, hit: Hit) -> None:
    hit.rail = tuple(SANDBOXES)[planned.victim - 1]
    await _server_killed(site.rails.servers[hit.rail], planned.lasts)


async def _bank_killed(site: Site, planned: Planned, hit: Hit) -> None:
    hit.rail = tuple(BANKS)[planned.victim - 1]
    await _server_killed(site.rails.servers[hit.rail], planned.lasts)


async def _bank_moody(site: Site, planned: Planned, hit: Hit) -> None:
    hit.rail = tuple(BANKS)[planned.victim - 1]
    await asyncio.to_thread(site.rails.feel, hit.rail, MOODS[planned.fault])
    try:
        await asyncio.sleep(planned.lasts)
    finally:
        await asyncio.to_thread(site.rails.feel, hit.rail, RailMood.WELL)


async def _rail_drained(site: Site, planned: Planned, hit: Hit) -> None:
    hit.rail = tuple(BANKS)[planned.victim - 1]
    await drain_rail(site.pool, hit.rail, draining=True, reason="chaos", by="chaos")
    try:
        await asyncio.sleep(planned.lasts)
    finally:
        await drain_rail(site.pool, hit.rail, draining=False, reason="chaos", by="chaos")


async def _rail_maintained(site: Site, planned: Planned, hit: Hit) -> None:
    hit.rail = tuple(BANKS)[planned.victim - 1]
    now = datetime.now(UTC)
    await set_maintenance(site.pool, hit.rail, Maintenance(now, now + timedelta(hours=1), "chaos"), by="chaos")
    try:
        await asyncio.sleep(planned.lasts)
    finally:
        await lift_maintenance(site.pool, hit.rail, by="chaos")


async def _nats_killed(site: Site, planned: Planned, hit: Hit) -> None:
    await _server_killed(site.installation.servers.nats, planned.lasts)


async def _postgres_killed(site: Site, planned: Planned, hit: Hit) -> None:
    await _server_killed(site.installation.servers.postgres, planned.lasts)


async def _redis_stopped(site: Site, planned: Planned, hit: Hit) -> None:
    await _server_killed(site.installation.servers.redis, planned.lasts)


async def _server_killed(server: ServerProcess, seconds: float) -> None:
    await asyncio.to_thread(server.kill)
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.to_thread(server.restart)


async def _worker_stopped(site: Site, planned: Planned, hit: Hit) -> None:
    hit.worker = f"worker-{planned.victim}"
    hit.partitions = await _owned(site, hit.worker)
    pid = site.installation.processes.pid(hit.worker)
    assert pid is not None, "a worker that is stopped was running"
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(planned.lasts)
        taken = set(hit.partitions) - set(await _owned(site, hit.worker))
        hit.note = f"{len(taken)} of {len(hit.partitions)} partitions were taken over"
    finally:
        os.kill(pid, signal.SIGCONT)


async def _workers_fight(site: Site, planned: Planned, hit: Hit) -> None:
    """Let first one worker and then the other look dead to its peer while it works on."""
    moves = 0
    ends = asyncio.get_running_loop().time() + planned.lasts
    owners = await _owners(site)
    while (left := ends - asyncio.get_running_loop().time()) > 0:
        first = left > planned.lasts / 2
        victim = planned.victim if first else 3 - planned.victim
        with translated():
            await site.pool.execute(
                "update members set seen_at = seen_at - interval '1 hour' where worker = $1", f"worker-{victim}"
            )
        await asyncio.sleep(MEMBERS_EXPIRED_EVERY_SECONDS)
        now = await _owners(site)
        moves += sum(now[partition] != owner for partition, owner in owners.items())
        owners = now
    hit.partitions = tuple(owners)
    hit.note = f"leases changed hands {moves} times"


async def _redis_emptied(site: Site, planned: Planned, hit: Hit) -> None:
    address = urlsplit(site.installation.redis_url)
    await asyncio.to_thread(_flush, str(address.hostname), int(address.port or 0))


def _flush(host: str, port: int) -> None:
    with socket.create_connection((host, port), ADMIN_SECONDS_MAX) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        said = connection.recv(16)
    if not said.startswith(b"+OK"):
        raise OSError(f"redis was not emptied: {said!r}")


async def _webhook_hangs(site: Site, planned: Planned, hit: Hit) -> None:
    await _mood(site, Mood.HANGS, planned.lasts)


async def _webhook_times_out(site: Site, planned: Planned, hit: Hit) -> None:
    await _mood(site, Mood.SLOW, planned.lasts)


async def _webhook_fails(site: Site, planned: Planned, hit: Hit) -> None:
    await _mood(site, Mood.FAILS, planned.lasts)


async def _mood(site: Site, mood: Mood, seconds: float) -> None:
    site.consumer.mood = mood
    try:
        await asyncio.sleep(seconds)
    finally:
        site.consumer.mood = Mood.WELL


async def _nats_rolled_back(site: Site, planned: Planned, hit: Hit) -> None:
    """Copy the store of a stopped server, let it run on, and come back from a crash with the copy."""
    nats = site.installation.servers.nats
    store = site.installation.servers.data_dir / "nats"
    copy = store.with_name("nats.copy")
    await asyncio.to_thread(_stopped_for, nats, lambda: _copy(store, copy))
    await asyncio.sleep(planned.lasts)
    await asyncio.to_thread(nats.kill)
    await asyncio.to_thread(_replace, store, copy)
    await asyncio.to_thread(nats.restart)
    hit.note = f"what NATS stored in {planned.lasts:.1f} s was lost"


def _stopped_for(server: ServerProcess, work: Callable[[], None]) -> None:
    server.request_stop()
    server.wait_stopped()
    try:
        work()
    finally:
        server.restart()


def _copy(store: Path, copy: Path) -> None:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(store, copy)


def _replace(store: Path, copy: Path) -> None:
    shutil.rmtree(store)
    copy.rename(store)


class _Stream(Struct):
    config: dict[str, Any]
    state: dict[str, Any]


async def _stream_full(site: Site, planned: Planned, hit: Hit) -> None:
    client = await connect(site.installation.settings.nats_url, name="chaos operator")
    try:
        found = await client.call(f"STREAM.INFO.{COMMANDS}", None, _Stream, deadline_s=ADMIN_SECONDS_MAX)
        limit = max(1, int(found.state["messages"]))
        full = found.config | {"max_msgs": limit}
        await client.call(f"STREAM.UPDATE.{COMMANDS}", full, _Stream, deadline_s=ADMIN_SECONDS_MAX)
        try:
            await asyncio.sleep(planned.lasts)
        finally:
            await client.call(f"STREAM.UPDATE.{COMMANDS}", found.config, _Stream, deadline_s=ADMIN_SECONDS_MAX)
        hit.note = f"it took no message beyond {limit}"
    finally:
        await client.close()


async def _owned(site: Site, worker: str) -> tuple[int, ...]:
    return tuple(sorted(partition for partition, owner in (await _owners(site)).items() if owner == worker))


async def _owners(site: Site) -> dict[int, str | None]:
    with translated():
        return {row[0]: row[1] for row in await site.pool.fetch("select partition, owner from leases")}


_FAULTS: Final[Mapping[Fault, Callable[[Site, Planned, Hit], Awaitable[None]]]] = {
    Fault.GATEWAY_KILLED: _gateway_killed,
    Fault.WORKER_KILLED: _worker_killed,
    Fault.RAIL_KILLED: _rail_killed,
    Fault.NATS_KILLED: _nats_killed,
    Fault.POSTGRES_KILLED: _postgres_killed,
    Fault.WORKER_STOPPED: _worker_stopped,
    Fault.WORKERS_FIGHT: _workers_fight,
    Fault.REDIS_EMPTIED: _redis_emptied,
    Fault.REDIS_STOPPED: _redis_stopped,
    Fault.WEBHOOK_HANGS: _webhook_hangs,
    Fault.WEBHOOK_TIMES_OUT: _webhook_times_out,
    Fault.WEBHOOK_FAILS: _webhook_fails,
    Fault.NATS_ROLLED_BACK: _nats_rolled_back,
    Fault.STREAM_FULL: _stream_full,
    Fault.BANK_KILLED: _bank_killed,
    Fault.RAIL_DRAINED: _rail_drained,
    Fault.RAIL_MAINTAINED: _rail_maintained,
    **dict.fromkeys(MOODS, _bank_moody),
}
