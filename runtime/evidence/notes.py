"""Checkpoints as C2SP signed notes: read, and verified against a ring of keys (c2sp.org/signed-note, tlog-checkpoint).

- Nothing of a note is believed before a signature over its text has been verified. Signatures of unknown keys, such as
  those of witnesses, are ignored; one that claims to be a known key's and is not spoils the note.
- Only one text spells a head: what is read is spelled again and compared.
"""

import base64
import re
from hashlib import sha256
from typing import Final

from zentra.runtime.evidence.heads import ORIGIN, TreeHead, signed_bytes
from zentra.runtime.evidence.keyring import KeyRing, head_flaw_in

__all__ = ["NoteFlaw", "key_hint", "read_note", "verifier_key"]

NOTE_BYTES_MAX: Final = 64 * 1024  # sixteen signatures, of whatever kind, are well below it
_SIGNATURE: Final = re.compile("\N{EM DASH} ([^ +\\s]+) ([A-Za-z0-9+/]+=*)")
_TEXT: Final = re.compile(
    r"(?P<origin>[^\n]+)\n(?P<size>0|[1-9]\d{0,15})\n(?P<root>[^\n]+)\nat (?P<at>[^\n]+)\n", re.ASCII
)


class NoteFlaw(ValueError):
    """Raised for what is no checkpoint of a key that is believed; `code` is stable."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def read_note(data: bytes, ring: KeyRing) -> TreeHead:
    """Return the head that a signed note holds, verified; raise NoteFlaw."""
    try:
        text, _, signatures = data.decode().rpartition("\n\n")
    except UnicodeDecodeError as error:
        raise NoteFlaw("checkpoint_malformed", "it is no UTF-8") from error
    text += "\n"
    found = _TEXT.fullmatch(text)
    if found is None or len(data) > NOTE_BYTES_MAX or not signatures.endswith("\n"):
        raise NoteFlaw("checkpoint_malformed", "it is no checkpoint with origin, size, root and time")
    origin, size, at = found["origin"], int(found["size"]), found["at"]
    try:
        root = base64.b64decode(found["root"], validate=True)
    except ValueError as error:
        raise NoteFlaw("checkpoint_malformed", f"its root is not base64: {error}") from error
    if not origin.startswith(ORIGIN):
        raise NoteFlaw("checkpoint_malformed", f"its origin {origin!r} is not one of {ORIGIN}")
    mine = _ours(signatures, origin, ring)
    if not mine:
        raise NoteFlaw("key_differs", "none of its signatures is of a key that was given")
    heads = [TreeHead(origin.removeprefix(ORIGIN), size, root.hex(), at, kid, raw.hex()) for kid, raw in mine]
    for head in heads:
        flaw = head_flaw_in(ring, head)
        if flaw is not None:
            raise NoteFlaw(*flaw)
    if signed_bytes(heads[0]) != text.encode():
        raise NoteFlaw("checkpoint_malformed", "its text is not the spelling of its head")
    return heads[0]


def _ours(signatures: str, origin: str, ring: KeyRing) -> list[tuple[str, bytes]]:
    """Return the signatures that say to be of keys of `ring`, by the ids of these."""
    hints = {key_hint(origin, known.public.public_bytes_raw()): kid for kid, known in ring.items()}
    found = []
    for line in signatures.splitlines():
        signed = _SIGNATURE.fullmatch(line)
        if signed is None:
            raise NoteFlaw("checkpoint_malformed", "a signature line is not one")
        raw = _bytes_of(signed[2])
        if signed[1] == origin and raw[:4] in hints:
            found.append((hints[raw[:4]], raw[4:]))
    return found


def key_hint(origin: str, public: bytes) -> bytes:
    """Return the four bytes by which a signature line names an Ed25519 key of 32 bytes."""
    return sha256(origin.encode() + b"\n\x01" + public).digest()[:4]


def verifier_key(origin: str, public: bytes) -> str:
    """Return a key as tools for signed notes take it: name, hint and key (`name+hint+base64(0x01 || key)`)."""
    return f"{origin}+{key_hint(origin, public).hex()}+{base64.b64encode(bytes([1]) + public).decode()}"


def _bytes_of(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise NoteFlaw("checkpoint_malformed", f"a signature is not base64: {error}") from error
