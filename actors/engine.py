"""The engine of a worker: what a batch needs, what is decided on it, what is remembered of it. All plain functions.

The shell around it (`worker.py`) loads, locks and commits. `plan` foresees what the events in a batch usually touch, so
that one round is enough; what it did not foresee a tick asks for by MissingGround, and is decided again with it."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from msgspec import UNSET

from zentra.actors import (
    commands,
    foreseeing,
    journaling,
    lanes,
    ledgering,
    outcomes,
    recovering,
    stages,
    strangers,
    webhooks,
)
from zentra.actors.finishing import finish
from zentra.actors.memory import Memory, Missing, MissingGround, Needs
from zentra.actors.tick import Batch, Input, Rules, Tick
from zentra.runtime import messages as m
from zentra.runtime.errors import DataError
from zentra.runtime.evidence.merkle import leaf_hash
from zentra.runtime.intents.transaction import Transaction, restore
from zentra.runtime.intents.vocabulary import COMPOSED, IntentKind, State
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.ledger.names import book_of, is_number, settlement_name, system_name
from zentra.runtime.policy import DEFAULT_RULES, VelocityKey, is_plain, velocity_keys
from zentra.runtime.ports import Fence, Ground, Lease, TickPlan
from zentra.runtime.rails import routing

__all__ = ["Engine"]

logger = logging.getLogger(__name__)

_LOCKING: Final = frozenset({"ledger", "command", "timer"})  # stages whose events lock counters or balances


class Engine:
    """The decisions of one worker over its own memory.

    `slice_events` are decided in one go while others wait for their turn: by default less than a millisecond."""

    def __init__(self, memory: Memory, rules: Rules, slice_events: int = 64) -> None:
        self.memory, self.rules, self.slice_events = memory, rules, slice_events
        self.day = ""
        self.now: datetime | None = None

    def look(self, batch: Batch) -> tuple[Missing, Needs]:
        """Return what has to be loaded before `batch` can be decided, and what its events usually lock."""
        missing, needs = Missing(), Needs(dict(batch.extra.balances), set(batch.extra.velocity))
        poisoned = batch.poisoned
        for index, entry in enumerate(batch.inputs):
            look = _LOOKS.get(type(entry.event))
            if look is None or index in poisoned:
                continue
            try:
                look(self, batch, entry, missing, needs)
            except Exception as error:
                _set_aside(batch, index, error)
        return missing, needs

    def plan(self, batch: Batch, needs: Needs, leases: Mapping[int, Lease], stripe: int) -> TickPlan:
        """Return what a tick over `batch` has to lock."""
        fences = []
        for partition in sorted({entry.partition for entry in batch.inputs} | batch.positions.keys()):
            lease = leases[partition]
            position = batch.positions.get(partition, lease.position)
            fences.append(Fence(partition, lease.epoch, lease.version, position))
        accounts = tuple([needs.accounts[key] for key in sorted(needs.accounts)])
        velocity = tuple(sorted(needs.velocity, key=_velocity_order))
        return TickPlan(tuple(fences), velocity, accounts, stripe, tuple(batch.consumed))

    def draft(self, batch: Batch, plan: TickPlan, tick: Tick) -> Iterator[bool]:
        """Decide all on what the counters and balances are believed to be, or where one is not known what needs none,
        and note the rest in `tick.waiting`.

        Yields True after every slice of events, so that others get their turn, and False at the end where nothing can
        be made of it: then the whole batch is decided under its locks. Raises MissingGround where something has to be
        loaded."""
        believed = tick.believed
        if believed is not None:
            tick.stand_on(plan, believed.balances, believed.usage)
        poisoned, lost, last_of_slice = batch.poisoned, tick.lost, self.slice_events - 1
        held_back: set[str] = set()  # intents with an event that waits: what follows it has to wait as well
        for index, entry in enumerate(batch.inputs):
            if index in poisoned or entry.partition in lost:
                continue
            if believed is None:
                subject = _subject(entry.event)
                if entry.stage in _LOCKING or (entry.stage == "policy" and plan.velocity) or subject in held_back:
                    held_back.add(subject)
                    tick.waiting.append(index)
                    continue
            try:
                _handle(tick, entry)
            except MissingGround as more:
                if more.missing.balances or more.missing.velocity:
                    yield False
                    return
                raise
            except Exception as error:
                if believed is None:  # else it may be a belief that is to blame
                    _set_aside(batch, index, error)
                yield False
                return
            if index % self.slice_events == last_of_slice:
                yield True
        if believed is not None:
            try:
                _finish(tick, plan)
            except DataError:
                yield False
                return
            self.memory.beliefs.follow(tick.book.balances, tick.usage)

    def decide(self, batch: Batch, plan: TickPlan, ground: Ground, draft: Tick | None = None) -> Tick:
        """Return the tick over `batch`, decided on `ground`, ready to be written; `draft` is what was decided already.

        Raises MissingGround where it needs more than the plan foresaw, DataError where it cannot be finished. An event
        that raises anything else is set aside in `batch.poisoned`, and the rest is decided again without it; where rows
        of a draft are written already that takes another transaction, and MissingGround names nothing."""
        if ground.configuration_version != self.memory.configuration.version:
            raise MissingGround(Missing(configuration=True))
        self.day, self.now = ground.now.date().isoformat(), ground.now
        if draft is not None and draft.believed is not None:
            believed = draft.believed
            usage, balances = believed.usage, believed.balances
            proved = usage == ground.usage and draft.book.stands(balances, ground.balances)
            if proved and draft.configuration is self.memory.configuration:
                self.memory.beliefs.correct(believed, ground.balances)
                return draft
            if not proved:
                self.memory.beliefs.deceived()
            batch.draftable = False
            raise MissingGround(Missing())
        while True:
            tick = draft or Tick(self.memory, self.rules, batch, ground)
            tick.stand_on(plan, ground.balances, ground.usage)
            usable = tick.configuration is self.memory.configuration  # a draft may have begun under another one
            if usable and self._run(tick, batch, range(len(batch.inputs)) if draft is None else draft.waiting):
                break
            if draft is not None:
                batch.draftable = False
                raise MissingGround(Missing())
        _finish(tick, plan)
        self.memory.beliefs.follow(tick.book.balances, tick.usage)
        return tick

    def absorb(self, tick: Tick) -> None:
        """Replace what is remembered by what a committed tick made of it."""
        memory = self.memory
        memory.keep(tick.transactions.values())
        memory.keep_deliveries(tick.deliveries.values())
        memory.lanes.update(tick.lanes)
        memory.logs.update(tick.heads)
        for tenant, counts in tick.workloads.items():
            if tenant in memory.workloads:
                memory.workloads[tenant].open = counts
        memory.forget_absent()
        if tick.chosen:
            memory.rails.probed(tick.chosen)
        if tick.lost:
            memory.drop_partitions(tick.lost)

    def _run(self, tick: Tick, batch: Batch, places: Iterable[int]) -> bool:
        """Handle the events at these places; return False where one was set aside and all has to be decided again."""
        inputs, poisoned, lost = batch.inputs, batch.poisoned, tick.lost
        for index in places:
            entry = inputs[index]
            if index in poisoned or entry.partition in lost:
                continue
            try:
                _handle(tick, entry)
            except MissingGround:
                raise
            except Exception as error:
                _set_aside(batch, index, error)
                return False
        return True

    def _peek(self, batch: Batch, intent: str) -> Transaction | None:
        return self.memory.transactions.get(intent) or batch.opened.get(intent)

    # What each kind of event needs loaded ---------------------------------------------------------------------------

    def _intent(self, batch: Batch, intent: str, missing: Missing) -> Transaction | None:
        tx = self._peek(batch, intent)
        if tx is None and intent not in self.memory.transactions:
            missing.intents.add(intent)
        return tx

    def _look_due(self, batch: Batch, entry: Input, missing: Missing, needs: Needs) -> None:
        event = entry.event
        assert isinstance(event, m.Due)
        intent, stage = event.intent, entry.stage
        tx = self.memory.transactions.get(intent) or batch.opened.get(intent)
        if tx is None:
            if event.opening is None or not batch.trust_openings or intent in batch.reloaded:
                if intent not in self.memory.transactions:
                    missing.intents.add(intent)
                return
            tx = batch.opened[intent] = restore([(event.opening.record, event.opening.hash)])
            tx.timer_due = tx.at + stages.REGISTERED_TIMER
        if event.version != tx.sequence:
            return
        if stage == "policy":
            self._look_account((tx.tenant, tx.command.source), missing)
            if tx.command.legs is not UNSET:
                for leg in tx.command.legs:
                    self._look_account((tx.tenant, leg.source), missing)
            rules = self.memory.configuration.policies.get(tx.tenant, DEFAULT_RULES)
            if not is_plain(rules):
                self._look_account((tx.tenant, tx.command.destination), missing)
            # Before the first tick the day is not known, and of a number not what it means; the tick asks for it.
            if self.day and not is_number(tx.command.source) and not is_number(tx.command.destination):
                needs.velocity.update(velocity_keys(rules, tx.tenant, tx.command, self.day, self.now))
        elif stage == "ledger":
            self._look_ledger(tx, missing, needs)

    def _look_ledger(self, tx: Transaction, missing: Missing, needs: Needs) -> None:
        """Ask for all accounts of an intent, and for the locks on those that its state moves."""
        command, tenant, locks = tx.command, tx.tenant, needs.accounts
        if command.kind in COMPOSED or command.conditions is not UNSET:
            self._look_composed(tx, missing, needs)
            return
        whole = command.kind is IntentKind.BOOK_TRANSFER or tx.state is not State.RESERVING
        names = [(tenant, command.source)]
        if command.destination:
            names.append((tenant, command.destination))
        refs = [self.memory.accounts.get(name) or self._look_account(name, missing) for name in names]
        if command.kind is not IntentKind.BOOK_TRANSFER:
            name = (tenant, settlement_name(command.currency, refs[0]))
            refs.append(self.memory.accounts.get(name) or self._look_account(name, missing))
        for ref in refs if whole else (refs[0], refs[-1]):
            if ref is not None:
                locks[ref.id] = ref
        if tx.fees or tenant in self.memory.configuration.fees:
            fee = self._look_account((tenant, system_name("fee", command.currency, book_of(refs[0]))), missing)
            if fee is not None:
                locks[fee.id] = fee
        if not tx.velocity or tx.state is State.CONFIRMED:  # what a rail confirmed gives nothing back
            return
        if tx.state is not State.RESERVING or not self._lets_through(refs, command.amount):
            needs.velocity.update(ledgering.counters(tx))

    def _look_composed(self, tx: Transaction, missing: Missing, needs: Needs) -> None:
        """Ask for the accounts of an intent with more than two, and for the locks on all of them."""
        name = (tx.tenant, tx.command.source)
        source = self.memory.accounts.get(name) or self._look_account(name, missing)
        for account_id in journaling.names_of(tx.command, book_of(source)):
            name = (tx.tenant, account_id)
            ref = self.memory.accounts.get(name) or self._look_account(name, missing)
            if ref is not None:
                needs.accounts[ref.id] = ref
        if tx.command.corrects is not UNSET and (tx.tenant, tx.command.corrects) not in self.memory.names:
            missing.names.add((tx.tenant, tx.command.corrects))
        if tx.velocity and tx.state is not State.CONFIRMED:
            needs.velocity.update(ledgering.counters(tx))

    def _lets_through(self, refs: list[AccountRef | None], minor: int) -> bool:
        """Return whether the ledger is believed to take a reserve. One that it refuses after all is decided again, with
        the counters that it gives back to."""
        for ref in refs:
            if ref is None or ref.status != "open":
                return False
        source = refs[0]
        return source is not None and self.memory.beliefs.affords(source, minor)

    def _look_account(self, name: tuple[str, str], missing: Missing) -> AccountRef | None:
        known = self.memory.accounts
        ref = known.get(name)
        if ref is None and name not in known:
            missing.accounts.add(name)
        return ref

    def _look_rail(self, batch: Batch, entry: Input, missing: Missing, needs: Needs) -> None:
        assert isinstance(entry.event, m.RailReported)
        named = routing.parse_reference(entry.event.outcome.reference)
        if named is not None:
            self._intent(batch, named[0], missing)

    def _look_command(self, batch: Batch, entry: Input, missing: Missing, needs: Needs) -> None:
        assert isinstance(entry.event, m.CommandGiven)
        if entry.event.kind == recovering.COMMAND and entry.event.tenant not in batch.recovered.running:
            missing.running.add(entry.event.tenant)
        if entry.event.kind not in commands.ON_TRANSACTION:
            return
        tx = self._intent(batch, entry.event.subject, missing)
        if tx is not None and tx.tenant == entry.event.tenant:
            find = partial(self._find, tx.tenant, missing)
            self._foresee(foreseeing.by_command(entry.event, tx, find), needs)

    def _find(self, tenant: str, missing: Missing, name: str) -> AccountRef | None:
        return self._look_account((tenant, name), missing)

    def _foresee(self, foreseen: foreseeing.Foreseen, needs: Needs) -> None:
        needs.accounts.update([(ref.id, ref) for ref in foreseen.accounts if ref is not None])
        needs.velocity.update(foreseen.counters)

    def _look_settled(self, batch: Batch, entry: Input, missing: Missing, needs: Needs) -> None:
        assert isinstance(entry.event, m.DeliverySettled)
        self._intent(batch, entry.event.intent, missing)

    def _look_lane(self, batch: Batch, entry: Input, missing: Missing, needs: Needs) -> None:
        event = entry.event
        assert isinstance(event, m.DeliveryDue | m.AttemptReported | m.LaneOpened)
        if (event.tenant, event.endpoint) not in self.memory.lanes:
            missing.lanes.add((event.tenant, event.endpoint))

    def _look_leaf(self, batch: Batch, entry: Input, missing: Missing, needs: Needs) -> None:
        event = entry.event
        assert isinstance(event, m.LeafDue)
        if event.tenant not in self.memory.logs:
            missing.logs.add(event.tenant)
        if event.again and (link := (event.intent, leaf_hash(event.data))) not in batch.asked:
            missing.leaves.add(link)  # all at once: a batch may have many

    def _look_timer(self, batch: Batch, entry: Input, missing: Missing, needs: Needs) -> None:
        assert isinstance(entry.event, m.TimerFired)
        if entry.event.kind == "delivery" and entry.event.key not in self.memory.deliveries:
            missing.deliveries.add(entry.event.key)  # of an endpoint that is down there are many at once
        elif entry.event.kind == "recovery" and entry.event.key not in batch.recovered.stored:
            missing.recoveries.add(entry.event.key)
        if entry.event.kind == "intent":
            tx = self._intent(batch, entry.event.key, missing)
            if tx is not None and entry.event.name == "state":
                self._foresee(foreseeing.by_timer(tx, partial(self._find, tx.tenant, missing)), needs)
        elif entry.event.kind == strangers.KIND:
            place = strangers.named_by(entry.event.name)
            if place not in batch.waiting:
                missing.waiting.add(place)
            named = routing.parse_reference(place[1])
            if named is not None:
                self._intent(batch, named[0], missing)


def _finish(tick: Tick, plan: TickPlan) -> None:
    pages = tick.batch.recovered.unasked
    if tick.unasked or pages:  # all at once: a batch may hold many that are short of funds, or steps of recoveries
        raise MissingGround(Missing(expiring=tick.unasked, pages=dict(pages)))
    try:
        finish(tick, plan)
    except MissingGround:
        raise
    except Exception as error:  # what ends a tick cannot tell which event is to blame: the caller finds it
        raise DataError(f"a tick cannot be finished: {type(error).__name__}: {error}") from error


def _set_aside(batch: Batch, index: int, error: Exception) -> None:
    """Leave an event out of its batch from now on, with the reason."""
    entry = batch.inputs[index]
    batch.poisoned[index] = f"{type(error).__name__}: {error}"
    logger.error("an event was set aside", extra={"stage": entry.stage, "cause": entry.cause}, exc_info=error)


def _velocity_order(key: VelocityKey) -> tuple[str, str, str, str]:
    return key.tenant, key.counter, key.day, key.currency


def _subject(event: Any) -> str:
    """Return the intent that an event is for, or what it is for where that is none; "" where it is for nothing."""
    kind = type(event)
    if kind is m.CommandGiven:
        return str(event.intent or event.subject)
    if kind is m.RailReported:
        return str(event.outcome.reference[:32])
    return getattr(event, _SUBJECTS[kind], "") if kind in _SUBJECTS else ""


_SUBJECTS: Final[Mapping[type, str]] = {
    m.Due: "intent",
    m.DeliverySettled: "intent",
    m.TimerFired: "key",
}


def _handle(tick: Tick, entry: Input) -> None:
    event = entry.event
    handler = _HANDLERS.get(type(event), _unknown)
    if handler is None:
        handler = stages.HANDLERS[entry.stage]
    handler(tick, entry, event)
    while tick.owing:
        journaling.settle_debt(tick, entry, tick.owing.pop())


def _timer_fired(tick: Tick, entry: Input, event: m.TimerFired) -> None:
    if event.kind == "intent":
        stages.fire(tick, entry, event)
    elif event.kind == "delivery":
        lanes.fire(tick, event)
    elif event.kind == "recovery":
        recovering.fire(tick, event)
    elif event.kind == strangers.KIND:
        strangers.fire(tick, entry, event, outcomes.callback)
    else:
        _unknown(tick, entry, event)


def _unknown(tick: Tick, entry: Input, event: Any) -> None:
    raise ValueError("the frame holds no event that this stage knows")


# None: the stage says which.
_HANDLERS: Final[Mapping[type, Callable[[Tick, Input, Any], None] | None]] = {
    m.Due: None,
    m.DeliverySettled: None,
    m.LeafDue: None,
    m.RailReported: outcomes.callback,
    m.CommandGiven: commands.command,
    m.DeliveryDue: webhooks.deliver,
    m.AttemptReported: webhooks.attempt_ended,
    m.LaneOpened: lambda tick, entry, event: lanes.open_lane(tick, event),
    m.TimerFired: _timer_fired,
}
_LOOKS: Final[Mapping[type, Callable[[Engine, Batch, Input, Missing, Needs], Any]]] = {
    m.Due: Engine._look_due,
    m.RailReported: Engine._look_rail,
    m.CommandGiven: Engine._look_command,
    m.DeliverySettled: Engine._look_settled,
    m.DeliveryDue: Engine._look_lane,
    m.AttemptReported: Engine._look_lane,
    m.LaneOpened: Engine._look_lane,
    m.LeafDue: Engine._look_leaf,
    m.TimerFired: Engine._look_timer,
}
