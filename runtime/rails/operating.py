"""What operators say of a rail: that it is drained, and when it is in maintenance.

Nothing new is sent to a rail that rests: no intent is routed to it, and no payment is submitted a second time. What was
sent is polled as ever, and callbacks are taken: a rail that rests keeps nobody from the end of a payment."""

from datetime import datetime

from msgspec import Struct

__all__ = ["MAINTENANCE_MAX", "Maintenance", "RailOperation"]

MAINTENANCE_MAX = 100  # windows of one rail


class Maintenance(Struct, frozen=True, rename={"from_": "from"}):
    """A time in which a rail is not to be asked: from `from_` on, and before `until`."""

    from_: datetime
    until: datetime
    reason: str = ""


class RailOperation(Struct, frozen=True):
    """How a rail is operated."""

    draining: bool = False
    reason: str = ""
    maintenance: tuple[Maintenance, ...] = ()

    def resting(self, now: datetime) -> str:
        """Return why nothing new may be sent at `now`: draining or maintenance; "" where it may."""
        if self.draining:
            return "draining"
        return "maintenance" if any(one.from_ <= now < one.until for one in self.maintenance) else ""
