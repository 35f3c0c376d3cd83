"""Fixtures shared by every test: one embedded stack per session, started when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from zentra.gateway.devstack.stack import DevStack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the servers, so that the fast tests can be chosen without naming them."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.service)


@pytest.fixture(scope="session")
def stack() -> Iterator[DevStack]:
    """Postgres, NATS and Redis in a temporary directory, for the whole session."""
    with DevStack() as running:
        yield running


@pytest.fixture(scope="session")
def postgres_admin_url(stack: DevStack) -> str:
    """The superuser's URL."""
    return stack.postgres_url


@pytest.fixture(scope="session")
def nats_url(stack: DevStack) -> str:
    """The URL of NATS, without accounts."""
    return stack.nats_url


@pytest.fixture(scope="session")
def redis_url(stack: DevStack) -> str:
    """The URL of the Redis-compatible server."""
    return stack.redis_url
