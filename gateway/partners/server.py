"""Simulated banks as a real HTTP server: many banks behind one port, each under `/partners/{rail}`.

    …    /partners/{rail}/…          the bank's own doors
    PUT  /partners/{rail}/control    {"available": false, "scenario": "decline", "expire_tokens": true}: all optional
    GET  /partners/{rail}/control    the same, and counts

`Street` puts them beside the sandbox rails, so that one process plays everybody. The invariants kept here:

- Everything is in memory and bounded, as in the sandbox.
- A bank that hangs holds its caller's connection and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import msgspec
import uvicorn

from zentra.gateway.listening import Receive, Scope, Send, answer, hang, quiet_config, read_body
from zentra.gateway.outward.http import AddressPolicy
from zentra.gateway.partners.gtbank import GtbankBank
from zentra.gateway.partners.partner import PARTNER_SCENARIOS, Asked, Partner, PartnerProfile
from zentra.gateway.partners.providus import ProvidusBank
from zentra.gateway.sandbox.crew import CallbackCrew
from zentra.gateway.sandbox.scenarios import RailProfile
from zentra.gateway.sandbox.server import SandboxServer

__all__ = ["DIALECTS", "PartnerServer", "Street", "serve"]

BODY_BYTES_MAX: Final = 64 * 1024
SENDERS: Final = 16
DIALECTS: Final[Mapping[str, type[Partner]]] = {"gtbank": GtbankBank, "providus": ProvidusBank}
NO_ROUTE: Final = b'{"status":"no_such_route"}'


class Control(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a control request; what is absent stays as it is."""

    available: bool | None = None
    scenario: str | None = None
    expire_tokens: bool = False


control_decoder = msgspec.json.Decoder(Control)


class PartnerServer:
    """The ASGI application. Its senders of callbacks live from the lifespan's startup to its shutdown."""

    def __init__(self, profiles: Mapping[str, PartnerProfile], *, address_policy: AddressPolicy | None = None) -> None:
        """Raises ValueError for a dialect or a scenario that does not exist."""
        for name, profile in profiles.items():
            if profile.kind not in DIALECTS:
                raise ValueError(f"{name}: no bank of kind {profile.kind!r}; there are {', '.join(sorted(DIALECTS))}")
        self.partners = {name: DIALECTS[profile.kind](name, profile) for name, profile in profiles.items()}
        self.crew = CallbackCrew(
            lambda errand: self.partners[errand.book.rail].callback(errand),
            lambda errand, said: self.partners[errand.book.rail].heard(errand, said),
            senders=SENDERS,
            address_policy=address_policy,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await receive()
            await self.crew.start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self.crew.stop()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            await self.route(scope, receive, send)

    async def route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        match scope["path"].split("/", 3):
            case ["", "partners", name, path] if (partner := self.partners.get(name)) is not None:
                pass
            case _:
                await answer(send, 404, NO_ROUTE)
                return
        raw = await read_body(receive, BODY_BYTES_MAX)
        if raw is None:
            await answer(send, 413, b'{"status":"too_large"}')
        elif path == "control":
            await self._control(partner, scope["method"], raw, send)
        else:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            await self._serve(partner, Asked(scope["method"], path, headers, raw, time.time()), receive, send)

    async def _serve(self, partner: Partner, asked: Asked, receive: Receive, send: Send) -> None:
        told = partner.answer(asked)
        if told is None:
            await answer(send, 404, NO_ROUTE)
            return
        if told.planned is not None:
            self.crew.plan(told.planned)
        if told.hangs:
            await hang(receive, partner.profile.timings.hang_seconds)
            await answer(send, 504, b"{}")
            return
        await answer(send, told.status, msgspec.json.encode(told.body))

    async def _control(self, partner: Partner, method: str, raw: bytes, send: Send) -> None:
        if method == "PUT":
            try:
                control = control_decoder.decode(raw)
            except ValueError:
                await answer(send, 400, b'{"status":"malformed"}')
                return
            if control.scenario is not None and control.scenario not in PARTNER_SCENARIOS:
                await answer(send, 400, b'{"status":"no_such_scenario"}')
                return
            partner.book.available = partner.book.available if control.available is None else control.available
            partner.scenario = control.scenario or partner.scenario
            if control.expire_tokens and isinstance(partner, GtbankBank):
                partner.expire_tokens()
        await answer(send, 200, self._statistics(partner))

    def _statistics(self, partner: Partner) -> bytes:
        shown = {"kind": partner.profile.kind, **self.crew.statistics(partner.book, time.time())}
        return msgspec.json.encode({**shown, "scenario": partner.scenario})


class Street:
    """Sandbox rails and simulated banks as one application."""

    def __init__(self, sandbox: SandboxServer, partners: PartnerServer) -> None:
        self.sandbox, self.partners = sandbox, partners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "http" and scope["path"].startswith("/partners/"):
            await self.partners.route(scope, receive, send)
        elif scope["type"] == "lifespan" and self.partners.partners:
            await self.partners.crew.start()
            await self.sandbox(scope, receive, send)
            await self.partners.crew.stop()
        else:
            await self.sandbox(scope, receive, send)


def serve(host: str, port: int, rails: Mapping[str, str | PartnerProfile], *, scenario: str = "success") -> None:
    """Run sandbox rails (whose secrets are texts) and simulated banks until SIGINT or SIGTERM.

    Raises ValueError for a scenario or a dialect that does not exist."""
    sandboxes = {name: RailProfile(one, scenario) for name, one in rails.items() if isinstance(one, str)}
    banks = {name: one for name, one in rails.items() if isinstance(one, PartnerProfile)}
    app = Street(SandboxServer(sandboxes), PartnerServer(banks))
    uvicorn.Server(quiet_config(app, host, port)).run()
