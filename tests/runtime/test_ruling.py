"""What a report does, as a table; and over the whole grid, that only the rail's own word moves money."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from zentra.runtime.rails.port import Trust, requires_requery
from zentra.runtime.rails.ruling import KNOWN, Known, Ruling, Said, asks_the_rail, belied, decides, rule

R = Ruling
OPEN = Known("started", True)
PAID = Known("succeeded", False)
LEFT = Known("not_accepted", False)
REFUSED = Known("declined", False)
FINAL = ("succeeded", "declined", "not_accepted")
TRUSTS = (*get_args(Trust), "operator", "a word of tomorrow")

# fmt: off
TABLE = [
    # status         trust            differs  known                                     ruling
    ("succeeded",    "body_signed",   False,   OPEN,                                     R.CONFIRMS),
    ("succeeded",    "polled",        False,   OPEN,                                     R.CONFIRMS),
    ("declined",     "direct",        False,   OPEN,                                     R.DECLINES),
    ("not_accepted", "direct",        False,   OPEN,                                     R.FAILS_OVER),
    ("not_accepted", "polled",        False,   OPEN,                                     R.FAILS_OVER),
    ("succeeded",    "shared_secret", False,   OPEN,                                     R.CLAIMS),
    ("declined",     "shared_secret", False,   OPEN,                                     R.CLAIMS),
    ("not_accepted", "none",          False,   OPEN,                                     R.CLAIMS),
    ("succeeded",    "none",          True,    OPEN,                                     R.CONTRADICTS),
    ("succeeded",    "polled",        True,    OPEN,                                     R.CONTRADICTS),
    ("not_accepted", "direct",        True,    OPEN,                                     R.FAILS_OVER),
    ("succeeded",    "body_signed",   False,   PAID,                                     R.REPEATS),
    ("succeeded",    "shared_secret", False,   PAID,                                     R.REPEATS),
    ("succeeded",    "polled",        True,    PAID,                                     R.CONTRADICTS),
    ("declined",     "body_signed",   False,   PAID,                                     R.CONTRADICTS),
    ("declined",     "none",          False,   PAID,                                     R.CONTRADICTS),
    ("not_accepted", "direct",        False,   PAID,                                     R.CONTRADICTS),
    ("succeeded",    "body_signed",   False,   LEFT,                                     R.CONTRADICTS),
    ("not_accepted", "polled",        False,   LEFT,                                     R.REPEATS),
    ("declined",     "polled",        False,   LEFT,                                     R.REPEATS),
    ("declined",     "none",          False,   LEFT,                                     R.REPEATS),
    ("declined",     "polled",        True,    LEFT,                                     R.CONTRADICTS),
    ("succeeded",    "none",          False,   LEFT,                                     R.CONTRADICTS),
    ("not_accepted", "polled",        False,   REFUSED,                                  R.REPEATS),
    ("succeeded",    "polled",        False,   REFUSED,                                  R.CONTRADICTS),
    ("declined",     "polled",        False,   OPEN._replace(doubted=True),              R.CONTRADICTS),
    ("not_accepted", "polled",        False,   OPEN._replace(doubted=True),              R.CONTRADICTS),
    ("succeeded",    "polled",        False,   OPEN._replace(doubted=True),              R.CONFIRMS),
    ("not_accepted", "polled",        False,   OPEN._replace(paid_otherwise=True),       R.CONTRADICTS),
    ("declined",     "polled",        False,   OPEN._replace(paid_otherwise=True),       R.DECLINES),
    ("not_accepted", "polled",        False,   OPEN._replace(claimed=frozenset({"succeeded"})),     R.DECLINES),
    ("not_accepted", "polled",        False,   OPEN._replace(claimed=frozenset({"declined"})),      R.DECLINES),
    ("not_accepted", "polled",        False,   OPEN._replace(claimed=frozenset({"not_accepted"})),  R.FAILS_OVER),
    ("declined",     "polled",        False,   OPEN._replace(claimed=frozenset({"succeeded"})),     R.DECLINES),
    ("succeeded",    "polled",        False,   OPEN._replace(claimed=frozenset({"declined"})),      R.CONFIRMS),
]
SECOND = [(OPEN, R.CLAIMS, True), (PAID, R.CONTRADICTS, True), (LEFT, R.REPEATS, False), (REFUSED, R.REPEATS, False)]
# fmt: on
GRID = [
    (Said(status, trust, differs), Known(known, open_, otherwise, doubted, frozenset(claimed)))
    for status, trust, differs, known, open_, otherwise, doubted, claimed in product(
        FINAL,
        TRUSTS,
        (False, True),
        ("started", *FINAL, "contradicted"),
        (True, False),
        (True, False),
        (True, False),
        ((), ("succeeded",), ("declined",), FINAL),
    )
]  # fmt: skip


@pytest.mark.parametrize(("status", "trust", "differs", "known", "ruling"), TABLE)
def test_a_report_does_what_the_table_says(
    status: str, trust: str, differs: bool, known: Known, ruling: Ruling
) -> None:
    assert rule(Said(status, trust, differs), known) is ruling


def test_money_moves_on_nothing_but_the_rails_own_word_about_an_attempt_that_waits_for_it() -> None:
    for said, known in GRID:
        ruling = rule(said, known)
        if ruling not in KNOWN:
            assert decides(said.trust), (said, known)
            assert known.open or ruling is R.CLEARS, (said, known)
            assert not said.differs or said.status == "not_accepted", (said, known)
            assert (said.status == "succeeded") == (ruling is R.CONFIRMS), (said, known)


def test_what_is_cleared_of_an_attempt_beside_another_one_moves_nothing() -> None:
    for said, known in GRID:
        if rule(said, known) is R.CLEARS:
            assert (known.open, known.status) == (False, "started"), (said, known)
            assert said.status in ("declined", "not_accepted"), (said, known)


def test_another_rail_is_tried_only_where_nobody_ever_said_that_this_one_took_the_payment() -> None:
    for said, known in GRID:
        if rule(said, known) is R.FAILS_OVER:
            assert said.status == "not_accepted"
            took = known.paid_otherwise or known.doubted or bool(known.claimed - {"not_accepted"})
            assert not took, (said, known)


def test_the_rail_is_asked_at_once_where_something_new_was_said_in_its_name() -> None:
    for said, known in GRID:
        ruling = rule(said, known)
        assert asks_the_rail(said, ruling) == (not decides(said.trust) and ruling in (R.CLAIMS, R.CONTRADICTS))


@pytest.mark.parametrize(("known", "ruling", "asks"), SECOND)
def test_a_refusal_that_may_be_of_a_second_submission_is_a_claim(known: Known, ruling: Ruling, asks: bool) -> None:
    said = Said("not_accepted", "body_signed", False, second=True)
    assert (rule(said, known), asks_the_rail(said, ruling)) == (ruling, asks)


def test_a_word_of_trust_that_is_not_known_decides_nothing() -> None:
    assert [trust for trust in TRUSTS if decides(trust)] == ["body_signed", "polled", "direct", "operator"]
    assert all(decides(trust) != requires_requery(trust) for trust in get_args(Trust))


@pytest.mark.parametrize(
    ("status", "claimed", "lie"),
    [
        ("succeeded", (), False),
        ("succeeded", ("succeeded",), False),
        ("succeeded", ("declined",), True),
        ("declined", ("not_accepted",), False),
        ("not_accepted", ("declined",), False),
        ("not_accepted", ("declined", "succeeded"), True),
        ("declined", ("declined", "succeeded"), True),
    ],
)
def test_an_outcome_belies_every_other_claim(status: str, claimed: tuple[str, ...], lie: bool) -> None:
    assert belied(status, claimed) is lie
