"""Types that the shapes of several answers share; see `shapes` for what they are for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

__all__ = ["Code", "Digits", "Hash", "HoldStanding", "Uuid"]

Digits = Annotated[str, Meta(pattern="^-?[0-9]+$", description="minor units, as digits: sums may be wide")]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256, hexadecimal")]
Uuid = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Code = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$")]


class HoldStanding(Struct, frozen=True):
    """How a hold stood after this event."""

    captured: Digits
    expires_at: datetime
    remaining: Digits
