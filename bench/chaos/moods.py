"""How a bank of a chaos run misbehaves while it is told to: one mood at a time, kept with every payment that met it.

- A mood changes what is answered and what is called back, and never what is paid: that is the book's alone.
- What a bank says of who may come in (its tokens) is beside every mood, so that the payment itself meets it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Final

from zentra.gateway.listening import AsgiApp, Message, Receive, Scope, Send, answer, hang
from zentra.gateway.sandbox.scenarios import Notice

__all__ = ["FORGED", "RailMood", "answered", "forged", "told"]

HANG_SECONDS: Final = 30.0
ANSWER_LATE_SECONDS: Final = 0.4  # long after the callback has arrived, and before the submit is given up
FORGED: Final = "forged-"
"""What the event id of a callback begins with that is to be signed wrongly."""
OPPOSITE: Final = {"succeeded": "declined", "declined": "succeeded", "pending": "succeeded"}

Notices = tuple[Notice, ...]


class RailMood(StrEnum):
    """How a bank treats what reaches it."""

    WELL = "well"
    HANGS = "hangs"  # takes everything and answers nothing
    FAILS = "fails"  # takes everything and answers 500
    REFUSES = "refuses"  # takes nothing new, and says so
    LOSES = "loses"  # calls nobody back
    DOUBLES = "doubles"  # calls back twice, and once more under another id
    DISORDERS = "disorders"  # tells of the end before it tells that it has begun
    HURRIES = "hurries"  # calls back before it has answered
    FORGES = "forges"  # somebody else calls back first, who does not know the secret
    CONTRADICTS = "contradicts"  # calls a payment failed, and then paid, which it is


def _doubled(notices: Notices) -> Notices:
    return tuple(
        again for one in notices for again in (one, one, one._replace(event_id=f"{one.event_id}-again"))
    )  # fmt: skip


def _disordered(notices: Notices) -> Notices:
    return tuple(
        told
        for one in notices
        for told in (one, one._replace(event_id=f"{one.event_id}-begun", status="pending"))
    )  # fmt: skip


def _forged(notices: Notices) -> Notices:
    return tuple(
        told
        for one in notices
        for told in (one._replace(event_id=f"{FORGED}{one.event_id}", status=OPPOSITE[one.status]), one)
    )


def _contradicted(notices: Notices) -> Notices:
    if any(one.status == "declined" for one in notices):  # only what is paid may be called failed first
        return notices
    return tuple(one._replace(event_id=f"{one.event_id}-failed", status="declined") for one in notices[:1]) + notices


_TOLD: Final[Mapping[RailMood, Callable[[Notices], Notices]]] = {
    RailMood.LOSES: lambda notices: (),
    RailMood.DOUBLES: _doubled,
    RailMood.DISORDERS: _disordered,
    RailMood.HURRIES: lambda notices: tuple(one._replace(delay=0.0) for one in notices),
    RailMood.FORGES: _forged,
    RailMood.CONTRADICTS: _contradicted,
}


def told(mood: RailMood, notices: Notices) -> Notices:
    """Return the callbacks that a payment of a mood causes, in their order."""
    return _TOLD[mood](notices) if mood in _TOLD else notices


def forged(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a callback as somebody would make them who does not know the secret."""
    return {
        name: value.translate(str.maketrans("0123456789", "1234567890")) if "signature" in name else value
        for name, value in headers.items()
    }


async def answered(mood: RailMood, app: AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Have `app` take a request, and answer it as the mood is."""
    heard: list[Message] = []

    async def keep(message: Message) -> None:
        heard.append(message)

    if mood not in _ANSWERS or scope["path"].endswith("/oauth/token"):
        await app(scope, receive, send)
        return
    await app(scope, receive, keep)
    await _ANSWERS[mood](heard, receive, send)


async def _never(heard: list[Message], receive: Receive, send: Send) -> None:
    await hang(receive, HANG_SECONDS)
    await answer(send, 504, b"{}")


async def _broken(heard: list[Message], receive: Receive, send: Send) -> None:
    await answer(send, 500, b'{"message":"internal server error"}')


async def _late(heard: list[Message], receive: Receive, send: Send) -> None:
    await asyncio.sleep(ANSWER_LATE_SECONDS)
    for message in heard:
        await send(message)


_ANSWERS: Final[Mapping[RailMood, Callable[[list[Message], Receive, Send], Awaitable[None]]]] = {
    RailMood.HANGS: _never,
    RailMood.FAILS: _broken,
    RailMood.HURRIES: _late,
}
