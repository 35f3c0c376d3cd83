"""`zentra webhooks endpoints`: where webhooks go, set up and switched over the HTTP API with a key of one's own.

- A secret is printed by the command that makes it, and by no other.
- What was missed while an endpoint was disabled is named by `enable`, with the command that sends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer

from zentra.gateway.cli.reviews import KEY, URL, asked
from zentra.gateway.cli.support import JSON_OPTION, InputError, say, say_json, table

if TYPE_CHECKING:
    from zentra.client.endpoints import Endpoint

__all__ = ["endpoints_app"]

ENDPOINT: Final = typer.Argument(metavar="ID", help="The endpoint, like ep_…, as `list` shows it.")
COLUMNS: Final = ("id", "url", "status", "disabled_reason", "disabled_by", "failing_since", "events")

endpoints_app = typer.Typer(
    help="Where webhooks go: set endpoints up, disable and enable them.", no_args_is_help=True, rich_markup_mode=None
)


@endpoints_app.command("list")
def list_endpoints(url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION) -> None:
    """List the endpoints of the tenant: zentra webhooks endpoints list"""
    rows = msgspec.to_builtins(asked(url, key, lambda client: list(client.webhooks.endpoints.list())))
    if as_json:
        say_json(rows)
    else:
        shown = [{**row, "events": " ".join(row["events"])} for row in rows]
        table(shown, COLUMNS, "no endpoints; set one up with: zentra webhooks endpoints add https://example.com/hooks")


@endpoints_app.command("show")
def show_endpoint(endpoint: str = ENDPOINT, url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION) -> None:
    """Print how an endpoint is set up, and how it does: zentra webhooks endpoints show ep_…"""
    _say(asked(url, key, lambda client: client.webhooks.endpoints.get(endpoint)), as_json)


@endpoints_app.command("add")
def add_endpoint(
    to: str = typer.Argument(metavar="URL", help="Where to: https://example.com/hooks"),
    events: str = typer.Option("", help="Only these events, by commas: ledger.*,webhook.*; the usual five otherwise."),
    mode: str | None = typer.Option(None, help="full, or thin: in short, with where to fetch the rest."),
    fifo: bool = typer.Option(False, "--fifo", help="One at a time, in order."),
    asymmetric: bool = typer.Option(False, "--v1a", help="Sign with Ed25519 too."),
    schedule: str = typer.Option("", help="Seconds before each attempt, by commas: 0,30,300"),
    url: str = URL,
    key: str = KEY,
    as_json: bool = JSON_OPTION,
) -> None:
    """Set an endpoint up, and print its secret, this once.

    \b
      zentra webhooks endpoints add https://example.com/hooks --events 'ledger.*,webhook.*'
    """
    said: dict[str, Any] = {
        "events": _listed(events) or None, "mode": mode, "fifo": fifo or None,
        "signatures": ["v1", "v1a"] if asymmetric else None,
        "schedule": [_seconds(one) for one in _listed(schedule)] or None,
    }  # fmt: skip
    _say(asked(url, key, lambda client: client.webhooks.endpoints.create(url=to, **said)), as_json)


@endpoints_app.command("disable")
def disable_endpoint(endpoint: str = ENDPOINT, url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION) -> None:
    """Call an endpoint no more; what is for it is kept, and your other endpoints hear who has done it.

    \b
      zentra webhooks endpoints disable ep_…
    """
    _say(asked(url, key, lambda client: client.webhooks.endpoints.disable(endpoint)), as_json)


@endpoints_app.command("enable")
def enable_endpoint(endpoint: str = ENDPOINT, url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION) -> None:
    """Call an endpoint again, with what was kept for it: zentra webhooks endpoints enable ep_…"""
    found = asked(url, key, lambda client: client.webhooks.endpoints.enable(endpoint))
    _say(found, as_json)
    if found.recover is not None and not as_json:
        since = found.recover.since.isoformat().replace("+00:00", "Z")
        say("", "what was not even made for it meanwhile, or had been given up before:",
            f"  zentra webhooks recover {endpoint} --since {since} --dry-run")  # fmt: skip


@endpoints_app.command("rotate")
def rotate_endpoint(
    endpoint: str = ENDPOINT,
    asymmetric: bool = typer.Option(False, "--v1a", help="The key of v1a instead of the secret of v1."),
    overlap_seconds: int | None = typer.Option(None, help="The old one signs for so long too: a day; 0 for a leak."),
    url: str = URL,
    key: str = KEY,
    as_json: bool = JSON_OPTION,
) -> None:
    """Give an endpoint a new secret, and print it, this once.

    \b
      zentra webhooks endpoints rotate ep_…
      zentra webhooks endpoints rotate ep_… --overlap-seconds 0
    """
    _say(asked(url, key, lambda client: client.webhooks.endpoints.rotate(
        endpoint, signature="v1a" if asymmetric else "v1", overlap_seconds=overlap_seconds
    )), as_json)  # fmt: skip


@endpoints_app.command("delete")
def delete_endpoint(endpoint: str = ENDPOINT, url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION) -> None:
    """Take an endpoint away for good; what waits for it ends: zentra webhooks endpoints delete ep_…"""
    asked(url, key, lambda client: client.webhooks.endpoints.delete(endpoint))
    if as_json:
        say_json({"id": endpoint, "status": "deleted"})
    else:
        say(f"{endpoint}: deleted")


def _say(endpoint: Endpoint, as_json: bool) -> None:
    shown = msgspec.to_builtins(endpoint)
    if as_json:
        say_json(shown)
        return
    for name in ("links", "recover"):
        shown.pop(name)
    if shown["secret"] is None:
        shown.pop("secret")
    lists = {
        name: " ".join(map(str, value)) for name, value in shown.items() if name in ("events", "signatures", "schedule")
    }
    shown["secrets"] = f"{len(shown['secrets'])} live" if shown["secrets"] else "1 live"
    shown["public_keys"] = " ".join(one["key"] for one in shown["public_keys"]) or None
    say(*(f"{name.replace('_', ' ')}: {'-' if value is None else value}" for name, value in {**shown, **lists}.items()))
    if endpoint.secret is not None:
        say("", "Keep the secret now: it is not shown again.")


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def _seconds(text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"--schedule {text}: whole seconds by commas, like 0,30,300")
    return int(text)
