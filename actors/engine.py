"""The engine of a worker: what a batch needs, what is decided on it, what is remembered of it. All plain functions.

The shell around it (`worker.py`) loads, locks and commits. `plan` foresees what the events in a batch usually touch, so
that one round is enough; what it did not foresee a tick asks for by MissingGround, and is decided again with it."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from zentra.actors import commands, outcomes, stages, webhooks
from zentra.actors.memory import Memory, Missing, MissingGround
from zentra.actors.tick import Batch, Input, Rules, Tick
from zentra.runtime import messages as m
from zentra.runtime.errors import DataError
from zentra.runtime.intents.transaction import Transaction, restore
from zentra.runtime.intents.vocabulary import IntentKind, State
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.policy import DEFAULT_RULES, VelocityKey, velocity_keys
from zentra.runtime.ports import Fence, Ground, Lease, TickPlan
from zentra.runtime.rails import routing

__all__ = ["Engine"]

logger = logging.getLogger(__name__)


class Engine:
    """The decisions of one worker over its own memory. `stripe` is its place in accounts without a floor."""

    def __init__(self, memory: Memory, rules: Rules) -> None:
        self.memory, self.rules = memory, rules
        self.day = ""

    def missing(self, batch: Batch) -> Missing:
        """Return what has to be loaded before `batch` can be planned."""
        missing = Missing()
        for index, entry in enumerate(batch.inputs):
            look = _LOOKS.get(type(entry.event))
            if look is None or index in batch.poisoned:
                continue
            try:
                look(self, batch, entry, missing)
            except Exception as error:
                _set_aside(batch, index, error)
        return missing

    def plan(self, batch: Batch, leases: Mapping[int, Lease], stripe: int) -> TickPlan:
        """Return what a tick over `batch` has to lock."""
        accounts: dict[int, AccountRef] = dict(batch.extra.balances)
        velocity: set[VelocityKey] = set(batch.extra.velocity)
        for index, entry in enumerate(batch.inputs):
            if type(entry.event) is m.Due and index not in batch.poisoned:
                tx = self._peek(batch, entry.event.intent)
                if tx is not None and entry.event.version == tx.sequence:
                    self._foresee(entry.stage, tx, accounts, velocity)
        fences = []
        for partition in sorted({entry.partition for entry in batch.inputs} | batch.positions.keys()):
            lease = leases[partition]
            position = batch.positions.get(partition, lease.position)
            fences.append(Fence(partition, lease.epoch, lease.version, position))
        ordered = tuple(accounts[key] for key in sorted(accounts))
        return TickPlan(
            tuple(fences), tuple(sorted(velocity, key=_velocity_order)), ordered, stripe, tuple(batch.consumed)
        )

    def decide(self, batch: Batch, plan: TickPlan, ground: Ground) -> Tick:
        """Return the tick over `batch`, decided on `ground`, ready to be written.

        Raises MissingGround where it needs more than the plan foresaw, DataError where it cannot be finished. An event
        that raises anything else is set aside in `batch.poisoned`, and the rest is decided again without it."""
        if ground.configuration_version != self.memory.configuration.version:
            raise MissingGround(Missing(configuration=True))
        self.day = ground.now.date().isoformat()
        while True:
            tick = Tick(self.memory, self.rules, batch, plan, ground)
            if self._run(tick, batch):
                try:
                    tick.finish(plan)
                except MissingGround:
                    raise
                except Exception as error:  # what ends a tick cannot tell which event is to blame: the caller finds it
                    raise DataError(f"a tick cannot be finished: {type(error).__name__}: {error}") from error
                return tick

    def absorb(self, tick: Tick) -> None:
        """Replace what is remembered by what a committed tick made of it."""
        memory = self.memory
        memory.keep(tick.transactions.values())
        for delivery in tick.deliveries.values():
            if delivery.state in webhooks.OPEN:
                memory.deliveries[delivery.id] = delivery
            else:
                memory.deliveries.pop(delivery.id, None)
        memory.lanes.update(tick.lanes)
        memory.logs.update(tick.heads)
        memory.forget_absent()
        if tick.lost:
            memory.drop_partitions(tick.lost)

    def _run(self, tick: Tick, batch: Batch) -> bool:
        """Handle every event; return False where one was set aside and all has to be decided again."""
        for index, entry in enumerate(batch.inputs):
            if index in batch.poisoned or entry.partition in tick.lost:
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

    def _foresee(
        self, stage: str, tx: Transaction, accounts: dict[int, AccountRef], velocity: set[VelocityKey]
    ) -> None:
        known = self.memory.accounts
        command = tx.command
        if stage == "policy" and self.day:  # before the first tick the day is not known; the tick asks for it
            rules = self.memory.configuration.policies.get(tx.tenant, DEFAULT_RULES)
            velocity.update(velocity_keys(rules, tx.tenant, command, self.day))
        elif stage == "ledger":
            names = [command.source]
            if command.kind is not IntentKind.BOOK_TRANSFER:
                names.append(f"@settlement/{command.currency}")
            if command.kind is IntentKind.BOOK_TRANSFER or tx.state is not State.RESERVING:
                names.append(command.destination)
            for name in names:
                ref = known.get((tx.tenant, name))
                if ref is not None:
                    accounts[ref.id] = ref
            velocity.update(stages.counters(tx))

    # What each kind of event needs loaded ---------------------------------------------------------------------------

    def _intent(self, batch: Batch, intent: str, missing: Missing) -> Transaction | None:
        tx = self._peek(batch, intent)
        if tx is None and intent not in self.memory.transactions:
            missing.intents.add(intent)
        return tx

    def _look_due(self, batch: Batch, entry: Input, missing: Missing) -> None:
        event = entry.event
        assert isinstance(event, m.Due)
        tx = self._peek(batch, event.intent)
        if tx is None and event.opening is not None and batch.trust_openings and event.intent not in batch.reloaded:
            tx = restore([(event.opening.record, event.opening.hash)])
            tx.timer_due = tx.at + stages.REGISTERED_TIMER
            batch.opened[event.intent] = tx
        if tx is None:
            self._intent(batch, event.intent, missing)
        elif entry.stage in ("policy", "ledger"):
            names = [tx.command.source]
            if entry.stage == "ledger":
                names += [tx.command.destination, f"@settlement/{tx.command.currency}"]
            for name in names:
                if (tx.tenant, name) not in self.memory.accounts:
                    missing.accounts.add((tx.tenant, name))

    def _look_rail(self, batch: Batch, entry: Input, missing: Missing) -> None:
        assert isinstance(entry.event, m.RailReported)
        named = routing.parse_reference(entry.event.outcome.reference)
        if named is not None:
            self._intent(batch, named[0], missing)

    def _look_command(self, batch: Batch, entry: Input, missing: Missing) -> None:
        assert isinstance(entry.event, m.CommandGiven)
        if entry.event.kind in commands.ON_TRANSACTION:
            self._intent(batch, entry.event.subject, missing)

    def _look_settled(self, batch: Batch, entry: Input, missing: Missing) -> None:
        assert isinstance(entry.event, m.DeliverySettled)
        self._intent(batch, entry.event.intent, missing)

    def _look_lane(self, batch: Batch, entry: Input, missing: Missing) -> None:
        event = entry.event
        assert isinstance(event, m.DeliveryDue | m.AttemptReported | m.LaneOpened)
        if (event.tenant, event.endpoint) not in self.memory.lanes:
            missing.lanes.add((event.tenant, event.endpoint))

    def _look_leaf(self, batch: Batch, entry: Input, missing: Missing) -> None:
        assert isinstance(entry.event, m.LeafDue)
        if entry.event.tenant not in self.memory.logs:
            missing.logs.add(entry.event.tenant)

    def _look_timer(self, batch: Batch, entry: Input, missing: Missing) -> None:
        assert isinstance(entry.event, m.TimerFired)
        if entry.event.kind == "intent":
            self._intent(batch, entry.event.key, missing)


def _set_aside(batch: Batch, index: int, error: Exception) -> None:
    """Leave an event out of its batch from now on, with the reason."""
    entry = batch.inputs[index]
    batch.poisoned[index] = f"{type(error).__name__}: {error}"
    logger.error("an event was set aside", extra={"stage": entry.stage, "cause": entry.cause}, exc_info=error)


def _velocity_order(key: VelocityKey) -> tuple[str, str, str, str]:
    return key.tenant, key.counter, key.day, key.currency


def _handle(tick: Tick, entry: Input) -> None:
    """Let the handler of an event run."""
    event = entry.event
    match event:
        case m.Due() | m.DeliverySettled() | m.LeafDue():
            stages.HANDLERS[entry.stage](tick, entry, event)
        case m.RailReported():
            outcomes.callback(tick, entry, event)
        case m.CommandGiven():
            commands.command(tick, entry, event)
        case m.DeliveryDue():
            webhooks.deliver(tick, entry, event)
        case m.AttemptReported():
            webhooks.attempt_ended(tick, entry, event)
        case m.LaneOpened():
            webhooks.open_lane(tick, event)
        case m.TimerFired(kind="intent"):
            stages.fire(tick, entry, event)
        case m.TimerFired(kind="delivery"):
            webhooks.fire(tick, event)
        case _:
            raise ValueError("the frame holds no event that this stage knows")


_LOOKS: Final[Mapping[type, Callable[[Engine, Batch, Input, Missing], Any]]] = {
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
