"""A rehearsal: incidents played one after the other on a site, told to people as they happen or to scripts as JSON.

A story that does not end as it has to is named, and the exit code is 1. On an installation of its own the rehearsal
ends with the books recomputed; elsewhere it sees what its keys may see."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import anyio
from rich.console import Console
from rich.markup import escape

from zentra.gateway.installation.installation import Installation
from zentra.gateway.listening import listening
from zentra.gateway.rehearsals.incidents import Incident, missing_for
from zentra.gateway.rehearsals.receiver import Receiver
from zentra.gateway.rehearsals.site import Site, embedded_site
from zentra.gateway.rehearsals.story import Stage, Story, StoryFailed
from zentra.storage.audit import Audit, audit_installation
from zentra.storage.pool import open_pool

__all__ = ["PATIENCE_SECONDS", "Hook", "rehearse_embedded", "rehearse_site"]

QUICK: Final = {"submit_timeout_seconds": 1.0, "poll_after_seconds": 0.5, "deadline_seconds": 3.0}
PATIENCE_SECONDS: Final = 90.0  # a packet waits 60 s for consumers of the tenant that do not answer

Hook = tuple[str, int, str]
"""Where the webhook consumer listens, host and port, and the URL the installation calls it by; empty for the same."""
LOOPBACK_HOOK: Final[Hook] = ("127.0.0.1", 0, "")


def rehearse_embedded(incidents: Sequence[Incident], *, title: str, json_output: bool = False) -> int:
    """Play incidents on an installation of this process's own; return 0 where all ended well and the books hold."""
    console = _console(json_output)
    console.print(f"[bold]{title}[/bold]: starting Postgres, NATS, Redis, gateway, worker and a sandbox rail …")
    with Installation(rail_timing=QUICK) as installation:
        site = embedded_site(installation)
        stories = _run(console, site, incidents, PATIENCE_SECONDS, LOOPBACK_HOOK)
        audit = anyio.run(_audit, installation.postgres_admin_url)
    ok = audit.clean and not any(story.failure for story in stories)
    if json_output:
        print(json.dumps(_report(stories, audit, ok), indent=2))  # noqa: T201  # the command's output
    else:
        _tell_audit(console, audit)
        _conclude(console, stories)
    return 0 if ok else 1


def rehearse_site(
    site: Site, incidents: Sequence[Incident], *, patience: float, hook: Hook = LOOPBACK_HOOK, json_output: bool = False
) -> int:
    """Play incidents on an installation that runs; return 0 where all that could be played ended well, else 1, and 1
    where none could.

    `patience` is what one incident may take, in seconds. Raises aiohttp.ClientError where no door answers, and
    StoryFailed where the stage cannot be set."""
    console = _console(json_output)
    console.print(f"[bold]Zentra rehearsal[/bold] at {site.base_url}")
    stories = _run(console, site, incidents, patience, hook)
    played = [story for story in stories if not story.left_out]
    ok = bool(played) and not any(story.failure for story in played)
    if json_output:
        print(json.dumps(_report(stories, None, ok), indent=2))  # noqa: T201  # the command's output
    else:
        _conclude(console, stories)
    return 0 if ok else 1


def _console(json_output: bool) -> Console:
    return Console(file=sys.stderr if json_output else sys.stdout, highlight=False, soft_wrap=True)


def _run(console: Console, site: Site, incidents: Sequence[Incident], patience: float, hook: Hook) -> list[Story]:
    return anyio.run(_play, console, site, incidents, patience, hook, backend_options={"use_uvloop": True})


async def _play(
    console: Console, site: Site, incidents: Sequence[Incident], patience: float, hook: Hook
) -> list[Story]:
    receiver, stories = Receiver(), list[Story]()
    host, port, outside = hook
    async with listening(receiver, host, port) as inside, aiohttp.ClientSession() as session:
        stage = Stage(site, session, receiver, outside or inside)
        await stage.prepare()
        try:
            for number, incident in enumerate(incidents, 1):
                stories.append(story := Story(incident.name, incident.title))
                console.print(f"\n[bold]{number}. {incident.title}[/bold]  ({incident.name})")
                console.print(f"   {escape(incident.summary)}")
                story.left_out = missing_for(incident, site)
                if not story.left_out:
                    await _tell(story, incident, stage, patience)
                _print(console, story)
        finally:
            await stage.leave()
    return stories


async def _tell(story: Story, incident: Incident, stage: Stage, patience: float) -> None:
    try:
        with anyio.fail_after(patience):
            await incident.play(stage, story)
    except StoryFailed as failure:
        story.failure = str(failure)
    except TimeoutError:
        story.failure = f"did not come to an end in {patience:g} s; rails with long deadlines need more (--patience)"


def _print(console: Console, story: Story) -> None:
    for line in story.lines:
        console.print(f"   {escape(line)}")
    if story.left_out:
        console.print(f"   [yellow]left out:[/yellow] {escape(story.left_out)}")
    if story.failure:
        console.print(f"   [red]failed:[/red] {escape(story.failure)}")


async def _audit(url: str) -> Audit:
    async with await open_pool(url, name="zentra rehearsal", connections_max=1) as pool:
        return await audit_installation(pool)


def _tell_audit(console: Console, audit: Audit) -> None:
    console.print("\n[bold]Invariants[/bold]")
    console.print(
        f"   {audit.intents} intents, {audit.postings} postings and {audit.records} chained records recomputed: "
        + ("[green]every invariant holds[/green]" if audit.clean else f"[red]{len(audit.breaches)} breaches[/red]")
    )
    for breach in audit.breaches:
        console.print(f"   {breach.letter} {breach.where}: {breach.detail}")


def _conclude(console: Console, stories: Sequence[Story]) -> None:
    played = [story for story in stories if not story.left_out]
    failed = [story for story in played if story.failure]
    left_out = [story.name for story in stories if story.left_out]
    if failed:
        named = ", ".join(story.title for story in failed)
        console.print(f"\n[red]{len(failed)} of {len(stories)} stories failed:[/red] {named}")
    else:
        colour = "yellow" if left_out else "green"
        console.print(f"\n[{colour}]{len(played)} of {len(stories)} stories ended as they have to[/{colour}]")
    if left_out:
        console.print(f"[yellow]{len(left_out)} of {len(stories)} were left out:[/yellow] {', '.join(left_out)}")


def _report(stories: Sequence[Story], audit: Audit | None, ok: bool) -> dict[str, Any]:
    told = [
        {
            "name": story.name, "title": story.title, "ok": not story.failure and not story.left_out,
            "failure": story.failure, "left_out": story.left_out, "facts": story.facts, "told": story.lines,
        }
        for story in stories
    ]  # fmt: skip
    left_out = [story.name for story in stories if story.left_out]
    report: dict[str, Any] = {"ok": ok, "left_out": left_out, "stories": told}
    if audit is not None:
        report["invariants"] = {
            "ok": audit.clean,
            "breaches": [{"letter": b.letter, "where": b.where, "detail": b.detail} for b in audit.breaches],
            "intents": audit.intents,
            "postings": audit.postings,
            "records": audit.records,
        }
    return report
