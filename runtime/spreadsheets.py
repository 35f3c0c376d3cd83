"""Cells of a table that a spreadsheet will open: none of them may be a formula."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["csv_line", "safe_cell"]

_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?\Z", re.ASCII)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe_cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: one that begins with = + - @, a tab or a line end gets an
    apostrophe before it (OWASP, CSV injection). A number is a number, below zero too, and stays as it is."""
    return "'" + text if text.startswith(_FORMULA) and not _NUMBER.match(text) else text


def csv_line(cells: Sequence[str]) -> str:
    """Return a line of CSV (RFC 4180), line end included, with every cell made safe."""
    return ",".join(_quoted(safe_cell(cell)) for cell in cells) + "\r\n"


def _quoted(text: str) -> str:
    if any(sign in text for sign in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
