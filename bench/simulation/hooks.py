"""What tenants do to their endpoints in a simulated run: take one away and bring it back, disable, enable, rotate."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import structs

from zentra.runtime.ports import Configuration, Endpoint
from zentra.runtime.webhooks.delivery import TELL_OF_ENDPOINT, EndpointSwitched
from zentra.runtime.webhooks.terms import rotated

if TYPE_CHECKING:
    from zentra.bench.simulation.simulation import Simulation

__all__ = ["change", "enable_all", "known"]


def change(simulation: Simulation) -> None:
    """Let one tenant change one of its endpoints."""
    random, store = simulation.random, simulation.store
    current = store.current
    _know(simulation)
    tenant = random.choice(sorted(current.endpoints))
    members, held = list(current.endpoints[tenant]), current.endpoints_held
    mine = sorted(lane for lane in held if lane[0] == tenant)
    spare = simulation.spare_endpoints.setdefault(tenant, [])
    switched: tuple[str, bool] | None = None
    match random.randrange(5):
        case 0 if spare:
            members.append(spare.pop())
        case 1 if members:
            spare.append(members.pop(random.randrange(len(members))))
        case 2 if members:
            switched = members.pop(random.randrange(len(members))).id, False
            held |= {(tenant, switched[0])}
        case 3 | 0 if mine:
            lane = random.choice(mine)
            switched = lane[1], True
            held -= {lane}
            members.append(_enabled(simulation, lane))
        case 4 if members:
            place = random.randrange(len(members))
            one = members[place]
            secrets, until = rotated(
                one.secrets, one.secrets_until, random.randbytes(32), simulation.store_time(),
                timedelta(seconds=random.choice((0, 60, 86_400))),
            )  # fmt: skip
            members[place] = structs.replace(one, secrets=secrets, secrets_until=until)
    endpoints = {**current.endpoints, tenant: tuple(members)}
    store.configure(structs.replace(current, endpoints=endpoints, endpoints_held=held))
    _know(simulation)
    if switched is not None:
        _tell(simulation, tenant, *switched)


def _tell(simulation: Simulation, tenant: str, endpoint: str, enabled: bool) -> None:
    """Have what somebody did to an endpoint told of on the intent of the delivery that was made for it last."""
    made = [
        one for one in simulation.store.rows.deliveries.values() if (one.tenant, one.endpoint) == (tenant, endpoint)
    ]
    if made:
        last = made[-1]
        stands = simulation.store.rows.delivery_states.get(last.id)
        body = EndpointSwitched(endpoint, enabled, last.id, last.event, 0 if stands is None else stands.attempts)
        simulation.border.give(tenant, TELL_OF_ENDPOINT, last.intent, body)


def enable_all(simulation: Simulation) -> None:
    """Enable every endpoint that is disabled, as somebody would in the end."""
    store = simulation.store
    _know(simulation)
    endpoints = dict(store.current.endpoints)
    for lane in sorted(store.current.endpoints_held):
        endpoints[lane[0]] = (*endpoints[lane[0]], _enabled(simulation, lane))
    store.configure(structs.replace(store.current, endpoints=endpoints, endpoints_held=frozenset()))
    simulation.auditor.configured()


def _enabled(simulation: Simulation, lane: tuple[str, str]) -> Endpoint:
    return structs.replace(simulation.known_endpoints[lane], since=simulation.store_time())


def known(current: Configuration) -> dict[tuple[str, str], Endpoint]:
    """Return how each endpoint is set up that is enabled."""
    return {(tenant, one.id): one for tenant, members in current.endpoints.items() for one in members}


def _know(simulation: Simulation) -> None:
    """Remember how endpoints are set up: one that the runtime disables is to be enabled as it was."""
    simulation.known_endpoints.update(known(simulation.store.current))
