"""Spans are named by what is kept, and others' state is carried as it came or not at all."""

from __future__ import annotations

import re

import pytest

from zentra.runtime.tracing import (
    TRACESTATE_CHARACTERS_MAX,
    Parent,
    checked_tracestate,
    parent_in,
    span_id,
    traceparent,
    with_parent,
)
from zentra.storage.identifiers import Uuid7

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_every_record_is_a_span_of_its_own() -> None:
    make = Uuid7()
    intents = [make() for _ in range(200)]
    spans = {span_id(intent, sequence) for intent in intents for sequence in range(1, 20)}
    assert len(spans) == 200 * 19
    assert all(re.fullmatch("[89ab][0-9a-f]{15}", span) for span in spans)


def test_the_header_names_the_span() -> None:
    intent = Uuid7()()
    assert traceparent(TRACE, intent, 3) == f"00-{TRACE}-{span_id(intent, 3)}-01"
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", traceparent(TRACE, intent, 5000))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""), ("rojo=00f067aa0ba902b7", "rojo=00f067aa0ba902b7"),
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (" a=1 ,, b=2\t", "a=1,b=2"), ("tenant@system=x y", "tenant@system=x y"),
        ("a=1,a=2", ""), ("A=1", ""), ("a", ""), ("a=", ""), ("a=b=c", ""), ("a=\u00e9", ""), ("a=1\r\nx: y", ""),
        (",".join(f"k{n}=1" for n in range(32)), ",".join(f"k{n}=1" for n in range(32))),
        (",".join(f"k{n}=1" for n in range(33)), ""), ("a=" + "x" * TRACESTATE_CHARACTERS_MAX, ""),
    ],
)  # fmt: skip
def test_a_tracestate_is_carried_whole_or_not_at_all(given: str, kept: str) -> None:
    assert checked_tracestate(given) == kept


SPAN = "00f067aa0ba902b7"
LONG = "b=" + "x" * 250


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("", f"zentra={SPAN}-01"),
        ("rojo=1,congo=2", f"zentra={SPAN}-01,rojo=1,congo=2"),
        (f"rojo=1,zentra={'1' * 16}-00,congo=2", f"zentra={SPAN}-01,rojo=1,congo=2"),
        (",".join(f"k{n}=1" for n in range(32)), ",".join([f"zentra={SPAN}-01", *(f"k{n}=1" for n in range(31))])),
        (f"a=1,{LONG},c{LONG}", f"zentra={SPAN}-01,a=1,{LONG}"),
    ],
)
def test_our_span_goes_first_and_the_last_members_make_room(given: str, made: str) -> None:
    assert with_parent(given, Parent(SPAN, True)) == made == checked_tracestate(made)
    assert parent_in(made) == Parent(SPAN, True)


@pytest.mark.parametrize(
    ("state", "parent"),
    [
        ("", None), ("rojo=1", None), (f"rojo=1,zentra={SPAN}-00", Parent(SPAN, False)),
        (f"zentra={'0' * 16}-01", None), (f"zentra={SPAN}-02", None), (f"zentra={SPAN[1:]}-01", None),
        (f"zentra={SPAN.upper()}-01", None), (f"xzentra={SPAN}-01", None), (f"zentra={SPAN}-01x", None),
    ],
)  # fmt: skip
def test_only_a_span_that_can_be_ours_is_a_parent(state: str, parent: Parent | None) -> None:
    assert parent_in(state) == parent
