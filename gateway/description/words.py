"""The words that answers are made of: texts of one form each."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

__all__ = ["Code", "Digits", "Hash", "Uuid"]

Digits = Annotated[str, Meta(pattern="^-?[0-9]+$", description="minor units, as digits: sums may be wide")]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256, hexadecimal")]
Uuid = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Code = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$")]
