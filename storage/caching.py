"""Connections to Redis as every cache here wants them: no retries, short waits, nothing sent before the first use."""

from __future__ import annotations

from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

__all__ = ["TIMEOUT_SECONDS_MAX", "empty_redis", "open_redis"]

TIMEOUT_SECONDS_MAX: Final = 0.1  # a request waits this long for a server that hangs, once a second
TLS_CONNECT_SECONDS_MAX: Final = 0.5  # reading the authorities and shaking hands takes 50 ms where nothing else runs


def open_redis(url: str, *, connections_max: int) -> Redis:
    """Return a client of `url`; a server that is not there is found out at the first use."""
    secure = url.startswith("rediss://")
    return Redis.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS_MAX,
        socket_connect_timeout=TLS_CONNECT_SECONDS_MAX if secure else TIMEOUT_SECONDS_MAX,
        retry=Retry(NoBackoff(), 0),
        max_connections=connections_max,
        protocol=2,
        driver_info=None,
    )


async def empty_redis(url: str) -> None:
    """Forget every key of the server, as an operator's mistake would. Raises OSError where it is away."""
    client = open_redis(url, connections_max=1)
    try:
        await client.flushall()
    except RedisError as error:
        raise OSError("Redis does not answer") from error
    finally:
        await client.aclose()
