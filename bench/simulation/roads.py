"""What changes of routing while a run goes on: versions of corridors, and how rails are operated."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import structs

from zentra.bench.simulation.setting import corridors
from zentra.runtime.rails.operating import Maintenance, RailOperation

if TYPE_CHECKING:
    from zentra.bench.simulation.simulation import Simulation

__all__ = ["change"]


def change(simulation: Simulation) -> None:
    """Change corridors, or how a rail is operated."""
    (_promote if simulation.random.random() < 0.5 else _operate)(simulation)


def _promote(simulation: Simulation) -> None:
    """Put another version of a tenant's corridors in force: other rails, weights, prices, orders and waits."""
    random, store = simulation.random, simulation.store
    tenant = random.choice(sorted(store.current.corridors))
    changed = []
    every = {corridor.name: corridor.routes for corridor in corridors()[tenant]}
    for corridor in store.current.corridors[tenant]:
        known = every[corridor.name]
        some = random.sample(known, random.randint(1, len(known)))
        routes = [
            structs.replace(
                route,
                priority=random.choice((1, 1, 2)),
                weight=random.choice((0, 1, 5)),
                cost_minor=random.choice((0, 9)),
            )
            for route in some
        ]
        routes.sort(key=lambda route: route.priority)
        changed.append(
            structs.replace(
                corridor, rails=tuple(route.rail for route in routes), routes=tuple(routes),
                version=corridor.version + 1, prefer=random.choice(("weight", "cost")),
                wait_seconds=random.choice((0, 5, 60, 600)),
            )
        )  # fmt: skip
    store.configure(structs.replace(store.current, corridors={**store.current.corridors, tenant: tuple(changed)}))


def _operate(simulation: Simulation) -> None:
    """Drain a rail or let it be asked again, or plan its maintenance."""
    random, store = simulation.random, simulation.store
    rail = random.choice(sorted(store.current.rails))
    known, now = store.current.operations.get(rail, RailOperation()), simulation.store_time()
    if random.random() < 0.5:
        after = structs.replace(known, draining=not known.draining)
    else:
        since = now + timedelta(seconds=random.uniform(-5, 30))
        window = Maintenance(since, since + timedelta(seconds=random.choice((1, 40, 400))))
        after = structs.replace(known, maintenance=(window,))
    store.configure(structs.replace(store.current, operations={**store.current.operations, rail: after}))
