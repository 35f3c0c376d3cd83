"""A bundle made readable: its entries, and one printable page about all of it. Nothing here is verified."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from zentra.runtime.evidence.bundle import MANIFEST
from zentra.runtime.evidence.renderings import COLUMNS, entry_rows, html_of
from zentra.storage.verification.bundle_files import BundleReader

__all__ = ["bundle_entries", "bundle_html"]

REFUSALS: Final = ("minute", "actor", "role", "action", "reason", "count", "last_at", "request_id")
EXPORTS: Final = ("at", "actor", "role", "since", "until", "first_leaf", "log_size", "entries", "manifest")


def bundle_entries(path: Path) -> Iterator[bytes]:
    """Yield the records of a bundle, in order; raises ValueError for what is no bundle, and OSError."""
    yield from _lines(BundleReader(path), "entries")


def bundle_html(path: Path) -> Iterator[str]:
    """Yield one printable page about a bundle; raises ValueError or KeyError for what is no bundle, and OSError."""
    reader = BundleReader(path)
    data = reader.read(MANIFEST)
    manifest = json.loads(data)
    counts = manifest["counts"]
    facts = {
        "Tenant": manifest["tenant"],
        "Range": f"{manifest['since'] or 'the beginning'} to {manifest['until'] or 'the latest checkpoint'}",
        "Leaves of the log": f"{manifest['first']} to {manifest['size']}",
        "Only intents of": ", ".join(manifest["types"]) if manifest["types"] else "every kind",
        "Records": str(counts["entries"]),
        "Refusals, exports until": manifest["settled_until"],
        "Manifest, SHA-256": sha256(data).hexdigest(),
    }
    tables = (
        ("Ledger entries, in minor units", COLUMNS, entry_rows(_lines(reader, "entries"))),
        ("Refused", REFUSALS, _rows(reader, "denials", REFUSALS)),
        ("Exports of evidence", EXPORTS, _rows(reader, "exports", EXPORTS)),
    )
    yield from html_of(f"Evidence of {manifest['tenant']}", facts, tables)


def _lines(reader: BundleReader, kind: str) -> Iterator[bytes]:
    for name in sorted(one for one in reader.names if one.startswith(f"{kind}/")):
        yield from reader.read(name).splitlines()


def _rows(reader: BundleReader, kind: str, columns: tuple[str, ...]) -> Iterator[list[str]]:
    for line in _lines(reader, kind):
        row: dict[str, Any] = json.loads(line)
        yield ["" if row.get(name) is None else str(row[name]) for name in columns]
