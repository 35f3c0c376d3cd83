"""The rails that an installation has: one adapter per configured rail, made when it is first asked for.

A rail whose settings change gets a new adapter; the old one is closed with the book."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from zentra.gateway.outward.http import OutwardHttp
from zentra.gateway.outward.rail_inline import InlineRail
from zentra.gateway.outward.rail_sandbox import SandboxRail
from zentra.runtime.rails.port import Rail, RailSettings

if TYPE_CHECKING:
    from zentra.gateway.spans import Spans

__all__ = ["RailBook"]


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
        made: Rail = InlineRail(wanted) if wanted.kind == "inline" else SandboxRail(wanted, self._http, self._spans)
        self._adapters[name] = made
        return made

    async def aclose(self) -> None:
        """Close every adapter that was made."""
        for rail in (*self._retired, *self._adapters.values()):
            await rail.aclose()
