"""Evidence for eyes and spreadsheets: printable HTML, and CSV. A rendering says that it proves nothing.

- HTML is one file that loads nothing; every text that came from anybody is escaped.
- Amounts are the digits that were sealed: whole minor units, never a float.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from zentra.runtime.spreadsheets import csv_line

__all__ = ["COLUMNS", "csv_of", "entry_rows", "html_of", "packet_html", "packet_records"]

COLUMNS: Final = (
    "at", "tenant", "intent_id", "intent", "sequence", "event", "posting", "ordinal", "debit", "credit", "currency",
    "pending_minor", "posted_minor", "entry_hash",
)  # fmt: skip
RECORD_COLUMNS: Final = ("sequence", "at", "event", "from", "to", "actor", "cause")

_STYLE: Final = """
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#111;background:#fff}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
p.note{border:2px solid #a40;padding:.6rem .9rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{border-bottom:1px solid #bbb;padding:.25rem .5rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}
td.n,th.n{text-align:right;white-space:nowrap}
thead{display:table-header-group}tr{break-inside:avoid}
@media print{body{margin:0;max-width:none;font-size:9pt}h2{break-after:avoid}@page{size:A4 landscape;margin:12mm}}
"""
_NOTE: Final = (
    "This page is a rendering, for people to read. It is not the evidence and proves nothing: verify the file that it"
    " was made of with `zentra evidence verify`, and believe that."
)
_NUMBERS: Final = frozenset({"sequence", "ordinal", "pending_minor", "posted_minor", "count"})


def packet_records(packet: Mapping[str, Any]) -> list[str]:
    """Return the records of a decoded packet, those of its addenda included."""
    return [record for part in (packet, *packet["addenda"]) for record in part["records"]]


def entry_rows(records: Iterable[str | bytes]) -> Iterator[tuple[str, ...]]:
    """Yield a row of `COLUMNS` for each ledger entry in some records; raises ValueError for what is no record."""
    for text in records:
        record = json.loads(text)
        for entry in record["facts"].get("entries", ()):
            yield (
                record["at"], record["tenant"], record["intent_id"], record["intent"], str(record["sequence"]),
                record["event"], str(entry.get("posting", "")), str(entry.get("ordinal", "")), entry["debit"],
                entry["credit"], entry["currency"], entry["pending"], entry["posted"], str(entry.get("hash", "")),
            )  # fmt: skip


def csv_of(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield CSV, a line at a time, the names of the columns first."""
    yield csv_line(COLUMNS)
    for row in rows:
        yield csv_line(row)


def packet_html(data: bytes) -> bytes:
    """Return an audit packet as one printable page; raises ValueError or KeyError for what is no packet."""
    packet = json.loads(data)
    texts = packet_records(packet)
    records = [json.loads(text) for text in texts]
    head = packet["head"] or {}
    facts = {
        "Tenant": packet["tenant"],
        "Intent": f"{packet['intent_id']} ({packet['intent']})",
        "State": records[-1]["to"],
        "Asked for": json.dumps(packet["command"], ensure_ascii=False, sort_keys=True),
        "Records": str(len(records)),
        "Addenda": str(len(packet["addenda"])),
        "Log": f"{head['size']} leaves at {head['at']}, key {head['key_id']}" if head else "not sealed yet",
        "Packet, SHA-256": sha256(data).hexdigest(),
    }
    tables = (
        ("What happened", RECORD_COLUMNS, [[str(one[name] or "") for name in RECORD_COLUMNS] for one in records]),
        ("Ledger entries, in minor units", COLUMNS[4:], [row[4:] for row in entry_rows(texts)]),
    )
    parts = html_of(f"Audit packet of {packet['intent_id']}", facts, tables)
    return "".join(parts).encode()


def html_of(
    title: str,
    facts: Mapping[str, str],
    tables: Iterable[tuple[str, Sequence[str], Iterable[Sequence[str]]]],
) -> Iterator[str]:
    """Yield a page: facts, then tables of (heading, columns, rows)."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    yield (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy"'
        f' content="{policy}"><title>{_escaped(title)}</title><style>{_STYLE}</style></head>\n<body>'
        f'<h1>{_escaped(title)}</h1>\n<p class="note">{_escaped(_NOTE)}</p>\n<table><tbody>\n'
    )
    for name, value in facts.items():
        yield f'<tr><th scope="row">{_escaped(name)}</th><td>{_escaped(value)}</td></tr>\n'
    yield "</tbody></table>\n"
    for heading, columns, rows in tables:
        yield f"<h2>{_escaped(heading)}</h2>\n<table><thead><tr>"
        yield "".join(f'<th scope="col"{_aligned(name)}>{_escaped(name)}</th>' for name in columns)
        yield "</tr></thead><tbody>\n"
        for row in rows:
            cells = zip(columns, row, strict=True)
            yield "<tr>" + "".join(f"<td{_aligned(name)}>{_escaped(cell)}</td>" for name, cell in cells) + "</tr>\n"
        yield "</tbody></table>\n"
    yield "</body></html>\n"


def _aligned(column: str) -> str:
    return ' class="n"' if column in _NUMBERS else ""


def _escaped(text: str) -> str:
    """Return a text as it may stand in an element or a quoted attribute: control characters and marks of direction are
    shown, because the page would not look like what was sealed."""
    text = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;")):
        text = text.replace(sign, name)
    return text
