"""`zentra rails polling`: how a rail is asked what became of a payment, and how long anybody waits for it.

- Without options it shows what holds, and when an attempt that stays in one standing would be asked.
- What is not named stays as it is; a rail that is not set up is refused, not made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer

from zentra.gateway.cli.rail_secrets import put
from zentra.gateway.cli.support import JSON_OPTION, administered, say, say_json, table
from zentra.runtime.errors import Refusal

if TYPE_CHECKING:
    from zentra.runtime.rails.port import RailSettings

__all__ = ["add_polling"]

ASKED_SHOWN: Final = 6


def add_polling(rails_app: typer.Typer) -> None:
    """Add the command to the group of rails."""
    rails_app.command("polling")(polling)


def polling(
    name: str = typer.Argument(metavar="NAME", help="The rail's name."),
    standing: str = typer.Option("", help="silent, unknown, pending, claimed or overdue: whose pauses to change."),
    after: float | None = typer.Option(None, help="Seconds: the shortest pause; 0 is the rail's poll_after_seconds."),
    factor: float | None = typer.Option(None, help="By which what has passed grows from question to question."),
    longest: float | None = typer.Option(None, help="Seconds: the longest pause; 0 is poll_interval_max_seconds."),
    jitter: float | None = typer.Option(None, help="The share of a pause that chance may take away, 0 to 0.5."),
    deadline: float | None = typer.Option(None, help="Seconds until an outcome that nobody knows is a case."),
    stranger_wait: float | None = typer.Option(None, help="Seconds that a callback of an unknown reference waits."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show or change how often a rail is asked what became of a payment.

    \b
    Examples:
      zentra rails polling sandbox_a
      zentra rails polling sandbox_a --standing pending --after 5 --factor 2 --longest 300
      zentra rails polling sandbox_a --deadline 1800 --stranger-wait 60
    """
    given = {"after_seconds": after, "factor": factor, "max_seconds": longest, "jitter": jitter}
    changes = {field: value for field, value in given.items() if value is not None}
    whole = {"deadline_seconds": deadline, "stranger_wait_seconds": stranger_wait}
    settings = {field: value for field, value in whole.items() if value is not None}
    if bool(changes) != bool(standing):
        raise typer.BadParameter("--standing and what to change of it go together: --standing pending --after 5")
    rail = _rail(name)
    wanted = _changed(rail, standing, changes, settings) if changes or settings else rail
    changed = wanted != rail and put(wanted)
    rows = _rows(wanted)
    if as_json:
        whole_now = {field: getattr(wanted, field) for field in whole}
        say_json({"rail": name, "changed": changed, **whole_now, "polling": rows})
        return
    shown = [{**row, "asked_after": ", ".join(f"{seconds:g}" for seconds in row["asked_after"])} for row in rows]
    table(shown, ("standing", "shortest", "factor", "longest", "jitter", "asked_after"), "")
    say(f"an outcome unknown for {wanted.deadline_seconds:g} s is a case, and the rail is asked on (overdue)")
    say(f"a callback of an unknown reference is a case after {wanted.stranger_wait_seconds:g} s")
    if changes or settings:
        say("changed: in force from the next commit on" if changed else "it was set up like this before")


def _rail(name: str) -> RailSettings:
    found = {rail.name: rail for rail in administered(lambda administration: administration.rails())}
    if name not in found:
        known = ", ".join(sorted(found)) or "none; zentra rails create --help"
        raise Refusal("rail_unknown", f"{name}: the rails are {known}")
    return found[name]


def _changed(rail: RailSettings, standing: str, changes: dict[str, float], settings: dict[str, float]) -> RailSettings:
    from zentra.runtime.rails.polling import DEFAULTS

    polling = rail.polling
    if changes:
        known = polling.get(standing) or next((row for word, row in DEFAULTS.items() if word == standing), None)
        if known is None:
            raise typer.BadParameter(f"--standing {standing}: one of {', '.join(DEFAULTS)}")
        polling = {**polling, standing: msgspec.structs.replace(known, **changes)}
    return msgspec.structs.replace(rail, polling=polling, **settings)


def _rows(rail: RailSettings) -> list[dict[str, Any]]:
    """Return how the rail is asked in each standing, and when an attempt would be that stays in it."""
    from zentra.runtime.rails.polling import Standing, backoff_of

    rows = []
    for standing in Standing:
        chosen = backoff_of(rail, standing)
        at = rail.deadline_seconds if standing is Standing.OVERDUE else rail.poll_after_seconds
        at = 0.0 if standing is Standing.CLAIMED else at
        asked = [at]
        while len(asked) < ASKED_SHOWN:
            at += min(max(at * (chosen.factor - 1), chosen.after_seconds), chosen.max_seconds)
            asked.append(round(at, 2))
        rows.append(
            {
                "standing": str(standing), "shortest": chosen.after_seconds, "factor": chosen.factor,
                "longest": chosen.max_seconds, "jitter": chosen.jitter, "asked_after": asked,
            }
        )  # fmt: skip
    return rows
