"""A whole installation with everything in processes of its own, and the people who use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.scenarios.people import Books, Person
from zentra.gateway.installation.installation import Installation

# A silent rail has to be given up within a test; the rest is as in production.
QUICK = {"submit_timeout_seconds": 1.0, "poll_after_seconds": 0.5, "deadline_seconds": 3.0}


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """Servers, a gateway, a worker and a sandbox rail, shared by the stories of this folder."""
    with Installation(rail_timing=QUICK) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Connections to the gateway, as many as a test wants at once."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as opened:
        yield opened


@pytest.fixture
def dev(installation: Installation, session: aiohttp.ClientSession) -> Person:
    """The developer of acme."""
    return Person(installation, session, "acme", "dev")


@pytest.fixture
def ops(installation: Installation, session: aiohttp.ClientSession) -> Person:
    """The operator of acme."""
    return Person(installation, session, "acme", "ops")


@pytest.fixture
async def books(installation: Installation) -> AsyncIterator[Books]:
    """What the store holds, seen past every door."""
    async with Books.opened(installation) as opened:
        yield opened
