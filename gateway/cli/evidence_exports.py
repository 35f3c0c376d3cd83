"""`zentra evidence exports`: have evidence exported by the installation, over the HTTP API with a key of one's own.

- It speaks to a gateway as anybody does: ZENTRA_BASE_URL and ZENTRA_API_KEY, or --url and --key.
- A worker makes the bundle; it goes on without whoever asked, and asking again with the same key asks nothing new.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer

from zentra.gateway.cli.evidence import EPILOG, Group, OwnCommand, evidence_app, refused
from zentra.gateway.cli.reviews import KEY, URL, asked
from zentra.gateway.cli.support import JSON_OPTION, InputError, say, say_json, table

if TYPE_CHECKING:
    from zentra.client.api import Zentra

__all__ = ["exports_app"]

WAIT_SECONDS: Final = 24 * 3600.0
COLUMNS: Final = ("id", "state", "at", "actor", "since", "until", "leaves_done", "leaves", "bytes")
exports_app = typer.Typer(
    help="Exports that a worker makes: ask, look, fetch.", cls=Group, no_args_is_help=True, rich_markup_mode=None
)
evidence_app.add_typer(exports_app, name="exports")


@exports_app.command("ask", cls=OwnCommand, epilog=EPILOG)
def ask_export(
    since: str | None = typer.Option(None, metavar="TIME", help="From this time on; from the beginning by default."),
    until: str | None = typer.Option(None, metavar="TIME", help="Before this time; up to now by default."),
    type: list[str] = typer.Option([], metavar="KIND", help="Only entries of intents of this kind; may come again."),
    wait: bool = typer.Option(False, "--wait", help="Wait until it is done."),
    out: Path | None = typer.Option(None, "--out", metavar="FILE", help="Wait, and write the bundle into this file."),
    idempotency_key: str | None = typer.Option(None, help="A key of your own: asking again with it asks nothing new."),
    url: str = URL,
    key: str = KEY,
    as_json: bool = JSON_OPTION,
) -> None:
    """Have a range of the tenant's evidence exported.

    \b
    Examples:
      zentra evidence exports ask --since 2026-10-01T00:00Z --until 2026-11-01T00:00Z --out october.tar
      zentra evidence exports ask --wait --json
    """
    begin, end = _time("--since", since), _time("--until", until)

    def ask(client: Zentra) -> tuple[Any, bytes | None]:
        job = client.evidence.export(since=begin, until=end, types=type or None, idempotency_key=idempotency_key)
        if wait or out is not None:
            job = client.evidence.wait_export(job.id, WAIT_SECONDS)
        return job, client.evidence.get_export_content(job.id) if out is not None and job.state == "done" else None

    job, content = asked(url, key, ask)
    if out is not None and content is not None:
        if sha256(content).hexdigest() != job.sha256:
            raise refused(f"{job.id}: what came is not the file that was made; fetch it again")
        try:
            out.write_bytes(content)
        except OSError as error:
            raise refused(f"{out}: {error.strerror or error}") from error
    if as_json:
        say_json(msgspec.to_builtins(job))
    else:
        reason = f" ({job.error})" if job.error else ""
        say(f"{job.id}: {job.state}{reason}, {job.leaves_done:,} of {job.leaves:,} leaves")
        if job.state == "done":
            say(f"{out or 'the file'}: {job.bytes:,} bytes, SHA-256 {job.sha256}; kept until {job.expires_at}")
    if job.state == "failed":
        raise typer.Exit(3)


@exports_app.command("list", cls=OwnCommand, epilog=EPILOG)
def list_exports(
    state: str | None = typer.Option(None, help="waiting, running, done, failed or expired."),
    limit: int = typer.Option(50, min=1, max=1_000, help="At most so many, the latest first."),
    url: str = URL,
    key: str = KEY,
    as_json: bool = JSON_OPTION,
) -> None:
    """List the exports that were asked for: zentra evidence exports list --state running"""

    def ask(client: Zentra) -> list[Any]:
        jobs = client.evidence.export_jobs(state=state, page_size=min(limit, 100))
        return [one for _, one in zip(range(limit), jobs, strict=False)]

    rows = msgspec.to_builtins(asked(url, key, ask))
    if as_json:
        say_json(rows)
    else:
        table(rows, COLUMNS, "no exports")


def _time(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InputError(f"{option} {text}: a time with its offset, like 2026-04-01T00:00Z")
    return found
