"""The row of a rail: what its settings are held to before they are stored, and what of them is fixed when.

- The mode of a rail is fixed for ever.
- A rail stays who it is while a payment is under way that was given to it: at another address, a partner that never
  heard of the payment would say so, and it would be sent again.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from zentra.runtime.errors import Refusal
from zentra.runtime.rails.polling import flaw_of as polling_flaw
from zentra.runtime.rails.port import RailSettings, is_network
from zentra.storage.pool import Connection, Pool, transaction

__all__ = ["put_rail"]

RAIL_SECONDS_MAX: Final = 30 * 86_400  # whatever takes longer is no deadline but a mistake
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z", re.ASCII)


async def put_rail(pool: Pool, settings: RailSettings, *, moved: bool) -> bool:
    """Store the settings of a rail; return whether anything is different now. `moved` says that the same partner, who
    knows of the payments under way, is to be found elsewhere.

    Refuses `rail_malformed`, `rail_unsealed` (plain secrets), `rail_mode_fixed` (it is in the other world) and
    `rail_in_use` (another kind or address, while payments are under way)."""
    _check(not (settings.secret or settings.secrets), "rail_unsealed", f"the secrets of {settings.name} are plain")
    flaw = _flaw(settings)
    _check(flaw is None, "rail_malformed", str(flaw))
    async with transaction(pool) as connection:
        row = await connection.fetchval("select settings from rails where name = $1 for update", settings.name)
        if row is not None:
            await _check_change(connection, msgspec.json.decode(row, type=RailSettings), settings, moved=moved)
        return await connection.fetchval(_PUT, settings.name, msgspec.json.encode(settings).decode()) is not None


async def _check_change(connection: Connection, known: RailSettings, settings: RailSettings, *, moved: bool) -> None:
    name = settings.name
    _check(known.mode == settings.mode, "rail_mode_fixed", f"{name} is a {known.mode} rail; choose another name")
    if (known.kind, known.base_url) == (settings.kind, settings.base_url):
        return
    if known.kind == settings.kind and moved:
        return
    in_use = await connection.fetchval("select rail_in_use($1)", name)
    _check(not in_use, "rail_in_use", f"payments are under way over {name} at {known.base_url or known.kind}")


def _flaw(settings: RailSettings) -> str | None:
    """Return what is wrong with settings, or None."""
    if not _NAME.match(settings.name):
        return f"{settings.name!r}: 1 to 63 of a-z 0-9 . _ -"
    for name in msgspec.structs.fields(RailSettings):
        if name.type is float and not 0 <= getattr(settings, name.name) <= RAIL_SECONDS_MAX:
            return f"{name.name}: 0 to {RAIL_SECONDS_MAX}"
    if settings.concurrency_max < 1:
        return "concurrency_max: 1 or more"
    for network in settings.callback_networks:
        if not is_network(network):
            return f"callback_networks: {network!r} is no network in CIDR notation"
    if min(settings.burst, settings.waiting_max, settings.health_calls_min) < 0 or settings.probes_max < 1:
        return "counts are 0 or more, probes_max 1 or more"
    if not 0 <= settings.bad_percent_max <= 100:
        return "bad_percent_max: 0 to 100, 0 for never"
    if settings.health_window_seconds < 1:
        return "health_window_seconds: 1 or more"
    return polling_flaw(settings)


def _check(holds: object, reason: str, detail: str) -> None:
    if not holds:
        raise Refusal(reason, detail)


_PUT: Final = """
insert into rails as known (name, settings) values ($1, $2) on conflict (name) do update
set settings = excluded.settings where known.settings <> excluded.settings returning name
"""
