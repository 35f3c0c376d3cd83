"""Makes the client that blocks from the one that awaits, so that there is one text of both.

A line of the source is turned by the table below and by nothing else; ruff then joins what has become short, and sorts
and prunes the imports."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from tests.architecture import ROOT

__all__ = ["BLOCKING_PAGES", "turned"]

_TURNS: Final = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"  # noqa: ASYNC.*", ""),
        (r"from asyncio import sleep", "from time import sleep"),
        (r"zentra\.client\.asynchronous", "zentra.client.blocking"),
        (r"Awaitable\[(\w+)\]", r"\1"),
        (r"Awaitable, ", ""),
        (r"\bawait ", ""),
        (r"\basync (def|for|with)\b", r"\1"),
        (r"__a(enter|exit|iter|next)__", r"__\1__"),
        (r"\ba(close|read|iter_bytes)\b", r"\1"),
        (r"\banext\(", "next("),
        (r"`AsyncZentra` belongs", "`~Zentra` belongs"),
        (r"(?<!~)Async(?=[A-Z])|(?<=Stop)Async(?=Iteration)", ""),
        (r"~", "Async"),
    )
]
_RUFF: Final = (sys.executable, "-m", "ruff")


def turned(text: str) -> str:
    """Return the text of the module that blocks."""
    for pattern, replacement in _TURNS:
        text = pattern.sub(replacement, text)
    head, quotes, rest = text.partition('"""')[2].partition('"""')
    made = "Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."
    text = f'"""{head}\n\n{made}{quotes}{rest}'
    for command in (("check", "--select", "I,F401,UP028", "--fix", "--unsafe-fixes"), ("format",)):
        text = _ruff(text, *command)
    return text


def _ruff(text: str, *command: str) -> str:
    name = ("--stdin-filename", str(ROOT / "client/blocking/module.py"))
    done = subprocess.run(
        [*_RUFF, *command, "--quiet", *name, "-"], input=text, capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout


def _page(name: str) -> str:
    return turned((ROOT / "client/asynchronous" / name).read_text(encoding="utf-8"))


BLOCKING_PAGES: Final[Mapping[str, Callable[[], str]]] = {
    f"client/blocking/{name}": partial(_page, name)
    for name in (
        "accounts.py",
        "client.py",
        "deciding.py",
        "deliveries.py",
        "endpoints.py",
        "fees.py",
        "holding.py",
        "journals.py",
        "money.py",
        "parties.py",
        "policies.py",
        "routes.py",
        "transport.py",
        "versions.py",
        "work.py",
    )
}
"""The modules that are made, by path."""
