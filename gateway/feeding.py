"""The feeds of tenants, copied by the worker that owns partition 0 for as long as somebody listens.

Who listens only the system account may ask, so this has a connection of its own. Where there is no such account, as on
a server without accounts, there are no feeds, and nothing else depends on them."""

import logging
from collections.abc import Callable
from typing import Final

import anyio

from zentra.gateway.production import nats_tls
from zentra.gateway.settings import Settings
from zentra.runtime.stream_ports import StreamError
from zentra.streams.accounts import system_url
from zentra.streams.connection import Connection, connect
from zentra.streams.tenant_feed import FeedInterest, FeedWorker

__all__ = ["copy_feeds"]

logger = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 30.0


async def copy_feeds(settings: Settings, client: Connection, owns: Callable[[], bool]) -> None:
    """Copy until cancelled, whenever `owns` says that it is this worker's to do."""
    while True:
        try:
            system = await connect(
                system_url(settings.nats_url, settings.secret_bytes()),
                name=f"{settings.worker_name} feeds",
                tls=nats_tls(settings),
            )
        except StreamError as error:
            logger.info("feeds wait for the system account", extra={"error": str(error)})
            await anyio.sleep(AGAIN_SECONDS)
            continue
        try:
            await FeedWorker(client, FeedInterest(system), owns).run()
        finally:
            with anyio.CancelScope(shield=True):
                await system.close()
