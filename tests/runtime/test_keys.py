"""An API key carries its id and a checksum; a changed character is found without asking anybody."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zentra.runtime.keys import RANDOM_BYTES, ParsedKey, make_key, parse_key

_RANDOM = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)


@given(_RANDOM, st.booleans())
def test_a_key_that_was_made_is_read_back(random_bytes: bytes, live: bool) -> None:
    key_id, text = make_key(random_bytes, live)
    assert text.startswith(f"zk_{'live' if live else 'test'}_{key_id}_")
    assert parse_key(text) == ParsedKey(key_id, hashlib.sha256(text.encode()).digest(), live)


@given(_RANDOM, st.integers(8, 53), st.sampled_from("0Az~_ \n"))
def test_a_changed_character_is_found(random_bytes: bytes, place: int, character: str) -> None:
    _, text = make_key(random_bytes)
    changed = text[:place] + character + text[place + 1 :]
    assert (parse_key(changed) is None) == (changed != text)


@pytest.mark.parametrize("text", ["", "zk_test_", "zk_prod_0", "zk_test_" + "0" * 12 + "_" + "0" * 33, "é" * 54])
def test_what_is_no_key_is_none(text: str) -> None:
    assert parse_key(text) is None


def test_the_secret_keeps_all_its_bits() -> None:
    texts = {make_key(bytes(9) + (1 << bit).to_bytes(20))[1] for bit in range(160)}
    assert len(texts) == 160


@pytest.mark.parametrize("length", [0, RANDOM_BYTES - 1, RANDOM_BYTES + 1])
def test_a_key_takes_exactly_its_random_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="random bytes"):
        make_key(bytes(length))
