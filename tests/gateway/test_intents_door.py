"""The door for intents where a subject of personal data is never the same twice."""

from __future__ import annotations

import msgspec
import pytest

from zentra.gateway.doors.intake import SUBJECT_MOVED_RESULT, Intake, IntakeItem, Together
from zentra.gateway.doors.intents import LOOKS_MAX, Asker, IntentDoor
from zentra.gateway.metrics import Metrics
from zentra.runtime.errors import Unavailable
from zentra.storage.intake.personal import Personal

ASKER = Asker(tenant="acme", principal="ada", role="developer", trace="t" * 32, source="http")
BODY = {
    "amount": 5, "currency": "NGN", "source": "c-1", "destination": "m-1", "idempotency_key": "k",
    "metadata": {"personal.subject": "cust-42"},
}  # fmt: skip


class Moving(Intake):
    """An intake in which the subject has another key each time."""

    def __init__(self) -> None:
        self.asked: list[IntakeItem] = []

    def check(self) -> None:
        pass

    def submit_nowait(self, item: IntakeItem, asked: Together, place: int) -> None:
        self.asked.append(item)
        asked.settle(place, SUBJECT_MOVED_RESULT)


async def commit(
    tenant: str, metadata: object, key: str, intent_id: str | None
) -> tuple[dict[str, str], Personal | None]:
    personal = Personal(subject="cust-42", key=bytes(32), fresh=True, openings={}, proof=bytes(48))
    return {"personal.subject": "0" * 64}, personal


async def test_who_never_finds_the_subject_at_rest_may_come_again() -> None:
    intake = Moving()
    door = IntentDoor(intake, Metrics(), commit)
    with pytest.raises(Unavailable, match="over and over"):
        await door.create(BODY, lambda key: key or "", ASKER, "req")
    assert len(intake.asked) == 1 + LOOKS_MAX
    (told,) = await door.create_many([BODY], ASKER, "req")
    assert isinstance(told, msgspec.Raw)
    problem = msgspec.json.decode(told)
    assert (problem["status"], problem["retryable"]) == (503, True)
