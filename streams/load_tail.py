"""The load reports of workers, for gateways: what is said from now on, by every worker of the installation.

A report is advice. Nothing is kept and nothing is asked for again; bytes that hold none are passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from zentra.runtime.messages import Load, decode_load
from zentra.runtime.subjects import LOAD_SUBJECTS
from zentra.streams.connection import Connection
from zentra.streams.errors import failure_of_exception

__all__ = ["LoadTail"]

_log = logging.getLogger(__name__)


class LoadTail:
    """Calls `heard` with every report; `heard` does not wait."""

    def __init__(self, client: Connection, heard: Callable[[Load], None]) -> None:
        self._client, self._heard = client, heard
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Listen from now on, also after the connection was lost and found. Raises StreamUnavailable without one."""
        try:
            self._subscription = await self._client.subscribe(LOAD_SUBJECTS, cb=self._on_message)
        except nats.errors.Error as error:
            raise failure_of_exception(error) from error

    async def stop(self) -> None:
        """Listen no more."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self._client.is_closed:
            await subscription.unsubscribe()

    async def _on_message(self, message: Msg) -> None:
        try:
            load = decode_load(message.data)
        except msgspec.MsgspecError as error:
            _log.warning("load report cannot be read", extra={"subject": message.subject, "error": str(error)})
            return
        self._heard(load)
