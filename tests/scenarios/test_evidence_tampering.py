"""A packet that left the house proves itself with the public key alone, and a changed one says where it was changed."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.scenarios.people import Person
from zentra.gateway.installation.installation import Installation
from zentra.runtime.evidence import canonical

pytestmark = pytest.mark.service


async def verify(folder: Path, packet: bytes, key: Path) -> tuple[int, str]:
    """Run the command as somebody outside would: with a file and a key, and nothing else from us."""
    file = folder / "packet.json"
    file.write_bytes(packet)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "zentra.gateway", "evidence", "verify", str(file), "--key", str(key),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=folder, env={},
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_an_exported_packet_verifies_with_the_public_key_alone(
    dev: Person, installation: Installation, tmp_path: Path
) -> None:
    seen = await dev.made()
    packet = await dev.packet(seen["intent_id"])
    code, output = await verify(tmp_path, packet, installation.public_key_path)
    assert (code, output.splitlines()[0]) == (0, "evidence: verified")
    assert f"{seen['intent_id']} ({seen['id']})" in output


def changed(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    """Return a tampering that knows the format: the packet is decoded, changed and written canonically again."""

    def tamper(packet: bytes) -> bytes:
        decoded = msgspec.json.decode(packet)
        change(decoded)
        return canonical.encode(decoded)

    return tamper


def flipped(marker: bytes) -> Callable[[bytes], bytes]:
    """Return a tampering that flips the lowest bit of the byte behind a marker."""

    def tamper(packet: bytes) -> bytes:
        found = re.search(marker, packet)
        assert found is not None, f"the packet has no {marker!r}"
        place = found.end() - 1
        return packet[:place] + bytes([packet[place] ^ 1]) + packet[place + 1 :]

    return tamper


def swap_records(packet: dict[str, Any]) -> None:
    packet["records"][2:4] = reversed(packet["records"][2:4])


def drop_record(packet: dict[str, Any]) -> None:
    del packet["records"][3]
    del packet["hashes"][3]


def insert_record(packet: dict[str, Any]) -> None:
    packet["records"].insert(2, packet["records"][1])
    packet["hashes"].insert(2, packet["hashes"][1])


def raise_head(packet: dict[str, Any]) -> None:
    packet["head"]["size"] += 1


def change_callback(packet: dict[str, Any]) -> None:
    packet["attachments"][0]["content"] += " "


# What was done to the packet, and what the command names.
TAMPERINGS: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("a digit of the amount", flipped(rb'\\"minor\\":\\"1'), "record 1 (ingress.accepted): chain_broken"),
    ("a letter of who decided", flipped(rb'\\"actor\\":\\"svc_p'), "record 2 ("),
    ("a digit of a hash", flipped(rb'"hashes":\["[0-9a-f]{64}","."?[0-9a-f]'), "record 2 ("),
    ("two records exchanged", changed(swap_records), "record 3 ("),
    ("a record left out", changed(drop_record), "record 4 ("),
    ("a record inserted", changed(insert_record), "record 3 ("),
    ("the size of the log", changed(raise_head), "head: "),
    ("the body of a callback", changed(change_callback), "attachment 1: attachment_differs"),
]


@pytest.mark.parametrize(
    ("tamper", "named"), [(t, named) for _, t, named in TAMPERINGS], ids=[n for n, *_ in TAMPERINGS]
)
async def test_a_changed_packet_is_refused_naming_the_place(
    dev: Person, installation: Installation, tmp_path: Path, tamper: Callable[[bytes], bytes], named: str
) -> None:
    packet = await dev.packet((await dev.made())["intent_id"])
    code, output = await verify(tmp_path, tamper(packet), installation.public_key_path)
    lines = output.splitlines()
    assert (code, lines[0]) == (1, "evidence: FAILED (tampered)")
    assert lines[1].startswith(f"  {named}"), output


async def test_another_installations_key_verifies_nothing(dev: Person, tmp_path: Path) -> None:
    key = tmp_path / "other.pem"
    public = Ed25519PrivateKey.generate().public_key()
    key.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    packet = await dev.packet((await dev.made())["intent_id"])
    code, output = await verify(tmp_path, packet, key)
    assert (code, output.splitlines()[0]) == (1, "evidence: FAILED (tampered)")
