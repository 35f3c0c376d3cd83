"""The tick: events in, writes and outward calls out, as a plain function over loaded values.

    needs    what the events are known to touch
    decide   each event in stream order, on copies; nothing here waits, reads a clock or draws a random number
    absorb   the copies replace the originals, once the store has committed

Invariants. An event of a version that its actor has passed changes nothing. An event that raises is set aside with its
reason and the rest is decided again without it, so nobody waits for it. Ids are derived from what they name, and those
of frames from the fence that commits them, so deciding twice gives the same bytes."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from msgspec import UNSET, Struct, UnsetType, field
from msgspec.structs import asdict, replace

from zentra.actors import monitoring, reviewing, webhooks
from zentra.actors.beliefs import Believed
from zentra.actors.memory import Lane, LeafName, Memory, Missing, MissingGround, Recovered
from zentra.runtime.errors import VersionGap
from zentra.runtime.evidence.history import SignHead
from zentra.runtime.evidence.merkle import leaf_hash
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.machine import ENTER, TIMEOUTS
from zentra.runtime.intents.transaction import Attempt, Transaction, Transition, advance, timestamp
from zentra.runtime.intents.vocabulary import SETTLED, Effect, Fact, State, Topic
from zentra.runtime.ledger.book import AccountRef, Balance, Book
from zentra.runtime.ledger.conversion import Quote
from zentra.runtime.messages import CommandGiven, Due, Event, LeafDue
from zentra.runtime.policy import Usage, VelocityKey
from zentra.runtime.policy.scoring import Scorer
from zentra.runtime.policy.windows import add
from zentra.runtime.ports import (
    CaseRow,
    DenialRow,
    Endpoint,
    Expiring,
    Ground,
    LogHead,
    TickPlan,
    TickWrites,
    Timer,
    WaitingCallback,
)  # fmt: skip
from zentra.runtime.rails.port import Cause, Submission
from zentra.runtime.stream_ports import Position
from zentra.runtime.webhooks.delivery import Delivery
from zentra.runtime.webhooks.standard import WebhookCall

__all__ = ["Batch", "Input", "Poll", "Rules", "Tick", "derived_id"]

WORKLOAD_AGE_MAX: Final = timedelta(seconds=10)  # of the counts by which reviews are shared out
CASE_DEADLINE: Final = timedelta(hours=24)
LATE_MAX: Final = timedelta(seconds=15)  # that a stored state timer may be later than the time that its owner remembers


class Input(Struct, frozen=True, gc=False):
    """One event as a tick takes it. `event` is None where the bytes of a frame (`raw`) held no events."""

    partition: int
    stage: str
    event: Event | None
    cause: str
    raw: bytes = b""


class Batch(Struct):
    """What one tick takes: events in stream order, where the stream stands after them, and what was learnt so far."""

    inputs: list[Input]
    positions: dict[int, Position]
    opened: dict[str, Transaction] = field(default_factory=dict)
    extra: Missing = field(default_factory=Missing)
    poisoned: dict[int, str] = field(default_factory=dict)
    reloaded: set[str] = field(default_factory=set)
    trust_openings: bool = True
    draftable: bool = True  # not once a draft had to be thrown away
    asked: set[LeafName | str] = field(default_factory=set)  # leaves and commands that the store was asked for
    stored: set[LeafName | str] = field(default_factory=set)  # those of them that it has
    epochs: dict[int, int] = field(default_factory=dict)  # of its partitions when the events were taken
    consumed: list[tuple[int, str]] = field(default_factory=list)  # frames that end here, by partition and id
    expiring: dict[int, Expiring] = field(default_factory=dict)  # by account: what the store was asked for
    expiring_asked: Counter[int] = field(default_factory=Counter)  # and how often
    recovered: Recovered = field(default_factory=Recovered)
    waiting: dict[tuple[str, str], tuple[WaitingCallback, ...]] = field(default_factory=dict)  # by rail and reference
    strangers: dict[str, frozenset[str]] = field(default_factory=dict)  # by rail: references whose case is open


class Poll(NamedTuple):
    """Ask a rail what became of a reference."""

    rail: str
    reference: str
    cause: Cause


class Rules(Struct, frozen=True):
    """What a worker was set up with: names of subjects, places of keys, the signer of tree heads."""

    partition_of: Callable[[str], int]
    command_subject: Callable[[int, str], str]
    event_subject: Callable[[int, str, str], str]
    dead_subject: Callable[[str, int], str]
    sign_head: SignHead
    open_secret: Callable[[bytes], bytes]
    lane_width: int = 8  # attempts under way per endpoint at first, and at the least
    lane_width_max: int = 256  # where an endpoint takes everything
    open_quote: Callable[[str], Quote | None] = lambda sealed: None
    scorers: Mapping[str, Scorer] = {}  # the user's own, by name
    signers: Mapping[str, SignHead] = {}  # by key id, for installations with a history of keys


def derived_id(*parts: object) -> str:
    """Return 32 hex digits that follow from what they name, so that naming it twice gives one id."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:32]


class Tick:
    """The context of one decision: working copies, the ground, and everything that the handlers want written."""

    def __init__(self, memory: Memory, rules: Rules, batch: Batch, ground: Ground) -> None:
        self.memory, self.rules, self.batch = memory, rules, batch
        self.configuration = memory.configuration
        self.standings, self.rooms = memory.rails.standings, memory.rails.rooms()  # one picture for the whole tick
        self.chosen: Counter[str] = Counter()  # submissions of this tick by rail
        self.now, self.lost = ground.now, ground.lost
        self.day = ground.now.date().isoformat()
        self._deadlines: dict[float, str] = {}  # the times that rails are given, by their seconds
        self._places: dict[str, int] = {}  # of lanes and logs: see `place_of`
        self.writes, self.book = TickWrites(), Book({})
        self.locked: frozenset[int] = frozenset()
        self.usage: dict[VelocityKey, Usage] = {}
        self.believed: Believed | None = None  # what a draft stands on: to be proved true under the locks
        self.waiting: list[int] = []  # places of events that a draft has left for when balances are locked
        self.transactions: dict[str, Transaction] = {}
        self.deliveries: dict[str, Delivery] = {}
        self.workloads: dict[str, dict[str, int]] = {}
        self.lanes: dict[tuple[str, str], Lane] = {}
        self.endpoints: dict[str, dict[str, Endpoint]] = {}  # by tenant and id, those that were asked for
        self.leaves: dict[str, list[LeafDue]] = defaultdict(list)
        self.heads: dict[str, LogHead] = {}
        self._met: set[bytes | str] = set()  # leaves and commands of this tick
        self.submissions: list[Submission] = []
        self.polls: list[Poll] = []
        self.calls: list[tuple[str, str, WebhookCall]] = []  # tenant, endpoint, call
        self.timers_soon: dict[str, Timer] = {}  # state timers by intent: earlier than their rows, and without
        self.owing: list[Transaction] = []  # that have just failed with money posted: it is to be given back
        self.unasked: set[int] = set()  # accounts that a reserve found short: the store is to be asked what has expired
        self.poked: set[str] = set()  # holds that were asked to look at their timers
        self.repeats, self.unsigned = 0, Counter[str]()  # leaves that had to wait, by the key that is lacking here
        self.waits: dict[str, list[float]] = defaultdict(list)  # by event: seconds since the record before
        self.counts: dict[VelocityKey, Usage] = defaultdict(Usage)
        self.frames: dict[tuple[int, str], list[Event]] = defaultdict(list)
        self.feed: dict[tuple[int, str, str], list[Transition]] = defaultdict(list)

    def stand_on(self, plan: TickPlan, balances: Mapping[int, Balance], usage: Mapping[VelocityKey, Usage]) -> None:
        """Take balances and counters, that are locked or believed to be so."""
        self.book = Book({key: replace(balance) for key, balance in balances.items()})
        self.locked = frozenset(ref.id for ref in plan.accounts)
        self.usage = {key: replace(counted) for key, counted in usage.items()}

    # What an event can look up ------------------------------------------------------------------------------------

    def transaction(self, intent: str) -> Transaction | None:
        """Return the working copy of an actor, or None where there is no such intent."""
        tx = self.transactions.get(intent)
        if tx is None:
            known = self.memory.transactions
            original = known.get(intent) or self.batch.opened.get(intent)
            if original is None:
                if intent not in known:
                    raise MissingGround(Missing(intents={intent}))
                return None
            tx = self.transactions[intent] = replace(original)
        return tx

    def arrived(self, event: Due) -> Transaction | None:
        """Return the actor that a versioned event is for, or None where it has passed that version.

        Raises VersionGap where the actor, freshly loaded, has not reached the version."""
        tx = self.transaction(event.intent)
        if tx is not None and event.version == tx.sequence:
            return tx
        if tx is None or event.version > tx.sequence:
            if event.intent in self.batch.reloaded:
                raise VersionGap(event.intent, tx.sequence if tx else 0, event.version)
            self.batch.reloaded.add(event.intent)
            self.memory.transactions.pop(event.intent, None)
            self.batch.opened.pop(event.intent, None)
            raise MissingGround(Missing(intents={event.intent}))
        self.repeats += 1
        return None

    def delivery(self, delivery: str) -> Delivery | None:
        """Return the working copy of a delivery, or None where there is none."""
        found = self.deliveries.get(delivery)
        if found is None:
            if delivery not in self.memory.deliveries:
                raise MissingGround(Missing(deliveries={delivery}))
            original = self.memory.deliveries[delivery]
            if original is None:
                return None
            found = self.deliveries[delivery] = replace(original)
        return found

    def lane(self, tenant: str, endpoint: str) -> Lane:
        """Return the working copy of an endpoint's lane."""
        lane = self.lanes.get((tenant, endpoint))
        if lane is None:
            original = self.memory.lanes.get((tenant, endpoint))
            if original is None or (original.more and not original.waiting):
                raise MissingGround(Missing(lanes={(tenant, endpoint)}))
            lane = self.lanes[tenant, endpoint] = original.copy()
        return lane

    def log_head(self, tenant: str) -> LogHead | None:
        """Return the latest head of a tenant's log, or None where the log is empty."""
        if tenant not in self.memory.logs:
            raise MissingGround(Missing(logs={tenant}))
        return self.memory.logs[tenant]

    def account(self, tenant: str, name: str) -> AccountRef | None:
        """Return an account of the tenant, its party as it is now, or None where there is none."""
        try:
            ref = self.memory.accounts[tenant, name]
        except KeyError:
            raise MissingGround(Missing(accounts={(tenant, name)})) from None
        if ref is None or ref.party is None or ref.party.kyc_expires_at is None:
            return ref
        party = ref.party.as_of(self.now)
        return ref if party is ref.party else replace(ref, party=party)

    def booked_on(self, tenant: str, names: Collection[str]) -> dict[str, AccountRef]:
        """Return the accounts that postings stand on, all of them asked for at once; raises LookupError where one is
        gone."""
        known = self.memory.accounts
        if absent := {(tenant, name) for name in names if (tenant, name) not in known}:
            raise MissingGround(Missing(accounts=absent))
        found = {name: known[tenant, name] for name in names}
        refs = {name: ref for name, ref in found.items() if ref is not None}
        if len(refs) < len(found):
            raise LookupError("an account that was booked on is gone")
        return refs

    def named(self, tenant: str, intent_id: str) -> str | None:
        """Return the uuid of the tenant's intent of that id, or None where there is none."""
        try:
            return self.memory.names[tenant, intent_id]
        except KeyError:
            raise MissingGround(Missing(names={(tenant, intent_id)})) from None

    def lock(self, *refs: AccountRef | None) -> None:
        """Make sure that the balances of these accounts are locked by this tick."""
        for ref in refs:
            if ref is not None and ref.id not in self.locked:
                absent = {other.id: other for other in refs if other is not None and other.id not in self.locked}
                raise MissingGround(Missing(balances=absent))

    def counted(self, keys: tuple[VelocityKey, ...]) -> None:
        """Make sure that these counters are locked by this tick."""
        for key in keys:
            if key not in self.usage:
                raise MissingGround(Missing(velocity={key for key in keys if key not in self.usage}))

    def begun(self, delivery: str) -> bool:
        """Return whether a delivery was taken in before. The store refuses a second beginning, so memory may be trusted
        until it has done so once."""
        known = self.deliveries.get(delivery) or self.memory.deliveries.get(delivery)
        if known is None and not self.batch.trust_openings:
            known = self.delivery(delivery)
        return known is not None and known.begun

    def is_logged(self, leaf: LeafDue) -> bool:
        """Return whether a leaf is in its log. The store refuses a second; it is asked then, or if one comes again."""
        if leaf.data in self._met:
            return True
        self._met.add(leaf.data)
        if self.batch.trust_openings and not leaf.again:
            return False
        link = (leaf.intent, leaf_hash(leaf.data))
        if link not in self.batch.asked:
            raise MissingGround(Missing(leaves={link}))
        return link in self.batch.stored

    def is_answered(self, command: str) -> bool:
        """Return whether a command has its outcome; the store refuses a second one, and only then is it asked."""
        if command in self._met:
            return True
        self._met.add(command)
        if self.batch.trust_openings:
            return False
        if command not in self.batch.asked:
            raise MissingGround(Missing(commands={command}))
        return command in self.batch.stored

    def workload(self, tenant: str) -> dict[str, int]:
        """Return how many open reviews everybody of a tenant has, as far as was known a moment ago; by principal."""
        counts = self.workloads.get(tenant)
        if counts is None:
            known = self.memory.workloads.get(tenant)
            if known is None or self.now - known.at > WORKLOAD_AGE_MAX:
                raise MissingGround(Missing(workloads={tenant}))
            counts = self.workloads[tenant] = dict(known.open)
        return counts

    def works(self, tenant: str, principal: str) -> None:
        """Count one more open review for somebody, where such counts are at hand."""
        counts = self.workloads.get(tenant)
        if counts is not None:
            counts[principal] = counts.get(principal, 0) + 1

    # What an event can ask for ------------------------------------------------------------------------------------

    def move(
        self, tx: Transaction, fact: Fact, facts: f.Facts, at: Input, *, actor: str, cause: str | None = None
    ) -> Transition:
        """Move a transaction, tell of it, and ask for what the move and the new state ask for."""
        before, since = tx.state, tx.at
        transition = advance(tx, fact, facts, actor=actor, now=self.now, cause=cause or at.cause)
        event = transition.event
        self.writes.transitions.append(transition)
        self.feed[at.partition, tx.tenant, event].append(transition)
        self.waits[event].append((tx.at - since).total_seconds())
        if self.configuration.endpoints.get(tx.tenant):
            webhooks.fan_out(self, tx, transition)
        state = tx.state
        enter = ENTER.get(state) if state is not before else None
        if enter is not None:
            self.effect(enter, tx, facts, at)
        for effect in transition.move.effects:
            if effect is Effect.CLOSE_REVIEW:
                self._close_review(tx, facts, event, actor)
            else:
                self.effect(effect, tx, facts, at)
        if state is not before:
            self._watch(tx, at.partition)
            if state is State.FAILED and tx.posted > tx.given_back:
                self.effect(Effect.AUTO_REVERSE, tx, facts, at)
        elif state in TIMEOUTS:
            # the event that asks for what the state waits for is of a version that has passed now: ask again
            self.effect(TIMEOUTS[state].effect, tx, facts, at)
        if tx.sealed and tx.sequence > tx.sealed and fact is not Fact.AMENDED:
            self.send(at.partition, "evidence", Due(tx.id, tx.tenant, tx.sequence))
        if self.book.crossed:
            monitoring.tell(self, tx, at)
        return transition

    def effect(self, effect: Effect, tx: Transaction, facts: f.Facts, at: Input) -> None:
        """Perform one effect of a move as far as a tick can: a frame, a row, a timer."""
        stage = _STAGE_OF.get(effect)
        if stage is not None:
            self.frames[at.partition, stage].append(Due(tx.id, tx.tenant, tx.sequence))
        elif effect is Effect.SUBMIT:
            self.submit(tx, at.partition, first=True)
        elif effect is Effect.GIVE_BACK:
            # what was not posted; of a hold, a part may have been, and then the intent itself goes on counting
            rest, whole = tx.command.amount - tx.posted, -1 if tx.posted == 0 else 0
            for use in tx.velocity if rest else ():
                key = VelocityKey(tx.tenant, use.counter, use.day, tx.command.currency)
                self.count(key, whole, -rest, use.bucket)
        elif effect is Effect.SETTLE:
            self._settle(tx, at.partition)
        elif effect is Effect.AUTO_REVERSE:
            self.owing.append(tx)
        elif effect is Effect.OPEN_REVIEW:
            assert isinstance(facts, f.Judged)
            reviewing.opened(self, tx, facts, at)
        elif effect is Effect.OPEN_CASE:
            about = tx.attempts[facts.attempt - 1] if isinstance(facts, f.Reported) else None
            self.open_case(tx, "provider_contradiction" if about else "posting_refused", _described(facts), at, about)

    def send(self, partition: int, stage: str, event: Event) -> None:
        """Put an event into the frame of a partition and stage."""
        self.frames[partition, stage].append(event)

    def submit(self, tx: Transaction, partition: int, *, first: bool) -> None:
        """Ask for the latest attempt to be sent to its rail, once it is committed as started."""
        attempt, command = tx.attempts[-1], tx.command
        self.chosen[attempt.rail] += 1
        self.submissions.append(Submission(
            tx.tenant, attempt.rail, attempt.reference, command.amount, command.currency, command.destination,
            command.metadata.get("sandbox_scenario"), tx.trace, tx.tracestate, tx.sequence, first,
            self.batch.epochs.get(partition, 0),
        ))  # fmt: skip
        self.rearm(tx, partition, self.now + timedelta(0, self.configuration.rails[attempt.rail].poll_after_seconds))

    def resting(self, rail: str) -> str:
        """Return why nothing new may be sent to a rail now, draining or maintenance; "" where it may."""
        operation = self.configuration.operations.get(rail)
        return "" if operation is None else operation.resting(self.now)

    def place_of(self, key: str) -> int:
        """Return the partition of a key that many events share."""
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self.rules.partition_of(key)
        return place

    def deadline(self, seconds: float) -> str:
        """Return the time that many seconds from now, as a record spells it."""
        text = self._deadlines.get(seconds)
        if text is None:
            text = self._deadlines[seconds] = timestamp(self.now + timedelta(seconds=seconds))
        return text

    def count(self, key: VelocityKey, count: int, minor: int, bucket: int | UnsetType = UNSET) -> None:
        """Add to a velocity counter that this tick has locked; `bucket` is that of a rolling one."""
        if key not in self.usage:
            self.counted((key,))
        if bucket is not UNSET:
            add(self.usage[key], key.counter, bucket, count, minor)
            self.writes.velocity_windows[key] = self.usage[key]
            return
        for counted in (self.usage[key], self.counts[key]):
            counted.count += count
            counted.minor += minor

    def timer(self, kind: str, key: str, name: str, partition: int, tenant: str, due_at: datetime) -> None:
        """Set a named timer; setting it again replaces it."""
        self.writes.timers_cleared.discard((kind, key, name))
        self.writes.timers_set[kind, key, name] = Timer(kind, key, name, partition, tenant, due_at)

    def clear_timer(self, kind: str, key: str, name: str) -> None:
        """Cancel a named timer, set or not."""
        self.writes.timers_set.pop((kind, key, name), None)
        self.writes.timers_cleared.add((kind, key, name))
        if name == "state":
            self.timers_soon.pop(key, None)

    def rearm(self, tx: Transaction, partition: int, due_at: datetime) -> None:
        """Let the state timer of a transaction fire at `due_at`, or earlier.

        One that fires too early only looks and arms itself again, so the stored one is left alone. Where it is a little
        late the worker remembers the earlier time; to a successor the stored one does the same, late. One that is
        believed to have been due may have fired for somebody else, who has put it off."""
        if tx.timer_due is None or tx.timer_due <= self.now or tx.timer_due - due_at > LATE_MAX:
            tx.timer_due = due_at
            self.timers_soon.pop(tx.id, None)
            self.timer("intent", tx.id, "state", partition, tx.tenant, due_at)
        elif due_at < tx.timer_due:
            self.timers_soon[tx.id] = Timer("intent", tx.id, "state", partition, tx.tenant, due_at)

    def open_case(
        self, tx: Transaction, kind: str, detail: dict[str, str], at: Input, about: Attempt | None = None
    ) -> None:
        """Open a case of this kind beside a transaction, unless one is open; `about` is the attempt in question."""
        if kind in tx.cases_open.values():
            return
        case, due = derived_id("case", tx.id, kind, tx.sequence), self.now + CASE_DEADLINE
        self.writes.cases_opened.append(CaseRow(case, tx.tenant, tx.id, tx.intent_id, kind, detail, self.now, due))
        noted = f.CaseNoted(case, kind, detail, None, *((about.rail, about.number) if about else ()))
        self.move(tx, Fact.CASE_OPENED, noted, at, actor="svc_runtime")

    def deny(self, tx: Transaction, action: str, reason: str) -> None:
        """Keep a refusal that is evidence by itself."""
        self.writes.denials.append(DenialRow(tx.tenant, tx.principal, tx.role, action, reason, self.now, tx.trace))

    def deny_command(self, event: CommandGiven, action: str, reason: str) -> None:
        """Keep that somebody was refused a command for who they are."""
        row = DenialRow(event.tenant, event.principal, event.role, action, reason, self.now, event.command)
        self.writes.denials.append(row)

    def _settle(self, tx: Transaction, partition: int) -> None:
        """Ask for the packet to be sealed: now, or when the deliveries are drained, in a minute at the latest."""
        if tx.sealed:
            return
        if tx.deliveries_open:
            self.timer("intent", tx.id, "seal", partition, tx.tenant, self.now + monitoring.SEAL_AFTER)
        else:
            self.send(partition, "evidence", Due(tx.id, tx.tenant, tx.sequence))

    def _watch(self, tx: Transaction, partition: int) -> None:
        """Keep the state timer in step with a state that was just entered."""
        lasts = _LASTS.get(tx.state)
        if lasts is not None:
            self.rearm(tx, partition, self.now + lasts)
        elif tx.state is State.REVIEW:
            self.rearm(tx, partition, tx.review.next_at)
        elif tx.state in SETTLED:
            self.clear_timer("intent", tx.id, "state")
            tx.timer_due = None

    def _close_review(self, tx: Transaction, facts: f.Facts, topic: str, actor: str) -> None:
        assert isinstance(facts, f.Decided | f.Noted)
        ended = "expired" if topic == Topic.REVIEW_EXPIRED else "cancelled"
        status = facts.verdict if isinstance(facts, f.Decided) else ended
        self.writes.reviews_closed.append((tx.id, status, actor, self.now, facts.reason))
        self.waits["review"].append((tx.at - (tx.referred_at or tx.at)).total_seconds())


_LASTS: Final = {state: timedelta(seconds=timeout.seconds) for state, timeout in TIMEOUTS.items()}
_STAGE_OF: Final = {Effect.JUDGE: "policy", Effect.LEDGER: "ledger", Effect.ROUTE: "route"}


def _described(facts: f.Facts) -> dict[str, str]:
    """Return what an operator should see first of the facts that opened a case."""
    return {name: str(value) for name, value in asdict(facts).items() if value not in (None, "", 0)}
