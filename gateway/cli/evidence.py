"""`zentra evidence`: verify what was exported, offline, with the public key alone; export it; make it readable.

- `verify` and `render` read nothing but the files named: no network, no database, no configuration, no environment.
- The exit code of `verify` is the answer: 0 verified, 1 tampered, 2 incomplete, 3 the question could not be asked.
  Tampered wins over incomplete.
- `export` and `consistency` read the installation, and leave with the same codes: 0 done, 3 it could not be done.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec
import typer
from typer.core import TyperCommand, TyperGroup

from zentra.gateway.cli.printable import printable
from zentra.runtime.evidence.anchors import is_anchor_file, read_anchors, torn_rows
from zentra.runtime.evidence.bundle_check import BundleVerdict
from zentra.runtime.evidence.heads import ORIGIN, TreeHead
from zentra.runtime.evidence.history import HistoryFlaw, KeyHistory, ring_with
from zentra.runtime.evidence.key_files import history_of_file, key_ring_of_file
from zentra.runtime.evidence.keyring import KeyRing, RingKey, head_flaw_in
from zentra.runtime.evidence.notes import NoteFlaw, read_note
from zentra.runtime.evidence.packet import Verdict
from zentra.runtime.evidence.personal import personal_in
from zentra.runtime.evidence.verifying import packet_of_envelope, verify_text

__all__ = ["ExitCode", "Group", "OwnCommand", "anchor_of", "evidence_app", "is_tar", "read_file", "refused"]

ANCHORS_SHOWN_MAX = 8
PROBLEMS_SHOWN_MAX = 20  # the first one names the place; the rest of a long list only repeats its echo
TAR_MAGIC = (257, b"ustar")


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


class OwnCommand(TyperCommand):
    """A command whose wrong usage is 3."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _own_usage_code():
            return super().make_context(*args, **kwargs)


class Group(TyperGroup):
    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _own_usage_code():
            return super().make_context(*args, **kwargs)

    def resolve_command(self, *args: Any, **kwargs: Any) -> Any:
        with _own_usage_code():
            return super().resolve_command(*args, **kwargs)


EPILOG = "Exit codes: 0 verified or done, 1 tampered, 2 incomplete, 3 wrong usage, or it could not be done."
evidence_app = typer.Typer(
    help="Evidence: verify it offline, export it, make it readable.", cls=Group, no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip
KEY = typer.Option(metavar="PUB.pem", help="Ed25519 public keys to believe: PEM, or a JWK set; may come again.")
HISTORY = typer.Option(
    None, "--history", metavar="KEYS.json",
    help="The history of the keys: each that its signatures join to a --key is believed, in its time.",
)  # fmt: skip
ANCHOR = typer.Option(
    [], "--anchor", metavar="CHECKPOINT",
    help="Checkpoints that you kept: a signed note, a head as JSON, or a file of anchors; may come again.",
)  # fmt: skip


@evidence_app.callback()
def _evidence() -> None:
    """Check evidence offline."""


@evidence_app.command(cls=OwnCommand, epilog=EPILOG)
def verify(
    file: Path = typer.Argument(metavar="FILE", help="A packet, its envelope, a bundle, a proof or a checkpoint."),
    key: list[Path] = KEY,
    history: Path | None = HISTORY,
    anchor: list[Path] = ANCHOR,
    jobs: int = typer.Option(1, min=1, max=64, help="How many processes share the work of a large bundle."),
    as_json: bool = typer.Option(False, "--json", help="Print the whole verdict as JSON."),
) -> None:
    """Verify evidence with the public key alone, without network, database or configuration.

    \b
    Integrity (nothing was changed) and completeness (nothing is missing) are answered apart. A log that was cut off, or
    restored from an old copy, contradicts nothing in itself: only a checkpoint that you kept elsewhere shows it.
    \b
    Examples:
      zentra evidence verify packet.json --key pub.pem
      zentra evidence verify acme-2026-10.tar --key pub.pem --anchor october.checkpoint --jobs 2
      zentra evidence verify acme.tar --key first.pem --history evidence-keys.json --anchor anchors.jsonl
      zentra evidence verify consistency.json --key pub.pem --json
    """
    keys = None if history is None else _history(history)
    ring = _ring(key, keys, history)
    anchors = [head for one in anchor for head in _anchors(one, ring, file)]
    verdict = _verified(file, ring, anchors, jobs, keys)
    code = _exit_code(verdict)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(verdict), separators=(",", ":")).replace("\x7f", "\\u007f"))
    else:
        lines = [*_report(verdict, code), *(() if keys is None else _told_history(keys))]
        if verdict.ok and not is_tar(file):
            lines += _told_personal(read_file(file))
        for line in lines:
            typer.echo(printable(line))
    raise typer.Exit(code)


def _verified(
    file: Path, ring: KeyRing, anchors: Sequence[TreeHead], jobs: int, history: KeyHistory | None
) -> Verdict | BundleVerdict:
    if not is_tar(file):
        return verify_text(read_file(file), ring, anchors)
    from zentra.gateway.cli.progress import shown_progress
    from zentra.storage.verification.bundle_files import verify_bundle

    try:
        with shown_progress() as progress:
            return verify_bundle(file, ring, anchors, progress, jobs=jobs, history=history)
    except OSError as error:
        raise refused(f"{file}: {error.strerror or error}") from error


def is_tar(file: Path) -> bool:
    """Return whether a file is a tar file; leave with 3 where it cannot be read."""
    place, magic = TAR_MAGIC
    try:
        with file.open("rb") as opened:
            opened.seek(place)
            return opened.read(len(magic)) == magic
    except OSError as error:
        raise refused(f"{file}: {error.strerror or error}") from error


def anchor_of(data: bytes, ring: KeyRing) -> TreeHead:
    """Return the head that somebody kept, verified; raise NoteFlaw for what no key of `ring` has signed."""
    if not data.lstrip().startswith(b"{"):
        return read_note(data, ring)
    try:
        head = msgspec.json.decode(data, type=TreeHead)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise NoteFlaw("checkpoint_malformed", f"it is no head: {error}") from error
    flaw = head_flaw_in(ring, head)
    if flaw is not None:
        raise NoteFlaw(*flaw)
    return head


def _exit_code(verdict: Verdict | BundleVerdict) -> ExitCode:
    if verdict.ok:
        return ExitCode.VERIFIED
    return ExitCode.INCOMPLETE if verdict.integrity else ExitCode.TAMPERED


def _report(verdict: Verdict | BundleVerdict, code: ExitCode) -> Iterator[str]:
    if verdict.ok:
        yield "evidence: verified"
        if isinstance(verdict, BundleVerdict):
            yield from _told_bundle(verdict)
        else:
            yield from _told(verdict)
            yield from _told_uncovered(verdict, "which are of other sizes")
        return
    yield f"evidence: FAILED ({code.name.lower()})"
    if isinstance(verdict, BundleVerdict):
        yield f"  integrity     {'nothing was changed' if verdict.integrity else 'BROKEN'}"
        yield f"  completeness  {'nothing is missing' if verdict.completeness else 'SOMETHING IS MISSING'}"
        yield from _told_unseen(verdict)
        yield from _told_uncovered(verdict)
    for problem in verdict.problems[:PROBLEMS_SHOWN_MAX]:
        yield f"  {problem.where}: {problem.code}: {problem.detail}"
    hidden = max(len(verdict.problems), getattr(verdict, "problems_in_all", 0)) - PROBLEMS_SHOWN_MAX
    if hidden > 0:
        yield f"  and {hidden} more"


def _told(verdict: Verdict) -> Iterator[str]:
    yield f"  tenant       {verdict.tenant}"
    if verdict.intent is not None:
        yield f"  intent       {verdict.intent_id or '-'} ({verdict.intent})"
    if verdict.records:
        yield f"  records      {verdict.records}"
        yield f"  attachments  {verdict.attachments}"
    if verdict.head_size is not None:
        yield f"  head         {verdict.head_size} leaves at {verdict.head_at}"
        yield f"  key          {verdict.key_id}"


def _told_personal(data: bytes) -> Iterator[str]:
    """Say how much of the personal data of a verified packet can be read."""
    try:
        packet = msgspec.json.decode(packet_of_envelope(data), type=_Personal)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    named = personal_in(packet.command.get("metadata") or {})
    here = {attachment.sha256 for attachment in packet.attachments}
    if named:
        opened = sum(digest in here for digest in named.values())
        yield f"  personal     {len(named)} values, {opened} readable, {len(named) - opened} erased or left out"


class _Attached(msgspec.Struct, frozen=True):
    sha256: str


class _Personal(msgspec.Struct, frozen=True):
    command: dict[str, Any] = {}
    attachments: list[_Attached] = []


def _told_bundle(verdict: BundleVerdict) -> Iterator[str]:
    yield "  integrity     nothing was changed"
    but = ", but for what the filter left out" if verdict.left_out else ""
    yield f"  completeness  nothing is missing of the range{but}, as far as anchors reach"
    yield f"  tenant        {verdict.tenant}"
    yield f"  range         leaves {verdict.first} to {verdict.size} of the log ({verdict.since or 'the beginning'} to"
    yield f"                {verdict.until or verdict.head_at})"
    yield f"  entries       {verdict.entries} under {verdict.leaves} leaves"
    yield from _told_unseen(verdict)
    yield f"  refusals      {verdict.denials}; earlier exports {verdict.exports}"
    yield f"  anchored      {_range(verdict.anchored)}"
    yield f"  unanchored    {_range(verdict.unanchored)}"
    yield from _told_uncovered(verdict)
    yield f"  keys          {', '.join(verdict.key_ids)}"


def _told_unseen(verdict: BundleVerdict) -> Iterator[str]:
    """Say what the bundle cannot show: leaves without records have no kind, so nobody can check the filter; and intents
    that were open stand in no log yet."""
    if verdict.left_out:
        yield f"  not shown     {verdict.left_out} leaves left out by filter; nothing proves of which kind they are"
    if verdict.not_sealed is not None:
        yield f"  not sealed    {verdict.not_sealed} intents that were open when it was made; nothing here covers them"
    elif verdict.tenant is not None:
        yield "  not sealed    the bundle does not say how many intents were open when it was made"


def _told_history(history: KeyHistory) -> Iterator[str]:
    """Say how far the history goes: a copy that was cut off at its end contradicts nothing in itself."""
    yield f"  history       of {len(history.entries)} keys, the last since {history.entries[-1].since}"


def _told_uncovered(verdict: Verdict | BundleVerdict, why: str = "which are before the range") -> Iterator[str]:
    """Say which anchors nothing was held to, so that nobody takes them for compared."""
    if verdict.not_covered:
        sizes = ", ".join(map(str, verdict.not_covered[:ANCHORS_SHOWN_MAX]))
        more = len(verdict.not_covered) - ANCHORS_SHOWN_MAX
        others = f" and {more} more" if more > 0 else ""
        yield f"  not covered   anchors of {sizes}{others} leaves, {why}"


def _range(leaves: tuple[int, int] | None) -> str:
    return "nothing" if leaves is None else f"leaves {leaves[0]} to {leaves[1]}"


def read_file(path: Path) -> bytes:
    """Return what a file holds; leave with 3 where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise refused(f"{path}: {error.strerror or error}") from error


def _history(path: Path) -> KeyHistory:
    try:
        return history_of_file(read_file(path))
    except HistoryFlaw as flaw:
        raise refused(f"{path}: {flaw.code}: {flaw}") from flaw


def _ring(paths: Sequence[Path], history: KeyHistory | None, told: Path | None) -> KeyRing:
    ring: dict[str, RingKey] = {}
    for path in paths:
        try:
            ring |= key_ring_of_file(read_file(path))
        except ValueError as error:
            raise refused(f"{path}: {error}") from error
    if history is None:
        return ring
    try:
        return ring_with(ring, history)
    except HistoryFlaw as flaw:
        raise refused(f"{told}: {flaw.code}: {flaw}") from flaw


def _anchors(path: Path, ring: KeyRing, about: Path) -> list[TreeHead]:
    """Return what a file keeps: of many checkpoints those that concern whose evidence `about` is; leave with 3 where it
    keeps none, because that says nothing about the evidence."""
    data = read_file(path)
    try:
        return _kept(data, path, ring, about)
    except NoteFlaw as flaw:
        raise refused(f"{path}: {flaw.code}: {flaw}; it is no checkpoint to compare with") from flaw


def _kept(data: bytes, path: Path, ring: KeyRing, about: Path) -> list[TreeHead]:
    if not is_anchor_file(data):
        return [anchor_of(data, ring)]
    if torn := torn_rows(data):
        lines = ", ".join(str(number) for number in torn[:10])
        typer.echo(f"{path}: {len(torn)} lines were cut off and keep nothing, the first of them: {lines}", err=True)
    return read_anchors(data, ring, _tenant_of(about))


def _tenant_of(file: Path) -> str | None:
    """Return whose evidence a file says it is, or None where it does not say; a verifier sees to the rest."""
    if is_tar(file):
        from zentra.storage.verification.bundle_files import tenant_of_bundle

        return tenant_of_bundle(file)
    data = read_file(file)
    if data.startswith(ORIGIN.encode()):
        return data.partition(b"\n")[0].removeprefix(ORIGIN.encode()).decode("utf-8", "replace")
    try:
        return msgspec.json.decode(packet_of_envelope(data), type=_Whose).tenant
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class _Whose(msgspec.Struct, frozen=True):
    tenant: str | None = None


def refused(reason: str) -> typer.Exit:
    """Say why the question could not be asked; return what leaves with 3."""
    typer.echo(f"evidence: {printable(reason)}", err=True)
    return typer.Exit(ExitCode.USAGE)
