"""Some hundred permutations of callbacks; and that they would notice if a rule were another."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.actors.callbacks import Drawn, Word, expected, main, permutations_on_twin
from zentra.runtime.rails import ruling
from zentra.runtime.rails.ruling import Known, Ruling, Said

PAID: Final = Word("succeeded", "body_signed", 1_000, "NGN")
NOT: Final = Word("declined", "polled", 1_000, "NGN")
CLAIM: Final = Word("succeeded", "none", 1_000, "NGN")
OTHER: Final = Word("succeeded", "body_signed", 1_001, "NGN")
CONTRADICTED: Final = ("provider_contradiction",)
UNKNOWN: Final = ("provider_outcome_unknown",)


@pytest.mark.parametrize(
    ("words", "answer", "due"),
    [
        ((PAID,), None, ("paid", ())),
        ((PAID, PAID), None, ("paid", ())),
        ((PAID, NOT), None, ("paid", CONTRADICTED)),
        ((NOT, PAID), None, ("kept", CONTRADICTED)),
        ((OTHER,), None, ("held", CONTRADICTED)),
        ((OTHER,), "succeeded", ("paid", CONTRADICTED)),
        ((CLAIM,), None, ("held", UNKNOWN)),
        ((CLAIM,), "succeeded", ("paid", ())),
        ((CLAIM,), "declined", ("kept", CONTRADICTED)),
        ((PAID, CLAIM), "declined", ("paid", ())),
    ],
)
def test_what_has_to_be_is_read_from_the_words(
    words: tuple[Word, ...], answer: str | None, due: tuple[str, tuple[str, ...]]
) -> None:
    assert expected(Drawn(words, answer, 0)) == due


@pytest.mark.parametrize("undrafted_max", [16, 1_000], ids=["on beliefs", "under locks"])
async def test_any_order_of_callbacks_comes_to_what_their_words_say(undrafted_max: int) -> None:
    played = await permutations_on_twin(7, 300, undrafted_max=undrafted_max)
    assert played.wrong == []
    assert played.permutations == 300
    assert min(played.ends[word] for word in ("paid", "kept", "held")) > 0
    assert played.contradicted > 50
    assert len(played.sets) > 200


def test_the_command_says_how_many_there_were(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--permutations", "20", "--seed", "3"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("20 permutations of ")
    assert said.endswith("violations of invariant I: 0\n")


_rule = ruling.rule


def _amounts_do_not_matter(said: Said, known: Known) -> Ruling:
    return _rule(said._replace(differs=False), known)


def _claims_are_ignored(said: Said, known: Known) -> Ruling:
    found = _rule(said, known)
    return Ruling.REPEATS if found is Ruling.CLAIMS else found


def _contradictions_are_repeats(said: Said, known: Known) -> Ruling:
    found = _rule(said, known)
    return Ruling.REPEATS if found is Ruling.CONTRADICTS else found


def _a_decline_waits(said: Said, known: Known) -> Ruling:
    found = _rule(said, known)
    return Ruling.CLAIMS if found is Ruling.DECLINES else found


# fmt: off
PLANTED = [
    ("a shared secret decides",          "zentra.runtime.rails.ruling.DECIDES", ruling.DECIDES | {"shared_secret"}),
    ("whoever speaks decides",           "zentra.runtime.rails.ruling.DECIDES", ruling.DECIDES | {"none"}),
    ("a signed callback only claims",    "zentra.runtime.rails.ruling.DECIDES", ruling.DECIDES - {"body_signed"}),
    ("any amount will do",               "zentra.actors.outcomes.rule",         _amounts_do_not_matter),
    ("a claim is nothing",               "zentra.actors.outcomes.rule",         _claims_are_ignored),
    ("a contradiction is a repeat",      "zentra.actors.outcomes.rule",         _contradictions_are_repeats),
    ("a decline is a claim",             "zentra.actors.outcomes.rule",         _a_decline_waits),
    ("nobody remembers claims",          "zentra.actors.outcomes.belied",       lambda status, claimed: False),
    ("the rail is not asked at once",    "zentra.actors.outcomes.asks_the_rail", lambda said, ruling: False),
    ("what was taken is forgotten",      "zentra.actors.outcomes._TAKEN",       "nothing/"),
    ("a strange word is nothing",        "zentra.actors.outcomes.UNRECOGNISED", "nothing"),
    ("an answered case stays open",      "zentra.actors.asking.end_case",       lambda *args: None),
    ("strangers are forgotten",          "zentra.actors.strangers.met",         lambda *args, **kwargs: None),
    ("strangers never find their intent", "zentra.actors.strangers._attempt_known", lambda *args: False),
]
# fmt: on


@pytest.mark.parametrize(("target", "planted"), [row[1:] for row in PLANTED], ids=[row[0] for row in PLANTED])
async def test_a_rule_that_is_another_is_noticed(monkeypatch: pytest.MonkeyPatch, target: str, planted: Any) -> None:
    monkeypatch.setattr(target, planted)
    played = await permutations_on_twin(11, 600)
    assert played.wrong != []
