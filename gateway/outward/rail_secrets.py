"""The secrets that we share with the partners behind rails, as they are stored: sealed, and opened for the adapters.

- Each is sealed by itself and bound to its rail and name, so that none opens in the place of another.
- A row that holds plain secrets, as all did once, is read like any other; whatever is written is sealed.
- A seal that does not open is an error that names the rail and the fix, never an empty secret.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import structs

from zentra.gateway.sealing import RAIL_SECRETS, SealBroken, Sealer
from zentra.runtime.errors import Refusal
from zentra.runtime.rails.port import RailSettings
from zentra.storage.errors import Misconfigured

if TYPE_CHECKING:
    from zentra.storage.administration import Administration

__all__ = ["CALLBACK", "RailSecretUnreadable", "RailSecrets", "at_rest", "put_rail", "seal_rails"]

CALLBACK: Final = "callback"  # the name by which `RailSettings.secret` is given and sealed


class RailSecretUnreadable(Misconfigured):
    """Raised where a secret of a rail does not open: it was sealed by another installation, or changed since."""

    def __init__(self, rail: str, name: str) -> None:
        super().__init__(
            "rail_secret_unreadable",
            f"secret {name} of rail {rail} was not sealed with this ZENTRA_SECRET; set the one that the rail was set up"
            f" with, or set the rail up again with `zentra rails create {rail}` and all of its secrets",
        )
        self.rail, self.name = rail, name


class RailSecrets:
    """Seals and opens the secrets of rails; raises ValueError for an installation secret under 16 bytes."""

    def __init__(self, installation_secret: bytes) -> None:
        self._sealer = Sealer(installation_secret, RAIL_SECRETS)

    def opened(self, settings: RailSettings) -> RailSettings:
        """Return settings with their secrets, ready for an adapter; raise RailSecretUnreadable."""
        if not settings.sealed:
            return settings
        plain = {name: self._open(settings.name, name, token) for name, token in settings.sealed.items()}
        secret = plain.pop(CALLBACK, settings.secret)
        return structs.replace(settings, secret=secret, secrets=settings.secrets | plain, sealed={})

    def sealed(self, settings: RailSettings, known: RailSettings | None = None) -> RailSettings:
        """Return settings as they are stored; a secret that is `known` keeps its seal, so that the same rail set up
        again is the same row. Raises Refusal `rail_malformed` where two secrets have one name."""
        if CALLBACK in settings.secrets:
            raise Refusal("rail_malformed", f"secrets.{CALLBACK}: what verifies callbacks is `secret`")
        seals = dict(settings.sealed)
        for name, plain in _plain(settings).items():
            token = known.sealed.get(name, "") if known is not None else ""
            seals[name] = (
                token
                if token and self._holds(settings.name, name, token, plain)
                else self._seal(settings.name, name, plain)
            )
        return structs.replace(settings, secret="", secrets={}, sealed=seals)

    def _seal(self, rail: str, name: str, plain: str) -> str:
        return b64encode(self._sealer.seal(plain.encode(), _bound_to(rail, name))).decode()

    def _open(self, rail: str, name: str, token: str) -> str:
        try:
            return self._sealer.open(b64decode(token, validate=True), _bound_to(rail, name)).decode()
        except (SealBroken, ValueError):
            raise RailSecretUnreadable(rail, name) from None

    def _holds(self, rail: str, name: str, token: str, plain: str) -> bool:
        try:
            return self._open(rail, name, token) == plain
        except RailSecretUnreadable:
            return False


def at_rest(settings: RailSettings) -> str:
    """Return how the secrets of a stored rail are kept: `sealed`, `plain`, or nothing where it has none."""
    return "plain" if _plain(settings) else "sealed" if settings.sealed else ""


async def put_rail(
    administration: Administration, rail: RailSettings, secrets: RailSecrets | None, *, moved: bool = False
) -> bool:
    """Set a rail up or change it, sealed; return whether anything is different now. A rail without plain secrets needs
    no `secrets`; `moved` says that its partner has another address. Raises Refusal and Unavailable as the store."""
    if secrets is not None:
        known = next((one for one in await administration.rails() if one.name == rail.name), None)
        rail = secrets.sealed(rail, known)
    return await administration.put_rail(rail, moved=moved)


async def seal_rails(administration: Administration, secrets: RailSecrets) -> dict[str, str]:
    """Seal the rails that are stored with plain secrets; return what became of each: `sealed`, or `changed` where
    somebody else was changing it. Raises Refusal and Unavailable as the store does."""
    plain = [rail for rail in await administration.rails() if _plain(rail)]
    done = {rail.name: await administration.seal_rail(rail, secrets.sealed(rail)) for rail in plain}
    return {name: "sealed" if sealed else "changed" for name, sealed in done.items()}


def _plain(settings: RailSettings) -> dict[str, str]:
    return ({CALLBACK: settings.secret} if settings.secret else {}) | settings.secrets


def _bound_to(rail: str, name: str) -> bytes:
    return msgspec.json.encode((rail, name))
