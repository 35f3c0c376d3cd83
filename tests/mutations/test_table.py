"""The table of planted faults cannot rot: its texts stand where it says, its checks exist, and planting works."""

from __future__ import annotations

import ast
import re
from typing import Final

import pytest

from tests.architecture import ROOT
from tests.mutations.mutation import Edit, Mutation
from tests.mutations.planting import Broken, copied, plant, prove, run_tests
from tests.mutations.table import MUTATIONS

PLANTS_MIN: Final = 16
SEEDS: Final = 3
NO_SQL: Final = "the simulator has no SQL"
# One that the simulator finds with any seed, and one that only a test can.
CHEAP: Final = {"chain-forgets": "S", "changed-repeat-accepted": ""}


def _name(mutation: Mutation) -> str:
    return mutation.name


def test_there_are_enough_faults_and_each_has_its_name_and_its_check() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert len(names) >= PLANTS_MIN
    assert len(set(names)) == len(names)
    assert [m.name for m in MUTATIONS if not m.tests and m.unseen] == []
    assert [m.name for m in MUTATIONS if not re.fullmatch("[A-T]", m.letter)] == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=_name)
def test_every_old_text_stands_once_in_its_file(mutation: Mutation) -> None:
    texts = [(edit, (ROOT / edit.file).read_text(encoding="utf-8")) for edit in mutation.edits]
    assert [(edit.file, edit.old, text.count(edit.old)) for edit, text in texts if text.count(edit.old) != 1] == []
    assert all(edit.old != edit.new for edit in mutation.edits)


def test_every_python_file_can_still_be_read_with_its_fault() -> None:
    for mutation in MUTATIONS:
        for edit in mutation.edits:
            if edit.file.endswith(".py"):
                ast.parse((ROOT / edit.file).read_text(encoding="utf-8").replace(edit.old, edit.new), mutation.name)


def test_every_test_of_the_table_exists() -> None:
    known: dict[str, set[str]] = {}
    for path, _, test in {test.partition("::") for mutation in MUTATIONS for test in mutation.tests}:
        if path not in known:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            known[path] = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert test in known[path], f"{path} has no {test}"


def test_the_documentation_has_a_row_for_every_fault_and_says_which_the_simulator_cannot_see() -> None:
    page = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    rows = {
        row[0]: row[1:] for row in re.findall(r"^\| `([a-z-]+)` \| (.+) \| (\w) \| `(\w+)` \| (.+) \|$", page, re.M)
    }
    told = {m.name: (m.breaks, m.letter, m.tests[0].rpartition("::")[2] if m.tests else "-") for m in MUTATIONS}
    assert {name: row[:3] for name, row in rows.items() if row[2]} == {n: t for n, t in told.items() if t[2] != "-"}
    assert {name for name, row in rows.items() if row[3] == "-"} == {m.name for m in MUTATIONS if m.unseen}
    reasons = dict(re.findall(r"^- `([a-z-]+)`: (.+)\.$", page, re.M))
    assert {m.name: m.unseen for m in MUTATIONS if m.unseen and m.unseen != NO_SQL} == reasons


@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if m.name in CHEAP], ids=_name)
def test_a_planted_fault_is_caught_by_every_check_that_it_names(mutation: Mutation) -> None:
    verdict = prove(mutation, seeds=SEEDS)
    assert verdict.proven, verdict
    assert verdict.failures
    assert (verdict.found.letter if verdict.found else "") == CHEAP[mutation.name]


def test_a_check_that_cannot_be_run_has_caught_nothing() -> None:
    with copied() as copy:
        with pytest.raises(Broken, match="holds 0 times"):
            plant([Edit("runtime/evidence/chain.py", "no such text", "")], copy)
        with pytest.raises(Broken, match="pytest ended with 4"):
            run_tests(copy, ["tests/runtime/test_idempotency.py::test_that_is_not_there"])
