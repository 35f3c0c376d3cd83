"""Balance monitors: a condition on one figure of an account, told once whenever the account comes to meet it.

- A monitor has no state. It trips where the condition does not hold before a command of the ledger and holds after it,
  so it trips once per crossing, and deciding twice trips it twice alike.
- The figures are those of the counters: what a hold has spoken for counts until its end is booked.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from zentra.runtime.ledger.book import AccountRef, Balance

__all__ = ["CONDITIONS", "FIGURES", "Crossing", "Monitor", "crossings", "figure"]


class Monitor(Struct, frozen=True, gc=False):
    """Tell when figure `of` comes to be `when` (see CONDITIONS) `minor`."""

    id: str
    of: str
    when: str
    minor: int


class Crossing(Struct, frozen=True, gc=False):
    """A monitor of an account has tripped; `figure` is what it watches, as it stands after the command."""

    account: str
    currency: str
    monitor: Monitor
    figure: int


FIGURES: Final = ("available", "posted", "pending")
CONDITIONS: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "below": operator.lt,
    "at_most": operator.le,
    "at_least": operator.ge,
    "above": operator.gt,
}


def figure(of: str, normal_side: str, balance: Balance) -> int:
    """Return one of FIGURES of an account: on its own side, so that money which belongs to it is positive."""
    sign = 1 if normal_side == "credit" else -1
    if of == "pending":
        return sign * (balance.credits_pending - balance.debits_pending)
    posted = sign * (balance.credits_posted - balance.debits_posted)
    if of == "posted":
        return posted
    return posted - (balance.debits_pending if sign == 1 else balance.credits_pending)


def crossings(ref: AccountRef, before: Balance, after: Balance) -> list[Crossing]:
    """Return the monitors of an account that a change of its counters has tripped."""
    found = []
    for monitor in ref.monitors:
        holds = CONDITIONS[monitor.when]
        now = figure(monitor.of, ref.normal_side, after)
        if holds(now, monitor.minor) and not holds(figure(monitor.of, ref.normal_side, before), monitor.minor):
            found.append(Crossing(ref.account_id, ref.currency, monitor, now))
    return found
