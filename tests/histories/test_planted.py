"""Each rule of the checker finds the faults that were planted for it, in a history that is clean without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.histories.world import Crowd, World, call_of, transfer
from zentra.bench.histories.checking import RULES, check
from zentra.bench.histories.model import Commit, Ending, Event, Intent, Posting, StoredKey
from zentra.bench.histories.recording import Call, Create, Operation, Place, ReadAccount, ReadEntries, ReadIntent
from zentra.bench.histories.violations import ORDERED

Told = tuple[list[Call], Ending]
ALICE, SHOP = ReadAccount(tenant="acme", account_id="alice"), ReadAccount(tenant="acme", account_id="shop")
PAGE = ReadEntries(tenant="acme", account_id="alice", limit=3)
OLDER = Place(at="2026-04-01T00:00:00.015+00:00", intent="uuid-a", ordinal=0)


def story(world: World | None = None) -> Crowd:
    """Two transfers and a refusal from start to end, with repeats, mistakes and reads in between.

    Calls: 0 first a, 1 its repeat, 2 changed, 3 other key, 4 taken id, 5 wrong amount, 6 and 7 balances, 8 intent a,
    9 first b, 10 too much, 11 balance, 12 page, 13 older page, 14 intent b, 15 unknown account, 16 unknown intent,
    17 creation with wait, 18 and 19 balances at the end."""
    crowd = Crowd(world or World())
    crowd.world.declines.add("uuid-b")
    asked: list[Operation] = [
        transfer("a"), transfer("a"), transfer("a", 7), transfer("a2", intent_id="i-a"),
        transfer("a3", 9, intent_id="i-a"), transfer("zero", 0), ALICE,
    ]  # fmt: skip
    for operation in asked:
        crowd.ask(operation)
    crowd.world.settle()
    for operation in (ALICE, ReadIntent(tenant="acme", intent_id="i-a"), transfer("b", 300), transfer("c", 5_000)):
        crowd.ask(operation)
    crowd.world.settle()
    reads: list[Operation] = [
        ALICE, PAGE, replace(PAGE, after=OLDER), ReadIntent(tenant="acme", intent_id="i-b"),
        ReadAccount(tenant="acme", account_id="nobody"), ReadIntent(tenant="acme", intent_id="none"),
        transfer("a", wait=1), ALICE, SHOP,
    ]  # fmt: skip
    for operation in reads:
        if isinstance(operation, Create):
            view = crowd.world.view(crowd.world.intents[2])
            call = crowd.ask(operation)
            crowd.calls[-1] = replace(call, status=200, body=msgspec.json.encode(view).decode())
        else:
            crowd.ask(operation)
    crowd.finish()
    return crowd


def test_the_story_itself_is_clean() -> None:
    crowd = story()
    assert check(crowd.calls, crowd.world.ending()) == []
    assert [call.status for call in crowd.calls] == [
        202, 202, 422, 202, 409, 422, 200, 200, 200, 202, 202, 200, 200, 200, 200, 404, 404, 200, 200, 200,
    ]  # fmt: skip


# How faults are planted.


def told(crowd: Crowd) -> Told:
    return crowd.calls, crowd.world.ending()


def hearing(place: int, **changes: Any) -> Callable[[], Told]:
    """Somebody heard something else; `body` is merged into what was heard, an empty one replaces it."""

    def plant() -> Told:
        calls, ending = told(story())
        body = changes.get("body")
        if body is not None:
            heard = {**msgspec.json.decode(calls[place].body), **body} if body else {}
            calls[place] = replace(calls[place], **{**changes, "body": msgspec.json.encode(heard).decode()})
        else:
            calls[place] = replace(calls[place], **changes)
        return calls, ending

    return plant


def hearing_of(place: int, other: int) -> Callable[[], Told]:
    """Somebody heard what another call was told."""

    def plant() -> Told:
        calls, ending = told(story())
        calls[place] = replace(
            calls[place], status=calls[other].status, replayed=calls[other].replayed, body=calls[other].body
        )
        return calls, ending

    return plant


def storing(change: Callable[[Ending], Ending]) -> Callable[[], Told]:
    """The store holds something else."""

    def plant() -> Told:
        calls, ending = told(story())
        return calls, change(ending)

    return plant


def without(ending: Ending, key: str) -> Ending:
    """The store as if a key had never come."""
    gone = ending.keys[key].intent
    commits = [
        Commit(
            tuple(event for event in commit.events if event.intent != gone),
            tuple(row for row in commit.postings if row.intent != gone),
        )
        for commit in ending.commits
    ]
    kept = [intent for intent in ending.intents if intent.id != gone]
    return summed(replace(
        ending, commits=commits, intents=kept, keys={k: v for k, v in ending.keys.items() if v.intent != gone}
    ))  # fmt: skip


def summed(ending: Ending) -> Ending:
    """The same with counters that agree with its postings, so that only the fault itself can be found."""
    sums: dict[str, list[int]] = {}
    for row in (row for commit in ending.commits for row in commit.postings):
        for name, places in ((row.debit, (0, 2)), (row.credit, (1, 3))):
            counters = sums.setdefault(name, [0, 0, 0, 0])
            counters[places[0]] += row.pending
            counters[places[1]] += row.posted
    return replace(ending, balances={name: (a, b, c, d) for name, (a, b, c, d) in sums.items()})


def rows(change: Callable[[Posting], Sequence[Posting]]) -> Callable[[], Told]:
    """The ledger holds other rows."""

    def plant() -> Told:
        _, ending = told(story())
        commits = [
            Commit(commit.events, tuple(new for row in commit.postings for new in change(row)))
            for commit in ending.commits
        ]
        return [], summed(replace(ending, commits=commits))  # nobody looked: the rows alone give it away

    return plant


def events(change: Callable[[Event], Sequence[Event]]) -> Callable[[], Told]:
    """The intents have another history."""

    def plant() -> Told:
        _, ending = told(story())
        commits = [
            Commit(tuple(new for event in commit.events for new in change(event)), commit.postings)
            for commit in ending.commits
        ]
        return [], summed(replace(ending, commits=commits))

    return plant


class Generous(World):
    """Lets everybody take what is not there."""

    def _objection(self, command: dict[str, Any], minor: int) -> str:
        found = super()._objection(command, minor)
        return "" if found == "insufficient_funds" else found


class Miserly(World):
    """Refuses what is there."""

    def _objection(self, command: dict[str, Any], minor: int) -> str:
        return "insufficient_funds" if minor == 300 else super()._objection(command, minor)


class Forgetful(World):
    """Makes a new intent for every request with a key that it knows."""

    def _create(self, asked: Create) -> tuple[int, bool, Any]:
        body = {**asked.body, "intent_id": f"i-{len(self.intents)}"}
        return super()._create(replace(asked, key=f"{asked.key}/{len(self.intents)}", body=body))


def made_twice() -> Told:
    """The same key registers two intents, and both are in the store."""
    calls, ending = told(story())
    (first,) = [intent for intent in ending.intents if intent.key == "a"]
    second = replace(first, id="uuid-again", intent_id="i-again")
    event = Event(intent="uuid-again", sequence=1, event="policy.denied", state="FAILED")
    opened = Event(intent="uuid-again", sequence=1, event="ingress.accepted", state="ACCEPTED")
    commits = [*ending.commits, Commit((opened,)), Commit((replace(event, sequence=2, event="intent.cancelled"),))]
    return calls, replace(ending, intents=[*ending.intents, second], commits=commits)


def lost_update() -> Told:
    """The counters have forgotten a posting."""
    calls, ending = told(story())
    before = ending.balances["shop"]
    return calls, replace(ending, balances={**ending.balances, "shop": (*before[:3], before[3] - 100)})


def unfinished() -> Told:
    crowd = Crowd(World())
    crowd.ask(transfer("a"))
    crowd.world.work(["uuid-a"])
    return told(crowd)


def behind_in_time() -> Told:
    """The transfer that was asked for after another one had been seen stands before it."""
    crowd = Crowd(World())
    crowd.ask(transfer("a"))
    crowd.ask(ReadIntent(tenant="acme", intent_id="i-a"))
    crowd.ask(transfer("b"))
    crowd.world.settle()
    calls, ending = told(crowd)
    registrations = [
        place for place, commit in enumerate(ending.commits) if commit.events[0].intent in ("uuid-a", "uuid-b")
        and commit.events[0].sequence == 1
    ]  # fmt: skip
    commits = list(ending.commits)
    commits.insert(registrations[0], commits.pop(registrations[1]))
    return calls, replace(ending, commits=commits)


def seen_too_early() -> Told:
    """A balance is shown with a transfer that is asked for only later."""
    crowd = Crowd(World())
    crowd.begin(1, ALICE)
    early = crowd.end(1)
    crowd.ask(transfer("a"))
    crowd.world.settle()
    late = crowd.ask(ALICE)
    crowd.calls[early.number] = replace(early, body=late.body)
    return told(crowd)


def page_seen_too_early() -> Told:
    crowd = Crowd(World())
    early = crowd.ask(PAGE)
    crowd.ask(transfer("a"))
    crowd.world.settle()
    late = crowd.ask(PAGE)
    crowd.calls[early.number] = replace(early, body=late.body)
    return told(crowd)


def seen_intent_too_early() -> Told:
    crowd = Crowd(World())
    look = ReadIntent(tenant="acme", intent_id="i-a")
    early = crowd.ask(look)
    crowd.ask(transfer("a"))
    late = crowd.ask(look)
    crowd.calls[early.number] = replace(early, status=200, body=late.body)
    crowd.finish()
    return told(crowd)


def proved_by_another(look: Operation, seen: Operation) -> Callable[[], Told]:
    """Somebody saw the end of a transfer in one place; who asks afterwards in another place does not."""

    def plant() -> Told:
        crowd = Crowd(World())
        crowd.ask(transfer("a"))
        before = crowd.ask(look)
        crowd.world.settle()
        crowd.ask(seen)
        after = crowd.ask(look)
        crowd.calls[after.number] = replace(after, status=before.status, body=before.body)
        return told(crowd)

    return plant


def forgotten_after_answer() -> Told:
    """The balance goes back: read new, then old."""
    crowd = story()
    calls, ending = told(crowd)
    calls[18] = replace(calls[18], body=calls[6].body)
    return calls, ending


def never_so() -> Told:
    """A balance between a posting's two sides: one shows a sum that no commit left."""
    calls, ending = told(story())
    shown = msgspec.json.decode(calls[7].body)
    shown["counters"]["debits_pending"] = "1"
    shown["pending"], shown["available"] = "-1", str(int(shown["available"]) - 1)
    calls[7] = replace(calls[7], body=msgspec.json.encode(shown).decode())
    return calls, ending


def overlapping(status: int, replayed: bool, body: dict[str, Any]) -> Callable[[], Told]:
    """The only request with a key is told of another one."""

    def plant() -> Told:
        crowd = Crowd(World())
        crowd.calls.append(call_of(0, 0, transfer("a"), 1_000, 2_000, (status, replayed, body)))
        return told(crowd)

    return plant


def only_changed() -> Told:
    """A replay that was answered, and the first request came later."""
    crowd = Crowd(World())
    first = crowd.ask(transfer("a"))
    crowd.calls[0] = replace(first, replayed=True)
    crowd.finish()
    return told(crowd)


def refused_and_done() -> Told:
    """A request is refused, and done all the same."""
    crowd = Crowd(World())
    first = crowd.ask(transfer("a"))
    crowd.calls[0] = replace(first, status=409, body='{"code":"intent_id_conflict"}')
    crowd.finish()
    return told(crowd)


def conflict_of_known_key() -> Told:
    """A key that is known is answered as if its intent_id were what is wrong."""
    crowd = Crowd(World())
    crowd.ask(transfer("a"))
    crowd.ask(transfer("b"))
    last = crowd.ask(transfer("a", 9, intent_id="i-b"))
    crowd.calls[last.number] = replace(last, body='{"code":"intent_id_conflict"}')
    crowd.finish()
    return told(crowd)


def page_without(place: int) -> Callable[[], Told]:
    """An entry is left out, and the page goes on one further."""

    def plant() -> Told:
        crowd = story()
        calls, ending = told(crowd)
        shown = crowd.world.page(replace(PAGE, limit=4))
        del shown["data"][place]
        calls[12] = replace(calls[12], body=msgspec.json.encode({**shown, "has_more": True}).decode())
        return calls, ending

    return plant


def page_changed(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[], Told]:
    def plant() -> Told:
        calls, ending = told(story())
        shown = msgspec.json.decode(calls[12].body)
        change(shown["data"])
        calls[12] = replace(calls[12], body=msgspec.json.encode(shown).decode())
        return calls, ending

    return plant


def with_command(intent: Intent, **changes: Any) -> Intent:
    return replace(intent, command={**intent.command, **changes})


def is_of(row: Posting | Event, intent: str, kind: str) -> bool:
    return row.intent == intent and (row.kind if isinstance(row, Posting) else row.event) == kind


def over_the_limit() -> Told:
    """The policy passes what its limit forbids."""
    crowd = Crowd(World())
    crowd.ask(transfer("a", 5_001))
    crowd.finish()
    return told(crowd)


LOOK_A = ReadIntent(tenant="acme", intent_id="i-a")
NO_KEY = {"code": "idempotency_key_reused", "fields": ["minor"]}
# What was planted, how, and the rule that has to find it.
# fmt: off
# ruff: noqa: E501
PLANTED: list[tuple[str, Callable[[], Told], str]] = [
    ("an acknowledged write is lost",            storing(lambda e: without(e, "b")),                            "acknowledged"),
    ("a key is lost, its intent is not",         storing(lambda e: replace(e, keys={k: v for k, v in e.keys.items() if k != "b"})), "acknowledged"),
    ("the answer names another intent",          hearing(9, body={"id": "uuid-a"}),                             "acknowledged"),
    ("a repeat gets other bytes",                hearing(1, body={"status": "SUCCESSFUL"}),                     "answer"),
    ("a stale answer is kept",                   storing(lambda e: replace(e, keys={**e.keys, "b": StoredKey("uuid-b", "{}")})), "answer"),
    ("two answers say they are the first",       hearing(1, replayed=False),                                    "first"),
    ("another key says it is the first",         hearing(3, replayed=False),                                    "first"),
    ("a replay of nothing",                      only_changed,                                                  "first"),
    ("a changed repeat is accepted",             hearing_of(2, 1),                                              "changed"),
    ("a changed id is accepted",                 hearing_of(4, 3),                                              "acknowledged"),
    ("the store has other content",              storing(lambda e: replace(e, intents=[with_command(i, destination="bob") for i in e.intents])), "changed"),
    ("a repeat is refused as changed",           hearing(1, status=422, body={"code": "idempotency_key_reused", "fields": []}), "changed"),
    ("the wrong field is named",                 hearing(2, body={"fields": ["currency"]}),                     "changed"),
    ("a fresh key is refused as used",           overlapping(422, False, NO_KEY),                               "changed"),
    ("a fresh id is refused as taken",           overlapping(409, False, {"code": "intent_id_conflict"}),       "changed"),
    ("the second objection comes first",         conflict_of_known_key,                                         "changed"),
    ("a zero amount is accepted",                hearing_of(5, 9),                                              "refusal"),
    ("a sound request is refused",               hearing_of(9, 5),                                              "refusal"),
    ("another rule is named",                    hearing(5, body={"errors": [{"pointer": "/currency", "code": "currency_unknown"}]}), "refusal"),
    ("a conflict with nobody",                   overlapping(409, False, {"code": "idempotency_in_flight"}),    "conflict"),
    ("refused, and done all the same",           refused_and_done,                                              "invented"),
    ("a key has two intents",                    made_twice,                                                    "one_effect"),
    ("every repeat is done again",               lambda: told(story(Forgetful())),                              "acknowledged"),
    ("overdraft",                                lambda: told(story(Generous())),                               "model"),
    ("refused in spite of funds",                lambda: told(story(Miserly())),                                "model"),
    ("a reserve is written twice",               rows(lambda r: [r, replace(r, ordinal=9)] if is_of(r, "uuid-a", "reserve") else [r]), "model"),
    ("a post is written twice",                  rows(lambda r: [r, replace(r, ordinal=9)] if is_of(r, "uuid-a", "post") else [r]), "model"),
    ("a settlement leg is missing",              rows(lambda r: [] if is_of(r, "uuid-a", "settle") else [r]),   "model"),
    ("the wrong sign",                           rows(lambda r: [replace(r, debit=r.credit, credit=r.debit)] if is_of(r, "uuid-a", "settle") else [r]), "model"),
    ("another amount",                           rows(lambda r: [replace(r, posted=101)] if is_of(r, "uuid-a", "settle") else [r]), "model"),
    ("money to another account",                 rows(lambda r: [replace(r, credit="bob")] if is_of(r, "uuid-a", "settle") else [r]), "model"),
    ("a hold is never released",                 rows(lambda r: [] if r.kind == "release" else [r]),            "model"),
    ("a posting in another currency",            rows(lambda r: [replace(r, currency="USD")] if is_of(r, "uuid-a", "settle") else [r]), "model"),
    ("a posting of nobody",                      rows(lambda r: [r, replace(r, intent="uuid-x")] if is_of(r, "uuid-a", "reserve") else [r]), "model"),
    ("an event is missing",                      events(lambda e: [] if is_of(e, "uuid-a", "provider.routed") else [e]), "model"),
    ("an event comes twice",                     events(lambda e: [e, e] if is_of(e, "uuid-a", "provider.routed") else [e]), "model"),
    ("paid after it was refused",                events(lambda e: [replace(e, event="ledger.posted", state="SUCCESSFUL")] if e.event == "ledger.released" else [e]), "model"),
    ("refused with the wrong code",              events(lambda e: [replace(e, codes=("account_not_found",))] if e.event == "ledger.refused" else [e]), "model"),
    ("over the transaction limit",               over_the_limit,                                                "model"),
    ("an event of nobody",                       events(lambda e: [e, replace(e, intent="uuid-x")] if is_of(e, "uuid-a", "provider.routed") else [e]), "model"),
    ("the counters forget",                      lost_update,                                                   "balances"),
    ("acknowledged and left",                    unfinished,                                                    "settled"),
    ("a balance that never was",                 never_so,                                                      "balance_read"),
    ("counters and sums disagree",               hearing(7, body={"available": "1"}),                           "balance_read"),
    ("an account out of nothing",                hearing_of(15, 7),                                             "balance_read"),
    ("no counters",                              hearing(7, body={}),                                           "balance_read"),
    ("a status that the intent never had",       hearing(8, body={"status": "FAILED"}),                         "intent_read"),
    ("a hold that the ledger does not have",     hearing(8, body={"ledger_state": {"held": "5"}}),              "intent_read"),
    ("events that the store does not have",      hearing(8, body={"event_stream": []}),                         "intent_read"),
    ("a version that the store has lost",        hearing(8, body={"version": 99}),                              "intent_read"),
    ("an intent out of nothing",                 hearing_of(16, 8),                                             "intent_read"),
    ("a wait that shows another state",          hearing(17, body={"step": "judging"}),                         "intent_read"),
    ("an entry is left out",                     page_without(1),                                               "entries_read"),
    ("the new balance, the old page",            proved_by_another(PAGE, ALICE),                                "stale"),
    ("an entry is changed",                      page_changed(lambda data: data[0].update(pending="1")),        "entries_read"),
    ("an entry comes twice",                     page_changed(lambda data: data.__setitem__(1, data[0])),       "entries_read"),
    ("entries in another order",                 page_changed(lambda data: data.reverse()),                     "entries_read"),
    ("more than was asked for",                  page_changed(lambda data: data.append(data[-1])),              "entries_read"),
    ("the wrong page",                           hearing_of(13, 12),                                            "entries_read"),
    ("a balance goes back",                      forgotten_after_answer,                                        "stale"),
    ("the ended intent, the old balance",        proved_by_another(ALICE, LOOK_A),                              "stale"),
    ("the new balance, the old intent",          proved_by_another(LOOK_A, ALICE),                              "stale"),
    ("one account's end, the other's start",     proved_by_another(SHOP, ALICE),                                "stale"),
    ("a new page, the old balance",              proved_by_another(ALICE, PAGE),                                "stale"),
    ("a known account is not there",             hearing(18, status=404, body={"code": "not_found"}),           "stale"),
    ("a known intent is not there",              hearing(8, status=404, body={"code": "not_found"}),            "stale"),
    ("a balance of the future",                  seen_too_early,                                                "future"),
    ("a page of the future",                     page_seen_too_early,                                           "future"),
    ("an intent of the future",                  seen_intent_too_early,                                         "future"),
    ("the order of commits against real time",   behind_in_time,                                                "real_time"),
    ("a code that a creation does not have",     hearing(9, status=403, body={"code": "role_not_permitted"}),   "unexpected"),
    ("a code that a read does not have",         hearing(7, status=401, body={"code": "unauthenticated"}),      "unexpected"),
    ("a refused look at an intent",              hearing(8, status=401, body={"code": "unauthenticated"}),      "unexpected"),
]
# fmt: on


@pytest.mark.parametrize(("plant", "rule"), [row[1:] for row in PLANTED], ids=[row[0] for row in PLANTED])
def test_a_planted_fault_is_found_by_its_rule(plant: Callable[[], Told], rule: str) -> None:
    found = check(*plant())
    assert rule in {violation.rule for violation in found}, found
    assert all(str(violation) for violation in found)


def test_every_rule_has_a_planted_fault() -> None:
    assert Counter(rule for *_, rule in PLANTED).keys() == RULES.keys()


def test_a_wrong_order_of_different_intents_breaks_only_the_rules_that_rest_on_it() -> None:
    """The times in the rows keep the order of one intent's commits, and nothing else for certain."""
    crowd = Crowd(World())
    for key in ("a", "b"):
        crowd.ask(transfer(key))
        crowd.ask(ALICE)
        crowd.world.settle()
        crowd.ask(ALICE)
    calls, ending = told(crowd)
    assert check(calls, ending) == []
    of_b = [commit for commit in ending.commits if commit.events[0].intent == "uuid-b"]
    others = [commit for commit in ending.commits if commit not in of_b]
    funded = sum(commit.events[0].intent.startswith("uuid-fund") for commit in others)
    found = check(calls, replace(ending, commits=[*others[:funded], *of_b, *others[funded:]]))
    rules = {violation.rule for violation in found}
    assert rules
    assert rules <= ORDERED <= RULES.keys()
