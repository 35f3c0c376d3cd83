"""`zentra evidence`: check a packet offline, with the public key alone.

- Nothing is read but the two files named: no network, no database, no configuration, no environment.
- The exit code is the answer: 0 verified, 1 tampered, 2 incomplete, 3 the question could not be asked. Tampered wins
  over incomplete.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from typer.core import TyperCommand, TyperGroup

from zentra.runtime.evidence.heads import load_public_key
from zentra.runtime.evidence.packet import Verdict, verify_packet

__all__ = ["ExitCode", "evidence_app"]

PROBLEMS_SHOWN_MAX = 20  # the first one names the place; the rest of a long list only repeats its echo


class ExitCode(IntEnum):
    """What the command says to a script."""

    VERIFIED = 0
    TAMPERED = 1
    INCOMPLETE = 2
    USAGE = 3


@contextmanager
def _own_usage_code() -> Iterator[None]:
    """Let wrong arguments end with 3, because the customary 2 means something else here."""
    try:
        yield
    except Exception as error:
        # click and the copy of it inside typer have no base in common but this attribute; `--help` leaves with 0.
        if getattr(error, "exit_code", None) == 2:
            vars(error)["exit_code"] = int(ExitCode.USAGE)
        raise


class _Command(TyperCommand):
    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _own_usage_code():
            return super().make_context(*args, **kwargs)


class _Group(TyperGroup):
    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _own_usage_code():
            return super().make_context(*args, **kwargs)

    def resolve_command(self, *args: Any, **kwargs: Any) -> Any:
        with _own_usage_code():
            return super().resolve_command(*args, **kwargs)


evidence_app = typer.Typer(help="Check evidence offline.", cls=_Group, no_args_is_help=True)


@evidence_app.callback()
def _evidence() -> None:
    """Check evidence offline."""


@evidence_app.command(cls=_Command)
def verify(
    file: Path = typer.Argument(metavar="FILE", help="The audit packet, as exported."),
    key: Path = typer.Option(metavar="PUB.pem", help="The Ed25519 public key that signs the tenant's log, in PEM."),
    as_json: bool = typer.Option(False, "--json", help="Print the whole verdict as JSON."),
) -> None:
    """Verify an audit packet: exit 0 verified, 1 tampered, 2 incomplete, 3 wrong usage."""
    verdict = verify_packet(_read(file), _public_key(key))
    code = _exit_code(verdict)
    if as_json:
        typer.echo(msgspec.json.encode(verdict).decode())
    else:
        for line in _report(verdict, code):
            typer.echo(line)
    raise typer.Exit(code)


def _exit_code(verdict: Verdict) -> ExitCode:
    if verdict.ok:
        return ExitCode.VERIFIED
    return ExitCode.INCOMPLETE if verdict.integrity else ExitCode.TAMPERED


def _report(verdict: Verdict, code: ExitCode) -> Iterator[str]:
    if verdict.ok:
        yield "evidence: verified"
        yield f"  tenant       {verdict.tenant}"
        yield f"  intent       {verdict.intent_id} ({verdict.intent})"
        yield f"  records      {verdict.records}"
        yield f"  attachments  {verdict.attachments}"
        yield f"  head         {verdict.head_size} leaves at {verdict.head_at}"
        yield f"  key          {verdict.key_id}"
        return
    yield f"evidence: FAILED ({code.name.lower()})"
    for problem in verdict.problems[:PROBLEMS_SHOWN_MAX]:
        yield f"  {problem.where}: {problem.code}: {problem.detail}"
    hidden = len(verdict.problems) - PROBLEMS_SHOWN_MAX
    if hidden > 0:
        yield f"  and {hidden} more"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refused(f"{path}: {error.strerror or error}") from error


def _public_key(path: Path) -> Ed25519PublicKey:
    pem = _read(path)
    try:
        return load_public_key(pem)
    except ValueError as error:
        raise _refused(f"{path}: {error}") from error


def _refused(reason: str) -> typer.Exit:
    typer.echo(f"evidence: {reason}", err=True)
    return typer.Exit(ExitCode.USAGE)
