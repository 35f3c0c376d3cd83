"""Frames that the stream had acknowledged and lost while no worker was there to see them: a store of before, a purge.

No checkpoint is contradicted, so nothing in the stream tells of the loss; the rows that nobody consumed do."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator

import aiohttp
import pytest

from tests.scenarios.conftest import QUICK
from tests.scenarios.people import Books, Person, intent_body, until
from tests.scenarios.test_crash import everything_is_there_once, load_of, tell
from zentra.bench.measuring.generator import run_load
from zentra.gateway.installation.installation import Installation
from zentra.streams.connection import connect
from zentra.streams.topology import purge_commands, stream_state

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(120)]

UNANSWERED = "select count(*) from commands c where not exists (select from command_outcomes where command = c.id)"
ANY_SENT = "select count(*) from outbox where sent_at is not null and subject like 'zc.%.policy'"
SENT = "select count(*) from outbox where sent_at is not null and subject like 'zc.%.command'"


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """An installation of its own: what these tests break, no other test has to live with."""
    with Installation(rail_timing=QUICK) as running:
        yield running


def stop_with_copy(installation: Installation) -> None:
    """Keep the store of the streams as it is now."""
    nats, store = installation.servers.nats, installation.servers.data_dir / "nats"
    nats.request_stop()
    nats.wait_stopped()
    shutil.copytree(store, store.with_name("nats.copy"))
    nats.restart()


def crash_into_copy(installation: Installation) -> None:
    """Lose what the streams stored since, as a disk does that had not been synced."""
    nats, store = installation.servers.nats, installation.servers.data_dir / "nats"
    nats.kill()
    shutil.rmtree(store)
    store.with_name("nats.copy").rename(store)
    nats.restart()


async def lost_metric(installation: Installation) -> float:
    """Return how many frames the workers say were lost."""
    total = 0.0
    async with aiohttp.ClientSession() as session:
        for url in installation.metrics_urls:
            async with session.get(url) as answer:
                for line in (await answer.text()).splitlines():
                    if line.startswith("zentra_frames_lost_total "):
                        total += float(line.split()[1])
    return total


@pytest.mark.parametrize("how", ["rolled back", "purged by hand"])
async def test_what_was_lost_before_anybody_consumed_it_is_sent_again(
    installation: Installation, dev: Person, how: str
) -> None:
    """The timers of the intents would ask again for them; for what people said, nothing but the rows can."""
    load = load_of(installation, f"lost-{how.split()[0]}", 300, "http", rate=300)
    processes = installation.processes
    async with Books.opened(installation) as books:
        await asyncio.to_thread(processes.kill, "worker-1")
        if how == "rolled back":
            await asyncio.to_thread(stop_with_copy, installation)
        while not await books.count(ANY_SENT):  # the gateway has to find the server again
            await dev.post("/runtime/intents", intent_body())
        made = [(await dev.post("/runtime/intents", intent_body())).json["intent_id"] for _ in range(20)]
        said = await asyncio.gather(*(dev.post(f"/runtime/intents/{name}/cancel", {}) for name in made))
        assert {answer.status for answer in said} == {202}
        report = await run_load(load)
        assert report.refused == 0
        await until(lambda: books.count(SENT), lambda count: count >= 10)
        if how == "rolled back":
            await asyncio.to_thread(crash_into_copy, installation)
        else:
            client = await connect(installation.settings.nats_url, name="test")
            await purge_commands(client, (await stream_state(client, "ZC")).last + 1)
            await client.close()
        await asyncio.to_thread(processes.start, "worker-1")
        started = time.monotonic()
        seconds = await everything_is_there_once(installation, load, started)
        await until(lambda: books.count(UNANSWERED), lambda count: count == 0)
        assert await lost_metric(installation) > 0
    tell(f"{how}: all complete {seconds:.2f} s after the worker was ready")
