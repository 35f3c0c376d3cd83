"""Canonical JSON: equal to RFC 8785 on our values, and one spelling only."""

from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from zentra.runtime.evidence import canonical

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = st.text(st.characters(max_codepoint=127))
INTEGERS = st.integers(-canonical.INTEGER_MAX, canonical.INTEGER_MAX)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=30,
)


class Pair(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    to: str
    from_: str
    facts: dict[str, str]


@given(VALUES)
def test_the_bytes_are_those_of_rfc_8785(value: Any) -> None:
    assert canonical.encode(value) == rfc8785.dumps(value)


@given(VALUES)
def test_what_was_encoded_decodes_to_the_same_value(value: Any) -> None:
    assert canonical.objection(value) is None
    assert canonical.decode(canonical.encode(value)) == value


def test_a_struct_is_spelt_like_the_object_it_stands_for() -> None:
    pair = Pair(to="SUCCESSFUL", from_="ACCEPTED", facts={"b": "2", "a": "1"})
    assert canonical.encode(pair) == b'{"facts":{"a":"1","b":"2"},"from":"ACCEPTED","to":"SUCCESSFUL"}'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"NaN", "not JSON"),
        (b'"\xff"', "not JSON"),
        (b'"\\ud800"', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"1.0", r"\$ is a float"),
        (b"[1e3]", r"\$\[0\] is a float"),
        (b'{"a":{"b":[0,0.5]}}', r"\$\.a\.b\[1\] is a float"),
        (b"-0.0", r"\$ is a float"),
        (b"9007199254740992", "2\\*\\*53"),
        (b"-9007199254740992", "2\\*\\*53"),
        (b"123456789012345678901234567890", r"\$ is"),
        ('{"é":1}'.encode(), "not ASCII"),
        (b' {"a":1}', "canonical spelling"),
        (b'{"a": 1}', "canonical spelling"),
        (b'{"b":1,"a":2}', "canonical spelling"),
        (b'{"a":1,"a":1}', "canonical spelling"),
        (b'"\\u0041"', "canonical spelling"),
        (b'"\\/"', "canonical spelling"),
        (b'"\\u000A"', "canonical spelling"),
        (b"-0", "canonical spelling"),
        (b"1\n", "canonical spelling"),
    ],
)
def test_any_other_spelling_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(canonical.NotCanonicalError, match=reason):
        canonical.decode(data)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"amount": 1.5}, "$.amount is a float"),
        ([0, {"n": 2**53}], "$[1].n is an integer of 2**53 or more"),
        ({"a": "\ud800"}, "$.a holds a lone surrogate"),
        ({1: "a"}, "$ has a key that is not ASCII text"),
        ({"a": b"bytes"}, "$.a is a bytes"),
        ({"a": 1.5, "b": 2.5}, "$.a is a float"),
    ],
)
def test_an_objection_names_the_first_offending_path(value: Any, reason: str) -> None:
    assert canonical.objection(value) == reason
