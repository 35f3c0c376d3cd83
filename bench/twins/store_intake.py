"""The intake of the store's twin: which key, and which intent, was first; what `storage/intake/registration.py` says.

- A key that is known gives what it has stored, and whether that is a replay or a reused key is for the caller to say.
- The same intent under another key makes that key another name of the first; another intent under its id is refused,
  and that key is not kept."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from zentra.runtime.idempotency import KeyRef, StoredKey
from zentra.runtime.messages import Due, Opening, encode_frame
from zentra.runtime.subjects import command_subject, event_subject
from zentra.storage.intake.registration import IntentIdTaken, Outcome, Registered, Registration

__all__ = ["Intake", "frames_of"]


class IntentRow(Struct, frozen=True):
    """An intent as registered: its uuid, its digest, and the key it came with."""

    intent: str
    digest: bytes
    key: str


class Intake:
    """The keys and the intents' own ids, by tenant."""

    def __init__(self) -> None:
        self.keys: dict[KeyRef, StoredKey] = {}
        self.intents: dict[tuple[str, str], IntentRow] = {}

    def settle(self, item: Registration) -> Outcome:
        """Store the key and the id of a new intent and return Registered, or return what stands in its way."""
        place = item.tenant, item.key
        known = self.keys.get(place)
        if known is not None:
            return known
        first = self.intents.get((item.tenant, item.intent_id))
        if first is None:
            self.intents[item.tenant, item.intent_id] = IntentRow(item.intent, item.digest, item.key)
            self.keys[place] = StoredKey(
                item.digest, item.status, item.answer, f"intent/{item.intent}", item.request_id, item.transition.at
            )
            return Registered()
        if first.digest != item.digest:
            return IntentIdTaken(first.intent)
        self.keys[place] = msgspec.structs.replace(self.keys[item.tenant, first.key], digest=item.digest)
        return self.keys[place]


def frames_of(item: Registration, *, feed: bool) -> Iterator[tuple[str, bytes, str, bytes]]:
    """Yield subject, body, id and what is kept of the body where that is less, of what a registration publishes: its
    first event, and its record for the feed."""
    transition, partition = item.transition, item.timer.partition
    due = Due(item.intent, item.tenant, transition.sequence, Opening(transition.record, transition.hash))
    kept = encode_frame([msgspec.structs.replace(due, opening=None)])
    yield command_subject(partition, "policy"), encode_frame([due]), f"f{item.intent[1:]}", kept
    if not feed:
        return
    subject = event_subject(partition, item.tenant, transition.event)
    yield subject, b"[" + transition.record + b"]", f"e{item.intent[1:]}", b""
