"""The demo: one happy transfer and the five incidents a money runtime has to survive, told through the public doors.

It brings up a whole installation on this machine, plays each story as a client, an operator and a webhook consumer
would, prints what they see, and ends with the evidence verified and the invariants checked. A story that does not end
as it has to is named, and the exit code is 1."""

import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import aiohttp
import anyio
from rich.console import Console

from zentra.gateway.demo.receiver import Receiver
from zentra.gateway.demo.stories import STORIES, Stage, Story, StoryFailed
from zentra.gateway.installation.installation import Installation
from zentra.gateway.listening import listening
from zentra.storage.audit import Audit, audit_installation
from zentra.storage.pool import open_pool

__all__ = ["run"]

QUICK: Final = {"submit_timeout_seconds": 1.0, "poll_after_seconds": 0.5, "deadline_seconds": 3.0}


def run(json_output: bool = False) -> int:
    """Play the demo; return 0 where every story ended well and every invariant holds, else 1."""
    console = Console(file=sys.stderr if json_output else sys.stdout, highlight=False, soft_wrap=True)
    console.print("[bold]Zentra demo[/bold]: starting Postgres, NATS, Redis, gateway, worker and a sandbox rail …")
    with Installation(rail_timing=QUICK) as installation:
        stories, audit = anyio.run(_play, installation, console, backend_options={"use_uvloop": True})
    failed = [story for story in stories if story.failure]
    ok = not failed and audit.clean
    if json_output:
        print(json.dumps(_report(stories, audit, ok), indent=2))  # noqa: T201  # the command's output
    else:
        _conclude(console, stories, audit, failed)
    return 0 if ok else 1


async def _play(installation: Installation, console: Console) -> tuple[list[Story], Audit]:
    receiver = Receiver()
    stories: list[Story] = []
    async with listening(receiver, "127.0.0.1") as hook, aiohttp.ClientSession() as session:
        stage = Stage(installation, session, receiver, hook)
        await stage.prepare()
        for number, (title, play) in enumerate(STORIES):
            story = Story(title)
            stories.append(story)
            console.print(f"\n[bold]{number}. {title}[/bold]" if number else f"\n[bold]{title}[/bold]")
            await _tell(story, play, stage)
            for line in story.lines:
                console.print(f"   {line}")
    async with await open_pool(installation.postgres_admin_url, name="zentra demo", connections_max=1) as pool:
        return stories, await audit_installation(pool)


async def _tell(story: Story, play: Callable[[Stage, Story], Coroutine[Any, Any, None]], stage: Stage) -> None:
    try:
        with anyio.fail_after(60):
            await play(stage, story)
    except StoryFailed as failure:
        story.failure = str(failure)
        story.say(f"[red]failed:[/red] {failure}")
    except TimeoutError:
        story.failure = "did not come to an end in 60 s"
        story.say(f"[red]failed:[/red] {story.failure}")


def _conclude(console: Console, stories: list[Story], audit: Audit, failed: list[Story]) -> None:
    console.print("\n[bold]Invariants[/bold]")
    console.print(
        f"   {audit.intents} intents, {audit.postings} postings and {audit.records} chained records recomputed: "
        + ("[green]every invariant holds[/green]" if audit.clean else f"[red]{len(audit.breaches)} breaches[/red]")
    )
    for breach in audit.breaches:
        console.print(f"   {breach.letter} {breach.where}: {breach.detail}")
    if failed:
        console.print(
            f"\n[red]{len(failed)} of {len(stories)} stories failed:[/red] {', '.join(s.title for s in failed)}"
        )
    else:
        console.print(f"\n[green]{len(stories)} of {len(stories)} stories ended as they have to[/green]")


def _report(stories: list[Story], audit: Audit, ok: bool) -> dict[str, Any]:
    return {
        "ok": ok,
        "stories": [
            {"title": story.title, "ok": not story.failure, "failure": story.failure, "facts": story.facts}
            for story in stories
        ],
        "invariants": {
            "ok": audit.clean,
            "breaches": [{"letter": b.letter, "where": b.where, "detail": b.detail} for b in audit.breaches],
            "intents": audit.intents,
            "postings": audit.postings,
            "records": audit.records,
        },
    }
