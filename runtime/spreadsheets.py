"""Cells of a table that a spreadsheet will open: none of them may be a formula."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["csv_line", "safe_cell"]

_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?\Z", re.ASCII)
_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_BREAKS: Final = ("\t", "\r", "\n")


def safe_cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: one that begins with = + - @ (of full width, too), a tab
    or a line end gets an apostrophe before it (OWASP, CSV injection). Spaces and what is not printed are no beginning,
    because some programs drop them. A number is a number, below zero too, and stays as it is."""
    if _NUMBER.match(text):
        return text
    first = next((one for one in text if one.isprintable() and not one.isspace()), "")
    return "'" + text if first in _FORMULA or text.startswith(_BREAKS) else text


def csv_line(cells: Sequence[str]) -> str:
    """Return a line of CSV (RFC 4180), line end included, with every cell made safe."""
    return ",".join(_quoted(safe_cell(cell)) for cell in cells) + "\r\n"


def _quoted(text: str) -> str:
    if any(sign in text for sign in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
