"""What a check of a history finds."""

from __future__ import annotations

from msgspec import Struct

from zentra.bench.histories.recording import Call

__all__ = ["ORDERED", "RULES", "Violation", "violation"]

# Every rule with what it says; each has at least one planted history in the tests.
# fmt: off
RULES = {
    "acknowledged":   "what was acknowledged is in the store, under the key and with the content that were sent",
    "answer":         "a repeat is answered with the bytes of the first answer",
    "first":          "one answer alone is the first one of an intent, and a replay replays something",
    "changed":        "a key or an intent_id that is used with changed content is refused, naming what differs",
    "refusal":        "what is refused broke the rule that is named, and what breaks a rule is refused",
    "conflict":       "a conflict has somebody to be in conflict with",
    "invented":       "every intent and every key was asked for by somebody who was not refused",
    "one_effect":     "a key and an intent_id have one intent",
    "model":          "the store's rows, in order of commit, are what the model would have done",
    "balances":       "the counters at the end are the sum of the postings",
    "settled":        "whatever was acknowledged has ended, waits for a person, or has a case",
    "balance_read":   "a balance that was read is that of some prefix of the commits",
    "intent_read":    "an intent that was read is that of some prefix of its events",
    "entries_read":   "a page of entries is what a scan of some prefix finds",
    "stale":          "who asks after somebody has seen something sees it too",
    "future":         "nobody sees the effect of a request that is made later",
    "real_time":      "what was seen before a request was made stands before it in the order of commits",
    "unexpected":     "every answer is one that the interface knows",
}
# fmt: on
ORDERED = frozenset({"model", "balance_read", "entries_read", "stale", "future", "real_time"})
"""The rules that rest on the order of commits: where that is only a guess, so is what they find."""


class Violation(Struct, frozen=True, kw_only=True):
    """One thing that no correct runtime shows: the rule, a sentence, and the calls it was seen by."""

    rule: str
    detail: str
    calls: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}" + "".join(f"\n    {call}" for call in self.calls)


def violation(rule: str, detail: str, *calls: Call) -> Violation:
    """Return a violation of one of `RULES`, seen by `calls`."""
    assert rule in RULES, rule
    return Violation(rule=rule, detail=detail, calls=tuple(call.shown() for call in calls))
