"""`zentra webhooks` and `zentra listen`: what became of webhooks, over the HTTP API with a key of one's own.

- It speaks to a gateway as anybody does: ZENTRA_BASE_URL and ZENTRA_API_KEY, or --url and --key.
- `recover` sends an endpoint what it has not had since a time; with --dry-run it only counts.
- `listen` forwards the tenant's events to a URL on this machine, signed, until it is interrupted.
"""

from __future__ import annotations

import re
import time as clock
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
import typer

from zentra.gateway.cli.reviews import KEY, URL, asked
from zentra.gateway.cli.support import JSON_OPTION, InputError, say, say_json, table
from zentra.gateway.cli.webhook_endpoints import endpoints_app
from zentra.gateway.settings import SettingsError

if TYPE_CHECKING:
    from zentra.client.api import Zentra
    from zentra.client.delivery_models import RecoveryState
    from zentra.gateway.cli.forwarding import Forwarded

__all__ = ["add_webhooks", "since_of"]

LISTED_MAX: Final = 1_000
LOOK_SECONDS: Final = 0.5
DELIVERY: Final = typer.Argument(metavar="ID", help="The delivery, as `list` shows it.")
COLUMNS: Final = ("id", "endpoint", "intent_id", "event", "status", "attempts_made", "next_at")
ATTEMPTS: Final = ("number", "at", "trigger", "actor", "status_code", "error", "latency_ms", "next_at")
HEALTH: Final = ("endpoint", "status", "due", "delivered", "retrying", "exhausted", "health")
_AGO: Final = re.compile(r"(\d{1,6})([smhd])\Z")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

webhooks_app = typer.Typer(
    help="Webhooks: where they go, what was sent, and sending it again.", no_args_is_help=True, rich_markup_mode=None
)


def add_webhooks(app: typer.Typer) -> None:
    """Add the group, and `listen`, to `app`."""
    webhooks_app.add_typer(endpoints_app, name="endpoints")
    app.add_typer(webhooks_app, name="webhooks")
    app.command("listen")(listen)


def since_of(text: str, now: datetime) -> datetime:
    """Return the time that `2h`, `30m`, `3d` before `now` or a time of RFC 3339 says; raise InputError for another."""
    ago = _AGO.match(text)
    if ago is not None:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InputError(f"--since {text}: write 2h, 30m or 3d, or a time like 2026-04-01T12:00:00Z")
    return found


@webhooks_app.command("list")
def list_webhooks(
    status: str | None = typer.Option(None, help="pending, delivering, retrying, delivered or exhausted."),
    endpoint: str | None = typer.Option(None, help="Only those to this endpoint."),
    intent: str | None = typer.Option(None, help="Only those about this intent, by either id."),
    event: str | None = typer.Option(None, help="Only those of this event, such as ledger.posted."),
    limit: int = typer.Option(50, min=1, max=LISTED_MAX, help="At most so many, the newest first."),
    url: str = URL,
    key: str = KEY,
    as_json: bool = JSON_OPTION,
) -> None:
    """List deliveries: zentra webhooks list --status exhausted"""

    def ask(client: Zentra) -> list[Any]:
        pages = client.webhooks.deliveries.list(
            status=status, endpoint=endpoint, intent=intent, event=event, page_size=min(limit, 100)
        )
        return [one for _, one in zip(range(limit), pages, strict=False)]

    rows = msgspec.to_builtins(asked(url, key, ask))
    if as_json:
        say_json(rows)
    else:
        table(rows, COLUMNS, "no deliveries")


@webhooks_app.command("show")
def show_webhook(delivery: str = DELIVERY, url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION) -> None:
    """Print a delivery, its attempts, and what the last one sent and met: zentra webhooks show 5e0f…"""

    def ask(client: Zentra) -> tuple[Any, list[Any]]:
        attempts = client.webhooks.deliveries.attempts(delivery, page_size=100)
        return client.webhooks.deliveries.get(delivery), [one for _, one in zip(range(100), attempts, strict=False)]

    found, tried = asked(url, key, ask)
    shown, attempts = msgspec.to_builtins(found), msgspec.to_builtins(tried)
    if as_json:
        say_json({**shown, "attempts": attempts})
        return
    payload = shown.pop("payload")
    shown.pop("attempts")
    say(*(f"{name.replace('_', ' ')}: {'-' if value is None else value}" for name, value in shown.items()), "")
    table(attempts, ATTEMPTS, "no attempt has ended yet")
    if attempts:
        say("", "last request:", *(f"  {name}: {value}" for name, value in attempts[0]["request_headers"].items()))
        say("", "last response:", f"  {attempts[0]['response_body'] or '(nothing)'}")
    say("", "body:", msgspec.json.format(msgspec.json.encode(payload), indent=2).decode())


@webhooks_app.command("replay")
def replay_webhook(delivery: str = DELIVERY, url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION) -> None:
    """Send one delivery again, with the same id and bytes: zentra webhooks replay 5e0f…"""
    shown = msgspec.to_builtins(asked(url, key, lambda client: client.webhooks.deliveries.replay(delivery)))
    if as_json:
        say_json(shown)
    else:
        say(f"{delivery}: {shown.get('outcome') or shown['status']}")


@webhooks_app.command("recover")
def recover_webhooks(
    endpoint: str = typer.Argument(metavar="ENDPOINT", help="The endpoint, like ep_…"),
    since: str = typer.Option(..., "--since", help="From when on: 2h, 30m, 3d, or a time of RFC 3339."),
    which: str = typer.Option("undelivered", help="undelivered, failed, missing, or any (what was taken, too)."),
    events: str = typer.Option("", help="Only these events, by commas: ledger.*,policy.denied"),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only count."),
    wait: bool = typer.Option(True, help="Wait until it is done; it goes on without you either way."),
    idempotency_key: str | None = typer.Option(None, help="A key of your own: asking again with it changes nothing."),
    url: str = URL,
    key: str = KEY,
    as_json: bool = JSON_OPTION,
) -> None:
    """Send an endpoint everything that it has not had since a time, with the ids and bytes of the first time.

    \b
    After an outage of a consumer:
      zentra webhooks recover ep_01a1… --since 2h --dry-run
      zentra webhooks recover ep_01a1… --since 2h
    """
    from_ = since_of(since, datetime.now(UTC))

    def ask(client: Zentra) -> RecoveryState | None:
        given = client.webhooks.recoveries.start(
            endpoint, since=from_, which=which, events=[one.strip() for one in events.split(",") if one] or None,
            dry_run=dry_run, idempotency_key=idempotency_key,
        )  # fmt: skip
        return _worked_off(client, str(given.recovery), wait)

    found = asked(url, key, ask)
    if found is None:
        say("it is accepted and has not begun; look at it with: zentra webhooks recoveries")
    elif as_json:
        say_json(msgspec.to_builtins(found))
    elif found.dry_run:
        say(f"{found.found} would be sent ({found.status})")
    else:
        say(f"{found.status}: {found.found} found, {found.replayed} sent again, {found.made} made and sent, "
            f"{found.skipped} being sent already")  # fmt: skip


def _worked_off(client: Zentra, recovery: str, wait: bool) -> RecoveryState | None:
    """Return how far a recovery is, at its end where that is waited for; None before it has begun."""
    from zentra.client.api import NotFoundError

    while True:
        try:
            found = client.webhooks.recoveries.get(recovery)
            if not wait or found.status != "running":
                return found
        except NotFoundError:
            if not wait:
                return None
        clock.sleep(LOOK_SECONDS)


@webhooks_app.command("recoveries")
def list_recoveries(url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION) -> None:
    """List recoveries, and how far they are."""
    pages = asked(url, key, lambda client: [
        one for _, one in zip(range(100), client.webhooks.recoveries.list(page_size=100), strict=False)
    ])  # fmt: skip
    rows = msgspec.to_builtins(pages)
    if as_json:
        say_json(rows)
    else:
        columns = ("id", "endpoint", "which", "dry_run", "status", "found", "replayed", "made", "created_by")
        table(rows, columns, "no recoveries")


@webhooks_app.command("health")
def show_health(url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION) -> None:
    """Print how the endpoints do over the last 24 hours: delivered by the schedule / due."""
    shown = msgspec.to_builtins(asked(url, key, lambda client: client.webhooks.health()))
    if as_json:
        say_json(shown)
        return
    table(shown["endpoints"], HEALTH, "no endpoints")
    say("", f"{shown['delivered']} of {shown['due']} delivered" + ("" if shown["complete"] else ", newest counted"))


def listen(
    forward_to: str = typer.Option(..., "--forward-to", metavar="URL", help="Where to: http://localhost:3000/hooks"),
    events: str = typer.Option("*", help="Only these events, by commas: ledger.*,policy.denied"),
    state: Path | None = typer.Option(None, metavar="FILE", help="Keep the place here, and go on behind it next time."),
    print_secret: bool = typer.Option(False, "--print-secret", help="Print the signing secret and leave."),
    url: str = URL,
    key: str = KEY,
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Forward the tenant's events to a URL on this machine, signed as webhooks are.

    \b
      zentra listen --forward-to http://localhost:3000/hooks --events 'ledger.*'
    The secret stays the same for an API key. What is replayed comes again. Ctrl-C ends it.
    """
    import asyncio

    for value, option, variable in ((url, "--url", "ZENTRA_BASE_URL"), (key, "--key", "ZENTRA_API_KEY")):
        if not value:
            raise SettingsError(f"{variable} is not set; export it, or give {option}")
    from zentra.gateway.cli.forwarding import secret_of
    from zentra.runtime.webhooks.standard import filter_is_valid

    wanted = tuple(one.strip() for one in events.split(",") if one.strip())
    for one in wanted:
        if not filter_is_valid(one):
            raise InputError(f"--events {one}: a topic, its beginning followed by .*, or *")
    if not _may_be_called(forward_to):
        raise InputError(f"--forward-to {forward_to}: a URL like http://localhost:3000/hooks")
    secret = secret_of(key)
    if print_secret:
        say(secret)
        return
    say(msgspec.json.encode({"secret": secret, "forward_to": forward_to}).decode() if as_json
        else f"Ready. Signing secret: {secret}\nForwarding {', '.join(wanted)} to {forward_to}")  # fmt: skip
    last_id = state.read_text().strip() if state is not None and state.exists() else ""

    def told(line: Forwarded) -> None:
        say(msgspec.json.encode(line).decode() if as_json else line_of(line))
        if state is not None and line.status is not None:
            state.write_text(line.stream_id)

    asyncio.run(_listen(url, key, forward_to, secret, wanted, last_id, told))


def _may_be_called(url: str) -> bool:
    """Return whether something can listen at a URL; at another one every event would be held for ever."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and " " not in url
    except ValueError:
        return False


async def _listen(
    url: str, key: str, to: str, secret: str, events: tuple[str, ...], last_id: str, told: Callable[[Forwarded], None]
) -> None:
    from zentra.client.api import AsyncZentra
    from zentra.gateway.cli.forwarding import Listener

    async with AsyncZentra(key, url) as client:
        await Listener(client, to, secret, events=events, told=told, last_id=last_id or None).run()


def line_of(line: Forwarded) -> str:
    """Return what is printed of one event."""
    at = datetime.now().strftime("%H:%M:%S")
    if line.note:
        return f"{at}  {line.note}"
    again = " (sent again)" if line.resent else ""
    return (
        f"{at}  {line.status}  {line.event:<20} {line.intent_id}/{line.sequence}  {line.webhook_id}"
        f"  {line.milliseconds} ms{again}"
    )
