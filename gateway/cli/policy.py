"""`zentra policy`: a tenant's policy from draft to force and back, what it would have said of the past, and why it said
what it said.

Exit code 1 where a decision does not come out the same again, or a version is refused."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import typer

from zentra.gateway.cli.support import JSON_OPTION, ExitCode, administered, say, say_json, settings, table, text_of
from zentra.gateway.settings import SettingsError

if TYPE_CHECKING:
    from zentra.runtime.policy import PolicyRules
    from zentra.runtime.policy.backtest import BacktestReport
    from zentra.runtime.policy.replay import Explanation
    from zentra.storage.pool import Pool
    from zentra.storage.versions import Step

__all__ = ["add_policy", "policy_in"]

T = TypeVar("T")
TENANT: Final = typer.Argument(metavar="TENANT", help="The tenant's id, such as acme.")
VERSION_MAX: Final = 999_999_999
VERSION: Final = typer.Argument(metavar="VERSION", min=1, max=VERSION_MAX, help="The version's number.")
BY: Final = typer.Option("operator", help="Who does it, for the record.")

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
        raise SettingsError("; ".join(f"{one.pointer or '/'}: {one.detail} ({one.code})" for one in violations))
    return rules


def _scorers() -> tuple[str, ...]:
    """Return the names of the installation's own scorers."""
    from zentra.gateway.scorers import load_scorers

    return tuple(load_scorers(settings().risk_scorers))


def _pooled(work: Callable[[Pool], Coroutine[Any, Any, T]]) -> T:
    """Return what `work` returns, over the owner's connection."""
    return administered(lambda administration: work(administration.pool))


@policy_app.command("draft")
def draft(
    tenant: str = TENANT,
    file: Path = typer.Option(metavar="FILE", help="The document as JSON; - reads stdin. See docs/policy.md."),
    note: str = typer.Option("", help="What is new, for the record."),
    by: str = BY,
    as_json: bool = JSON_OPTION,
) -> None:
    """Write the next version, as a draft.

    \b
    Example:
      zentra policy draft acme --file policy.json --by ada
      zentra policy validate acme 4 --by ada && zentra policy backtest acme --version 4
      zentra policy promote acme 4 --by grace
    """
    from zentra.storage.policies import POLICIES, PolicyAsked, draft_policy

    document = _document(file)
    view = _pooled(lambda pool: draft_policy(pool, tenant, document, note, PolicyAsked(by, _scorers())))
    shown = msgspec.to_builtins(POLICIES.shown(view))
    if as_json:
        say_json(shown)
        return
    say(f"version {shown['version']} of the policy of {tenant} is a draft, digest {shown['digest']}")
    for violation in shown["violations"]:
        say(f"  {violation['pointer'] or '/'}: {violation['detail']} ({violation['code']})")
    say(f"next: zentra policy validate {tenant} {shown['version']}")


@policy_app.command("list")
def list_versions(tenant: str = TENANT, as_json: bool = JSON_OPTION) -> None:
    """List the versions of a tenant's policy, the newest first: zentra policy list acme"""
    from zentra.storage.policies import POLICIES

    found = msgspec.to_builtins(_pooled(lambda pool: POLICIES.rows(pool, tenant)))
    if as_json:
        say_json(found)
    else:
        columns = ("version", "state", "created_by", "created_at", "digest", "note")
        table(found, columns, f"{tenant} has no policy: the default rules hold")


@policy_app.command("show")
def show(tenant: str = TENANT, version: int = VERSION, as_json: bool = JSON_OPTION) -> None:
    """Show a version, and who did what with it: zentra policy show acme 4"""
    from zentra.storage.policies import POLICIES

    async def look(pool: Pool) -> dict[str, Any] | None:
        view = await POLICIES.show(pool, tenant, version)
        if view is None:
            return None
        return {**POLICIES.shown(view), "events": await POLICIES.events(pool, tenant, version)}

    shown = msgspec.to_builtins(_found(_pooled(look), tenant, version))
    if as_json:
        say_json(shown)
        return
    say(f"version {version} of the policy of {tenant}: {shown['state']}, digest {shown['digest']}")
    say_json(shown["document"])
    for violation in shown["violations"]:
        say(f"  {violation['pointer'] or '/'}: {violation['detail']} ({violation['code']})")
    table(shown["events"], ("at", "action", "principal"), "nothing is kept of what was done with it")


@policy_app.command("validate")
def validate(tenant: str = TENANT, version: int = VERSION, by: str = BY, as_json: bool = JSON_OPTION) -> None:
    """Check a draft as a whole: zentra policy validate acme 4"""
    _move(tenant, version, "validate", by, as_json)


@policy_app.command("promote")
def promote(tenant: str = TENANT, version: int = VERSION, by: str = BY, as_json: bool = JSON_OPTION) -> None:
    """Put a validated version in force, by somebody else than its author: zentra policy promote acme 4 --by grace"""
    _move(tenant, version, "promote", by, as_json)


@policy_app.command("rollback")
def rollback(tenant: str = TENANT, version: int = VERSION, by: str = BY, as_json: bool = JSON_OPTION) -> None:
    """Put a version in force again that was so before: zentra policy rollback acme 3 --by grace"""
    _move(tenant, version, "rollback", by, as_json)


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
        with _Progress(hidden=as_json) as progress:
            report = await run_backtest(
                pool, tenant, rules, since=_utc(since), until=_utc(until), limit=limit, scorers=scorers,
                progress=progress.told,
            )  # fmt: skip
        kept = {name: value for name, value in msgspec.structs.asdict(report).items() if name != "examples"}
        await POLICIES.note(pool, tenant, version, "backtested", by, kept)
        return report

    report = _found(_pooled(run), tenant, version)
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
    found = _pooled(lambda pool: explained(pool, tenant, intent, scorers))
    if found is None:
        say(f"{tenant} has no intent {intent!r}")
        raise typer.Exit(ExitCode.REFUSED)
    if as_json:
        say_json(found)
    elif not found:
        say(f"nothing was decided on {intent} yet")
    else:
        for one in found:
            _say_explanation(one)
    if not all(one.same for one in found):
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


class _Progress:
    """A bar on stderr where somebody looks at it."""

    def __init__(self, *, hidden: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, disable=hidden or not console.is_terminal, transient=True)
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def told(self, what: str, done: int, of: int) -> None:
        """Take note of how far it is."""
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=of or None)
        self._bar.update(self._tasks[what], completed=done, total=of or None)


def _move(tenant: str, version: int, step: Step, by: str, as_json: bool) -> None:
    from zentra.storage.policies import POLICIES, PolicyAsked, move_policy
    from zentra.storage.versions import InvalidDocument

    try:
        asked = PolicyAsked(by, _scorers())
        view = _found(_pooled(lambda pool: move_policy(pool, tenant, version, step, asked)), tenant, version)
    except InvalidDocument as invalid:
        for one in invalid.violations:
            say(f"{one.pointer or '/'}: {one.detail} ({one.code})")
        raise typer.Exit(ExitCode.REFUSED) from None
    shown = msgspec.to_builtins(POLICIES.shown(view))
    if as_json:
        say_json(shown)
    else:
        say(f"version {version} of the policy of {tenant} is {shown['state']}")


def _found(value: T | None, tenant: str, version: int) -> T:
    if value is None:
        say(f"{tenant} has no version {version}")
        raise typer.Exit(ExitCode.REFUSED)
    return value


def _document(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text_of(path), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path}: {error}; it has to hold one JSON object") from error


def _utc(at: datetime | None) -> datetime | None:
    from datetime import UTC

    return None if at is None else at.replace(tzinfo=at.tzinfo or UTC)


def _brief(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
