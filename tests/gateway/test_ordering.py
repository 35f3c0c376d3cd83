"""Records come nearly in order and are told in order, each once, without a gap."""

from __future__ import annotations

import itertools

import pytest

from zentra.gateway.http.ordering import Order, Turn

TELL, DROP, FILL = Turn.TELL, Turn.DROP, Turn.FILL

# Records noted as told before, records that come, and what is done with each.
# fmt: off
CASES: list[tuple[list[int], list[int], list[Turn]]] = [
    ([],        [1, 2, 3],    [TELL, TELL, TELL]),
    ([],        [1, 3, 2],    [TELL, FILL, DROP]),
    ([],        [1, 1, 2, 1], [TELL, DROP, TELL, DROP]),
    ([],        [4, 5],       [TELL, TELL]),          # a stream may begin in the middle
    ([],        [4, 3, 5],    [TELL, TELL, TELL]),    # better late than never
    ([1, 2],    [3, 2],       [TELL, DROP]),
    ([1, 2],    [4, 3],       [FILL, DROP]),
    ([2, 1],    [3, 1],       [TELL, TELL]),          # what came late before is told again rather than missed
    ([2, 4],    [3, 5],       [TELL, TELL]),          # nobody knows whether the gap was told
    ([2, 2, 3], [3, 4],       [DROP, TELL]),
]
# fmt: on


@pytest.mark.parametrize(("noted", "come", "turns"), CASES)
def test_a_record_has_its_turn(noted: list[int], come: list[int], turns: list[Turn]) -> None:
    order = Order()
    for sequence in noted:
        order.note("a", sequence)
    assert [order.turn("a", sequence)[0] for sequence in come] == turns


@pytest.mark.parametrize("come", list(itertools.permutations(range(2, 6))))
def test_in_whatever_order_they_come_all_are_told_once_and_in_order(come: tuple[int, ...]) -> None:
    order, told = Order(), [1]
    order.turn("a", 1)
    for sequence in come:
        turn, before = order.turn("a", sequence)
        if turn is FILL:
            told += range(before + 1, sequence)
        if turn is not DROP:
            told.append(sequence)
    assert told == [1, 2, 3, 4, 5]


def test_intents_do_not_mix_and_the_memory_is_bounded() -> None:
    order = Order(intents_max=2)
    for intent in ("a", "b", "a", "c"):
        order.turn(intent, 7)
    assert order.turn("a", 7)[0] is DROP
    assert order.turn("b", 7)[0] is TELL, "the quietest is forgotten"
