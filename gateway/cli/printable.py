"""Text of strangers on somebody's terminal: nothing of it may move the cursor, hide a line or turn its direction."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Return a text with everything escaped that is not printed as itself: control characters, escape sequences, marks
    of direction, line ends, lone surrogates."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
