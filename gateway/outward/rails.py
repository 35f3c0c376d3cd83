"""The rails that an installation has: one adapter per configured rail, made when it is first asked for.

- A rail whose settings change gets a new adapter; the old one is closed with the book.
- A rail whose adapter is not installed here or cannot be made, or whose secrets do not open here, stays a rail: it
  takes nothing, so that another one may be tried, and of what it may have taken elsewhere it knows nothing. Whatever
  the class of another package raises when it is made, `adapter` raises nothing.
- Secrets are open in the adapters alone: the settings that are handed around hold them sealed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from zentra.gateway.outward.http import OutwardHttp
from zentra.gateway.outward.rail_kinds import AdapterRefused, adapter_of
from zentra.gateway.outward.rail_secrets import RailSecretUnreadable, at_rest
from zentra.runtime.errors import Unavailable
from zentra.runtime.instruments import SILENCE, Instruments
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
    """Adapters by name. `settings` returns the rails as they are configured now; `spans` makes one for every call;
    `opened` opens the secrets of one, or raises RailSecretUnreadable."""

    def __init__(
        self,
        settings: Callable[[], Mapping[str, RailSettings]],
        http: OutwardHttp,
        spans: Spans | None = None,
        *,
        opened: Callable[[RailSettings], RailSettings],
        instruments: Instruments = SILENCE,
    ) -> None:
        self._settings, self._http, self._spans, self._opened = settings, http, spans, opened
        self._instruments = instruments
        self._adapters: dict[str, tuple[RailSettings, Rail]] = {}  # with the settings that each was made of
        self._retired: list[Rail] = []

    def adapter(self, name: str) -> Rail | None:
        """Return the adapter of a rail, or None where no such rail is configured."""
        wanted = self._settings().get(name)
        if wanted is None:
            return None
        known = self._adapters.get(name)
        if known is not None:
            if known[0] is wanted or known[0] == wanted:
                return known[1]
            self._retired.append(known[1])
        made = self._made(wanted)
        self._adapters[name] = wanted, made
        return made

    def _made(self, wanted: RailSettings) -> Rail:
        if at_rest(wanted) == "plain":
            logger.warning("secrets of a rail are stored in plain text: zentra rails seal", extra={"rail": wanted.name})
        try:
            return adapter_of(self._opened(wanted), self._http, self._spans)
        except AdapterRefused as refused:
            logger.error("rail has no adapter", extra={"rail": wanted.name, "kind": wanted.kind, "why": str(refused)})
            missing = MissingRail(wanted)
            if refused.reason == "adapter_unusable":
                missing = MissingRail(wanted, refused.reason, f"the adapter of rail {wanted.name} cannot be made here")
        except RailSecretUnreadable as unreadable:
            logger.error("rail has no secrets", extra={"rail": wanted.name, "why": unreadable.detail})
            missing = MissingRail(wanted, unreadable.reason, unreadable.detail)
        self._instruments.count("outward_faults", {"call": "adapter"})
        return missing

    async def aclose(self) -> None:
        """Close every adapter that was made."""
        for rail in (*self._retired, *(made for _, made in self._adapters.values())):
            await rail.aclose()


class MissingRail:
    """A rail that is set up and cannot be asked from here: its adapter is not installed or cannot be made, or its
    secrets do not open."""

    declaration = Declaration(callback_trust="none")

    def __init__(self, settings: RailSettings, reason: str = "adapter_missing", why: str = "") -> None:
        self._settings, self._reason = settings, reason
        self._why = why or f"the adapter of rail {settings.name} is not installed here"

    @property
    def settings(self) -> RailSettings:
        """What this rail was configured with."""
        return self._settings

    async def submit(self, submission: Submission) -> RailOutcome:
        """Return `not_accepted`: nobody was asked."""
        return RailOutcome(self._settings.name, submission.reference, OutcomeStatus.NOT_ACCEPTED, reason=self._reason)

    async def poll(self, reference: str, cause: Cause = UNKNOWN_CAUSE) -> RailOutcome:
        """Return `unknown`: nobody was asked."""
        return RailOutcome(self._settings.name, reference, OutcomeStatus.UNKNOWN, reason=self._reason, trust="polled")

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        """Raises Unavailable always: the partner is to come back, perhaps to a machine that can read it."""
        raise Unavailable(self._why)

    def ack(self, verdict: Verdict) -> None:
        """Return None: nobody here knows the partner's words."""

    async def aclose(self) -> None:
        """There is nothing to give back."""
