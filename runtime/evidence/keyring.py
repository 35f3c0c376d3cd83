"""The keys that may have signed evidence, by id, each with the time in which it may have.

- Whoever verifies says which keys to believe; nothing that is verified ever adds one.
- A head is judged by the key that it names and the time that it says: outside of that key's time it is nobody's.
"""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from zentra.runtime.evidence.heads import TreeHead, head_flaw, key_id

__all__ = ["KeyRing", "RingKey", "head_flaw_in", "ring_of"]


class RingKey(msgspec.Struct, frozen=True):
    """A public key and when it may have signed: from `since` on, before `until`; None has no end on that side.

    Both are RFC 3339 in UTC with microseconds, as in heads, so they are compared as text."""

    public: Ed25519PublicKey
    since: str | None = None
    until: str | None = None

    def holds(self, at: str) -> bool:
        """Return whether the key was good at a time."""
        return (self.since is None or at >= self.since) and not self.retired(at)

    def retired(self, at: str) -> bool:
        """Return whether another key had followed by a time."""
        return self.until is not None and at >= self.until


KeyRing: TypeAlias = Mapping[str, RingKey]
"""Keys by their id."""


def ring_of(keys: Iterable[Ed25519PublicKey]) -> KeyRing:
    """Return the ring of keys that may have signed at any time."""
    return {key_id(key): RingKey(key) for key in keys}


def head_flaw_in(ring: KeyRing, head: TreeHead) -> tuple[str, str] | None:
    """Return why `head` is not one that a key of `ring` signed in its time, as (stable code, sentence), or None."""
    known = ring.get(head.key_id)
    if known is None:
        named = ", ".join(sorted(ring)) or "none"
        return "key_differs", f"it names key {head.key_id!r}, the keys given are {named}"
    flaw = head_flaw(known.public, head)
    if flaw is not None:
        return flaw
    if not known.holds(head.at):
        since, until = known.since or "the beginning", known.until or "now"
        return "key_out_of_time", f"it was signed at {head.at}, key {head.key_id} is good from {since} until {until}"
    return None
