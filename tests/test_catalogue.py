"""Names that others rely on are given once and explained in the manual."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

import pytest

from tests.architecture import ROOT
from tests.catalogue import MEANINGS, PAGES, counted, explained_metrics, metric_families, said_codes
from zentra.runtime.codes import CODES, FIELD_CODES
from zentra.runtime.errors import ZentraError
from zentra.runtime.intents.vocabulary import Topic
from zentra.storage.errors import AlreadyDecided, Misconfigured

T = TypeVar("T")
NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


def _below(root: type[T]) -> Iterator[type[T]]:
    """Yield the class and every one below it; a test may have made some of its own, which do not count."""
    yield root
    for child in root.__subclasses__():
        if child.__module__.startswith("zentra."):
            yield from _below(child)


def _own_code(error: type) -> str | None:
    """Return the code that this very class defines; some take theirs from what went wrong."""
    code = vars(error).get("code")
    return code if isinstance(code, str) else None


def _repeated(names: list[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_says_what_the_code_says(path: str) -> None:
    file = ROOT / path
    assert file.is_file(), f"{path} is missing: python -m tests.catalogue makes it"
    assert file.read_text(encoding="utf-8") == PAGES[path](), f"{path} is old: python -m tests.catalogue rewrites it"


# Codes.


def test_every_error_class_has_a_code_of_its_own() -> None:
    tree = list(_below(ZentraError))
    assert {AlreadyDecided, Misconfigured} <= set(tree), "leaves of other folders belong to it"
    assert _repeated([code for error in tree if (code := _own_code(error)) is not None]) == []


def test_a_code_is_for_a_request_or_for_a_field() -> None:
    assert CODES.keys() & FIELD_CODES == set()


@pytest.mark.parametrize("code", [*CODES, *sorted(FIELD_CODES), *(error.code for error in _below(ZentraError))])
def test_a_code_is_lower_case_words(code: str) -> None:
    assert NAME.match(code)


@pytest.mark.parametrize("code", CODES)
def test_a_code_says_what_to_do(code: str) -> None:
    row = CODES[code]
    assert 400 <= row.status <= 599
    for sentence in (row.title, row.advice):
        assert sentence
        assert sentence == sentence.strip()
        assert not sentence.endswith(".") or sentence.endswith("...")


@pytest.mark.parametrize(
    ("name", "folders"),
    [
        ("Problem", ("gateway",)),
        ("Refusal", ("runtime",)),
    ],
)
def test_nobody_answers_with_a_code_that_the_table_does_not_hold(name: str, folders: tuple[str, ...]) -> None:
    said = said_codes(name, folders)
    assert said
    assert {code: places for code, places in said.items() if code not in CODES.keys() | FIELD_CODES} == {}


# Events.


def test_every_event_has_a_name_and_a_meaning_of_its_own() -> None:
    assert list(MEANINGS) == list(Topic)
    assert _repeated([topic.value for topic in Topic]) == []
    assert _repeated([topic.replace(".", "-") for topic in Topic]) == [], "their subjects have to differ as well"
    assert _repeated(list(MEANINGS.values())) == []


@pytest.mark.parametrize("topic", Topic)
def test_an_event_is_named_by_what_and_what_happened(topic: Topic) -> None:
    assert [bool(NAME.match(part)) for part in topic.split(".")] == [True, True]


# Metrics.


def test_a_metric_is_a_gauge_or_a_counter() -> None:
    assert {name: kinds for name, kinds in counted().items() if len(kinds) != 1} == {}


def test_every_metric_is_explained() -> None:
    assert [family.name for family in metric_families() if family.documentation == family.name[len("zentra_") :]] == []


def test_no_explanation_is_for_a_metric_that_nobody_counts() -> None:
    assert _repeated(explained_metrics()) == []
    assert sorted(set(explained_metrics()) - set(counted())) == []


def test_metrics_have_names_of_their_own() -> None:
    names = [family.name for family in metric_families()]
    assert _repeated(names) == []
    assert [name for name in names if not re.match(r"zentra_[a-z0-9_]+\Z", name)] == []
