"""Seals: only the installation opens them, and no changed byte goes unnoticed."""

from __future__ import annotations

import pytest

from zentra.gateway.sealing import SealBroken, Sealer

SEALER = Sealer(b"s" * 32)


def test_what_was_sealed_is_opened() -> None:
    assert SEALER.open(SEALER.seal(b"whsec")) == b"whsec"
    assert Sealer(b"s" * 32).open(SEALER.seal(b"")) == b""


def test_no_two_seals_are_alike() -> None:
    assert SEALER.seal(b"x") != SEALER.seal(b"x")


def test_every_flipped_bit_breaks_the_seal() -> None:
    sealed = SEALER.seal(b"secret")
    for place in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(SealBroken):
            SEALER.open(bytes(changed))


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x02" + bytes(40), b"\x01" + bytes(12)])
def test_what_is_no_seal_is_refused(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        SEALER.open(sealed)


def test_another_installation_cannot_open_it() -> None:
    with pytest.raises(SealBroken):
        Sealer(b"t" * 32).open(SEALER.seal(b"x"))


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Sealer(b"short")
