"""`zentra policy`: a tenant's policy from draft to force and back, what it would have said of the past, and why it said
what it said.

Exit code 1 where a decision does not come out the same again, or a version is refused."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from zentra.gateway.cli.progress import shown_progress
from zentra.gateway.cli.support import (
    BY,
    JSON_OPTION,
    TENANT,
    ExitCode,
    found,
    pooled,
    say,
    say_json,
    settings,
    table,
    utc,
)
from zentra.gateway.cli.versions import VERSION_MAX, VersionCommands, spelled
from zentra.gateway.settings import SettingsError

if TYPE_CHECKING:
    from zentra.runtime.policy import PolicyRules
    from zentra.runtime.policy.backtest import BacktestReport
    from zentra.runtime.policy.replay import Explanation
    from zentra.storage.pool import Pool
    from zentra.storage.versions import Shelf

__all__ = ["add_policy", "policy_in"]

policy_app = typer.Typer(
    help="A tenant's policy: draft, validate, backtest, promote, roll back; and why a decision was what it was.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def add_policy(app: typer.Typer) -> None:
    """Add the group of commands to `app`."""
    app.add_typer(policy_app, name="policy")


def policy_in(document: Any) -> PolicyRules:
    """Return the rules that a document says; raise SettingsError naming everything that is wrong with it."""
    from zentra.runtime.policy.document import parse_policy

    rules, violations = parse_policy(document)
    if rules is None:
        raise SettingsError("; ".join(spelled(violations)))
    return rules


def _shelf() -> Shelf:
    from zentra.gateway.scorers import load_scorers
    from zentra.storage.policies import policies_with

    return policies_with(load_scorers(settings().risk_scorers))


VersionCommands("policy", _shelf, "no policy: the default rules hold").add(
    policy_app,
    """Write the next version, as a draft; see docs/policy.md.

    \b
    Example:
      zentra policy draft acme --file policy.json --by ada
      zentra policy validate acme 4 --by ada && zentra policy backtest acme --version 4
      zentra policy promote acme 4 --by grace
    """,
)


@policy_app.command("backtest")
def backtest(
    tenant: str = TENANT,
    version: int = typer.Option(metavar="N", min=1, max=VERSION_MAX, help="The version to ask, draft or not."),
    since: datetime | None = typer.Option(None, "--from", help="From this time on (UTC); else as far as the limit."),
    until: datetime | None = typer.Option(None, "--to", help="Before this time (UTC); else until now."),
    limit: int = typer.Option(100_000, min=1, max=1_000_000, help="The latest so many intents of that time."),
    by: str = BY,
    as_json: bool = JSON_OPTION,
) -> None:
    """Ask a version about past intents: how many it would have decided another way, and why.

    \b
    Decisions of this very version are made again from their recorded inputs and must be the same (else exit 1). For
    any other, velocity windows are counted anew from the intents that were accepted then, beginning empty at --from.
    """
    from zentra.gateway.backtesting import run_backtest
    from zentra.gateway.scorers import load_scorers
    from zentra.storage.policies import POLICIES

    scorers = load_scorers(settings().risk_scorers)

    async def run(pool: Pool) -> BacktestReport | None:
        view = await POLICIES.show(pool, tenant, version)
        if view is None:
            return None
        rules = msgspec.structs.replace(policy_in(view.document), version=version)
        with shown_progress() as progress:
            report = await run_backtest(
                pool, tenant, rules, since=utc(since), until=utc(until), limit=limit, scorers=scorers,
                progress=progress,
            )  # fmt: skip
        kept = {name: value for name, value in msgspec.structs.asdict(report).items() if name != "examples"}
        await POLICIES.note(pool, tenant, version, "backtested", by, kept)
        return report

    report = found(pooled(run), f"{tenant} has no version {version}")
    if as_json:
        say_json(report)
    else:
        _say_report(report)
    if report.different:
        raise typer.Exit(ExitCode.REFUSED)


@policy_app.command("explain")
def explain(
    tenant: str = TENANT,
    intent: str = typer.Argument(metavar="INTENT", help="Its intent_id, or its id."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show each rule with what it looked at, and make the decision again: zentra policy explain acme payout-17

    \b
    Exit code 1 where it does not come out the same.
    """
    from zentra.gateway.explaining import explained
    from zentra.gateway.scorers import load_scorers

    scorers = load_scorers(settings().risk_scorers)
    decisions = found(
        pooled(lambda pool: explained(pool, tenant, intent, scorers)), f"{tenant} has no intent {intent!r}"
    )
    if as_json:
        say_json(decisions)
    elif not decisions:
        say(f"nothing was decided on {intent} yet")
    else:
        for one in decisions:
            _say_explanation(one)
    if not all(one.same for one in decisions):
        raise typer.Exit(ExitCode.REFUSED)


def _say_explanation(one: Explanation) -> None:
    reasons = f" ({', '.join(one.reasons)})" if one.reasons else ""
    say(f"{one.intent_id} was {one.outcome}{reasons} under version {one.version}, lane {one.lane}, at {one.at}")
    rows = [
        {
            "rule": answer.rule,
            "result": answer.result,
            "looked at": "  ".join(f"{name}={_brief(value)}" for name, value in answer.inputs.items()),
        }
        for answer in one.answers
    ]
    table(rows, ("rule", "result", "looked at"), "")
    say(f"same answer: {'yes' if one.same else 'NO'}")
    if not one.same:
        say(f"  today it is {one.again.outcome} ({', '.join(one.again.reasons)}), digest {one.again.input_digest}")


def _say_report(report: BacktestReport) -> None:
    say(f"{report.decisions} decisions, {report.changed} would be another under version {report.version}")
    outcomes = sorted({*report.was, *report.would_be})
    rows = [{"outcome": o, "was": report.was.get(o, 0), "would be": report.would_be.get(o, 0)} for o in outcomes]
    table(rows, ("outcome", "was", "would be"), "there are no decisions in that time")
    if report.reasons:
        table([{"reason": r, "changed": n} for r, n in report.reasons.items()], ("reason", "changed"), "")
    examples = [
        {"intent": e.intent_id, "was": e.was, "would be": e.would_be, "reasons": e.reasons}
        for e in report.examples[:20]
    ]
    if examples:
        table(examples, ("intent", "was", "would be", "reasons"), "")
    if report.identical or report.different:
        say(f"made again under this very version: {report.identical} the same, {report.different} different")


def _brief(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
