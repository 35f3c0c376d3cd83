"""Dead letters as they are read back: in order, from anywhere, and shown even where one makes no sense."""

from __future__ import annotations

import msgspec
import pytest

from tests.streams.nats_server import NatsServer
from zentra.runtime.stream_ports import Outgoing
from zentra.runtime.subjects import dead_subject
from zentra.streams.connection import Connection
from zentra.streams.dead_letters import dead_letter, dead_letters
from zentra.streams.errors import StreamUnavailable
from zentra.streams.publisher import Publisher

pytestmark = pytest.mark.service

LETTER = {"reason": "KeyError: 'x'", "stage": "route", "cause": "c" * 32, "frame": b"\x91\x01".hex()}


async def publish(client: Connection, *bodies: bytes) -> None:
    publisher = Publisher(client)
    await publisher.start()
    messages = [Outgoing(dead_subject("poison", 7), body, f"letter-{n}") for n, body in enumerate(bodies)]
    assert await publisher.publish(messages) == [None] * len(bodies)
    await publisher.close()


async def test_letters_are_read_in_order_from_any_place(client: Connection) -> None:
    await publish(client, *[msgspec.json.encode(LETTER | {"stage": f"s{n}"}) for n in range(5)])
    found = [letter async for letter in dead_letters(client)]
    assert [(letter.sequence, letter.stage, letter.id) for letter in found] == [
        (n + 1, f"s{n}", f"letter-{n}") for n in range(5)
    ]
    assert (found[0].partition, found[0].frame, found[0].reason) == (7, b"\x91\x01", "KeyError: 'x'")
    assert [letter.sequence async for letter in dead_letters(client, after=3)] == [4, 5]
    assert await dead_letter(client, 2) == found[1]
    assert await dead_letter(client, 6) is None


async def test_a_letter_names_its_case_and_an_old_one_none(client: Connection) -> None:
    await publish(client, msgspec.json.encode(LETTER | {"case": "d" * 32}), msgspec.json.encode(LETTER))
    assert [letter.case async for letter in dead_letters(client)] == ["d" * 32, ""]


async def test_an_empty_stream_has_no_letters(client: Connection) -> None:
    assert [letter async for letter in dead_letters(client)] == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}",
        msgspec.json.encode(LETTER | {"frame": "no hex"}),
        msgspec.json.encode(LETTER | {"case": "no id"}),
    ],
)
async def test_a_letter_that_makes_no_sense_is_shown_without_a_frame(client: Connection, body: bytes) -> None:
    await publish(client, body, msgspec.json.encode(LETTER))
    broken, sound = [letter async for letter in dead_letters(client)]
    assert (broken.sequence, broken.stage, broken.frame) == (1, "", b"")
    assert sound.stage == "route"


async def test_without_a_server_nothing_is_said_to_be_empty(client: Connection, shared_server: NatsServer) -> None:
    await client.close()
    with pytest.raises(StreamUnavailable):
        await dead_letter(client, 1)
