"""Points in files: balances that a check has verified, written where the operator says, and read back.

A file is written beside its name and moved there when it is whole, so that a check that was interrupted leaves the
point that was there before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from zentra.runtime.evidence.heads import key_id
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.verification.points import FORMAT, PointFlaw, PointHeader, PointReader, PointWriter
from zentra.runtime.verification.postings import Counters
from zentra.storage.verification.checking import Opening, Totals

__all__ = ["read_point", "write_point"]


def write_point(
    path: Path, key: Ed25519PrivateKey, accounts: Iterator[tuple[int, Counters]], *, at: datetime, taken_at: datetime,
    totals: Totals, tenant: str | None, installation: str,
) -> int:  # fmt: skip
    """Write a point and return how many accounts are in it; raises OSError."""
    header = PointHeader(
        at=timestamp(at), format=FORMAT, installation=installation, key_id=key_id(key.public_key()),
        pending=str(totals.pending), posted=str(totals.posted), postings=str(totals.postings),
        taken_at=timestamp(taken_at), tenant=tenant,
    )  # fmt: skip
    writer, count = PointWriter(header, key), 0
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(writer.header())
        for number, counters in accounts:
            file.write(writer.account(number, counters))
            count += 1
        file.write(writer.signature())
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return count


def read_point(path: Path, keys: dict[str, Ed25519PublicKey], *, tenant: str | None, installation: str) -> Opening:
    """Return the opening that a point is, once its signature was verified.

    Raises PointFlaw where it cannot be trusted or is of another tenant or installation, and OSError."""
    for _ in _accounts(path, keys):
        pass
    with path.open("rb") as file:
        header = PointReader(iter(file), keys).header
    if header.installation != installation:
        raise PointFlaw(f"it is of the installation made at {header.installation}, this one was at {installation}")
    if header.tenant != tenant:
        raise PointFlaw(f"it is of {header.tenant or 'all tenants'}, the check is of {tenant or 'all tenants'}")
    totals = Totals(int(header.postings), int(header.pending), int(header.posted))
    return Opening(datetime.fromisoformat(header.at), lambda: _accounts(path, keys), totals)


def _accounts(path: Path, keys: dict[str, Ed25519PublicKey]) -> Iterator[tuple[int, Counters]]:
    with path.open("rb") as file:
        yield from PointReader(iter(file), keys).accounts()
