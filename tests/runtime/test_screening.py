"""Names against names: what is found however it is spelt, what is not, and what the score depends on."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zentra.runtime.compliance.lists import ListEntry, ListInfo, NameList, answer_of_names, digest_of_list
from zentra.runtime.compliance.matching import ALGORITHM, CUTOFF, NameIndex, score_of
from zentra.runtime.compliance.names import (
    NORMALISATION,
    Unscreenable,
    digest_of_names,
    form_of,
)
from zentra.runtime.compliance.synthetic import synthetic_entries
from zentra.runtime.names import LEGAL_CHARACTERS_MAX

THRESHOLD = 850
ENTRIES = synthetic_entries(2_000)
NOW = datetime(2026, 4, 1, tzinfo=UTC)


def made_list(entries: Sequence[ListEntry]) -> NameList:
    return NameList(ListInfo("test", 1, digest_of_list(entries), NOW, len(entries)), entries)


LIST = made_list(ENTRIES)
NAMES = [(entry, name) for entry in ENTRIES for name in entry.names]


# fmt: off
ALIKE = [  # (one, other, at least, at most)
    ("Vladimir Putin",        "Владимир Владимирович Путин",             850, 950),
    ("PUTIN, Vladimir",       "Vladimir Vladimirovich Putin",            850, 950),
    ("Mao Zedong",            "毛泽东",                                  1000, 1000),
    ("Mohammed Al Sayed",     "محمد السيد",                              850, 950),
    ("Muhammad el-Sayyid",    "محمد السيد",                              850, 950),
    ("Abdulrahman bin Salman", "عبدالرحمن بن سلمان",                      850, 1000),
    ("LUKASZ MULLER STORMER", "Łukasz Müller-Størmer",                   1000, 1000),
    ("Oleksandr Shevchenko",  "Александр Шевченко",                      850, 990),
    ("Giorgos Papadopoulos",  "Γιώργος Παπαδόπουλος",                    850, 1000),
    ("Gazprom Neft",          "ООО Газпром Нефть",                       850, 999),
    ("Gazprom Neft LLC",      "Gazprom Neft Limited Liability Company",  850, 999),
    ("Horst Mueller",         "Horst Müller",                            850, 999),
    ("Jean Claude Dupont",    "DUPONT, J. C.",                           850, 950),
    ("Osama bin Laden",       "Usama Ben Ladin",                         750, 950),
    ("Vladimir Sokolvo",      "Vladimir Sokolov",                        850, 999),
    ("John Smith",            "Jane Smith",                              0,   599),
    ("Maria Garcia",          "Jose Garcia",                             0,   599),
    ("Wei Zhang",             "Wei Wang",                                0,   599),
    ("Smith",                 "John Smith",                              600, 849),
    ("Bank of Asia",          "Bank of Africa",                          0,   849),
]
FORMS = [
    ("Ærøskøbing  O'Neil-Smith",  ("aeroskobing", "oneil", "smith")),
    ("ÉMILE zola",                ("emile", "zola")),
    ("欧阳云鹤",                   ("he", "ou", "yang", "yun")),
    ("김정은",                     ("eun", "gim", "jeong")),
    ("Фёдор Й.",                  ("fedor", "i")),
    ("مُحَمَّد",                      ("mhmd",)),
    ("ＦＵＬＬ width",              ("full", "width")),
]
# fmt: on


@pytest.mark.parametrize(("one", "other", "least", "most"), ALIKE)
def test_a_pair_of_names_is_as_alike_as_the_table_says(one: str, other: str, least: int, most: int) -> None:
    score = score_of(form_of(one), form_of(other))
    assert least <= score <= most
    assert score_of(form_of(other), form_of(one)) == score


@pytest.mark.parametrize(("name", "parts"), FORMS)
def test_a_form_has_no_case_no_accents_no_order_and_one_script(name: str, parts: tuple[str, ...]) -> None:
    assert form_of(name).parts == parts


@pytest.mark.parametrize("name", ["", "  ", "!!! ---", "\u200d", "x" * (LEGAL_CHARACTERS_MAX + 1), "a " * 25])
def test_a_name_that_cannot_be_compared_is_told(name: str) -> None:
    with pytest.raises(Unscreenable):
        form_of(name)
    with pytest.raises(Unscreenable):
        LIST.ask(name)


@given(st.text(max_size=60))
@settings(max_examples=500, deadline=None)
def test_any_text_has_a_form_or_is_refused(name: str) -> None:
    try:
        form = form_of(name)
    except Unscreenable:
        return
    assert form.parts == tuple(sorted(form.parts))
    assert all((part.isascii() and part.isalnum() and part.islower()) or part.isdigit() for part in form.parts)
    assert form_of(name).key == form.key
    assert score_of(form, form_of(name.upper().lower())) >= 0


def test_every_listed_name_is_found_as_it_is_listed() -> None:
    for entry, name in NAMES:
        hits = {hit.entry: hit.score for hit in LIST.ask(name).hits}
        # entries of one name are told apart by nothing; ten are shown
        assert 1000 in hits.values(), name
        assert hits.get(entry.id, 1000) == 1000 or len(hits) == 10, name


@given(st.integers(0, len(NAMES) - 1), st.randoms(use_true_random=False), st.integers(0, 3))
@settings(max_examples=600, deadline=None)
def test_case_accents_and_order_lower_no_score(number: int, chance: random.Random, accents: int) -> None:
    """A listed name stays a hit at any threshold: its score is 1000 however it is written."""
    _, name = NAMES[number]
    parts = name.replace(",", " ").split()
    chance.shuffle(parts)
    spelt = " ".join(chance.choice((part, part.upper(), part.lower(), part.title())) for part in parts)
    for _ in range(accents):
        place = chance.randrange(len(spelt))
        if spelt[place].isalpha() and spelt[place].isascii():
            spelt = spelt[: place + 1] + chance.choice("\u0301\u0308\u030c\u0327") + spelt[place + 1 :]
    spelt = chance.choice((spelt, unicodedata.normalize("NFC", spelt), unicodedata.normalize("NFD", spelt)))
    assert LIST.ask(spelt).score == 1000


@given(st.integers(0, len(NAMES) - 1), st.integers(0, len(NAMES) - 1))
@settings(max_examples=400, deadline=None)
def test_the_score_is_symmetric_and_within_its_bounds(one: int, other: int) -> None:
    first, second = form_of(NAMES[one][1]), form_of(NAMES[other][1])
    assert score_of(first, second) == score_of(second, first)
    assert 0 <= score_of(first, second) <= 1000
    assert score_of(first, first) == 1000
    assert (score_of(first, second) == 1000) >= (first.parts == second.parts)


@given(st.integers(0, len(NAMES) - 1), st.integers(CUTOFF, 1000), st.integers(CUTOFF, 1000))
@settings(max_examples=300, deadline=None)
def test_a_lower_threshold_hits_no_less(number: int, one: int, other: int) -> None:
    answer = LIST.ask(NAMES[number][1][::-1])
    low, high = sorted((one, other))
    strict = {hit.entry for hit in answer.hits if hit.score >= high}
    assert strict <= {hit.entry for hit in answer.hits if hit.score >= low}


def test_a_search_finds_what_comparing_everything_finds() -> None:
    """The index may miss what shares neither a part, nor a sound, nor a beginning: such a pair is no hit either."""
    forms = [form_of(name) for _, name in NAMES[::3]]
    index = NameIndex(forms)
    chance, missed, hits = random.Random(7), 0, 0
    for asked in chance.sample(NAMES, 60):
        letters = list(asked[1])
        place = chance.randrange(len(letters))
        letters[place] = letters[place].swapcase() if chance.random() < 0.5 else letters[place] * 2
        try:
            form = form_of("".join(letters))
        except Unscreenable:
            continue
        naive = {number for number, other in enumerate(forms) if score_of(form, other) >= THRESHOLD}
        found, complete = index.search(form)
        assert complete
        missed += len(naive - {one.number for one in found if one.score >= THRESHOLD})
        hits += len(naive)
    assert hits > 20
    assert missed == 0


def test_a_list_says_the_same_twice_and_as_of_another_time() -> None:
    name = NAMES[5][1]
    answer = LIST.ask(name)
    younger = LIST.as_of(ListInfo("test", 1, LIST.info.digest, datetime(2026, 5, 1, tzinfo=UTC)))
    assert LIST.ask(name) is answer
    assert younger.ask(name) == answer
    assert (LIST.info.fetched_at, younger.info.fetched_at.month) == (NOW, 5)


def test_names_that_cannot_be_compared_are_skipped_in_a_list_and_counted() -> None:
    entries = [ListEntry("a", "person", ("???", "Jorunn Voransky")), ListEntry("b", "person", ("!",))]
    found = made_list(entries)
    assert found.skipped == 2
    assert [hit.entry for hit in found.ask("jorunn voransky").hits] == ["a"]


def test_an_entry_is_told_once_with_its_best_score_over_names_and_lists() -> None:
    entries = [ListEntry("a", "person", ("Jorunn Voransky", "Jorunn Vor"))]
    answer = answer_of_names([made_list(entries)], ["Jorunn Voransky", "Jorunn Vor"])
    assert [(hit.entry, hit.score) for hit in answer.hits] == [("a", 1000)]


def test_digests_follow_what_is_said_and_not_how() -> None:
    assert digest_of_names(["Émile Zola"]) == digest_of_names(["ZOLA, emile"])
    assert digest_of_names(["Emile Zola"]) != digest_of_names(["Emile Zolan"])
    assert digest_of_names(["a b", "c"]) != digest_of_names(["a", "b c"])
    entry = ListEntry("a", "person", ("N M",))
    assert digest_of_list([entry]) != digest_of_list([ListEntry("a", "person", ("N M",), ("XA",))])
    assert digest_of_list([entry, ListEntry("b", "person", ("O",))]) == digest_of_list(
        [ListEntry("b", "person", ("O",)), entry]
    )


def test_the_algorithm_names_the_versions_that_are_installed() -> None:
    from importlib.metadata import version

    assert f"rigour-{version('rigour')}+anyascii-{version('anyascii')}" == NORMALISATION
    assert ALGORITHM.endswith(NORMALISATION)


def test_the_synthetic_list_is_the_same_everywhere_and_begins_with_the_shorter_one() -> None:
    assert synthetic_entries(50) == ENTRIES[:50]
    assert digest_of_list(ENTRIES) == "9ce9f2540af44cfadc8da96ebea21f42d3e9f70a05b6ebc2aa9cf824afc7ee0e"
    scripts = {unicodedata.name(letter).split()[0] for _, name in NAMES for letter in name if letter.isalpha()}
    assert {"LATIN", "CYRILLIC", "ARABIC", "CJK"} <= scripts
