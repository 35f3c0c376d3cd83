"""The rails that an installation has: one adapter per configured rail, made when it is first asked for.

- A rail whose settings change gets a new adapter; the old one is closed with the book.
- A rail whose adapter is not installed here stays a rail: it takes nothing, so that another one may be tried, and of
  what it may have taken elsewhere it knows nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from zentra.gateway.outward.http import OutwardHttp
from zentra.gateway.outward.rail_kinds import AdapterRefused, rail_kind
from zentra.runtime.errors import Unavailable
from zentra.runtime.rails.port import (
    UNKNOWN_CAUSE,
    Cause,
    Declaration,
    OutcomeStatus,
    Rail,
    RailOutcome,
    RailSettings,
    Submission,
    Verdict,
)

if TYPE_CHECKING:
    from zentra.gateway.spans import Spans

__all__ = ["MissingRail", "RailBook"]

logger = logging.getLogger(__name__)


class RailBook:
    """Adapters by name. `settings` returns the rails as they are configured now; `spans` makes one for every call."""

    def __init__(
        self, settings: Callable[[], Mapping[str, RailSettings]], http: OutwardHttp, spans: Spans | None = None
    ) -> None:
        self._settings, self._http, self._spans = settings, http, spans
        self._adapters: dict[str, Rail] = {}
        self._retired: list[Rail] = []

    def adapter(self, name: str) -> Rail | None:
        """Return the adapter of a rail, or None where no such rail is configured."""
        wanted = self._settings().get(name)
        known = self._adapters.get(name)
        if known is not None and known.settings is wanted:
            return known
        if wanted is None:
            return None
        if known is not None:
            if known.settings == wanted:
                return known
            self._retired.append(known)
        made = self._made(wanted)
        self._adapters[name] = made
        return made

    def _made(self, wanted: RailSettings) -> Rail:
        try:
            return rail_kind(wanted.kind).make(wanted, self._http, self._spans)
        except AdapterRefused as refused:
            logger.error("rail has no adapter", extra={"rail": wanted.name, "kind": wanted.kind, "why": str(refused)})
            return MissingRail(wanted)

    async def aclose(self) -> None:
        """Close every adapter that was made."""
        for rail in (*self._retired, *self._adapters.values()):
            await rail.aclose()


class MissingRail:
    """A rail that is set up, but whose adapter is not installed on this machine."""

    declaration = Declaration(callback_trust="none")

    def __init__(self, settings: RailSettings) -> None:
        self._settings = settings

    @property
    def settings(self) -> RailSettings:
        """What this rail was configured with."""
        return self._settings

    async def submit(self, submission: Submission) -> RailOutcome:
        """Return `not_accepted`: nobody was asked."""
        return RailOutcome(
            self._settings.name, submission.reference, OutcomeStatus.NOT_ACCEPTED, reason="adapter_missing"
        )

    async def poll(self, reference: str, cause: Cause = UNKNOWN_CAUSE) -> RailOutcome:
        """Return `unknown`: nobody was asked."""
        return RailOutcome(
            self._settings.name, reference, OutcomeStatus.UNKNOWN, reason="adapter_missing", trust="polled"
        )

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        """Raises Unavailable always: the partner is to come back, perhaps to a machine that can read it."""
        raise Unavailable(f"the adapter of rail {self._settings.name} is not installed here")

    def ack(self, verdict: Verdict) -> None:
        """Return None: nobody here knows the partner's words."""

    async def aclose(self) -> None:
        """There is nothing to give back."""
