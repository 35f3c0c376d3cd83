"""What was written down is what is read back, whatever cut the writer off."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from zentra.bench.histories.recording import (
    Create,
    HistoryBroken,
    Operation,
    Place,
    ReadAccount,
    ReadEntries,
    ReadIntent,
    Recorder,
    read_history,
)

LOOK = ReadAccount(tenant="acme", account_id="customer-1")
OPENED = b'{"line":"opened","format":1,"at":0,"wall":0.0}\n'
ASKED = (
    b'{"line":"invocation","number":0,"process":0,"at":5,'
    b'"operation":{"type":"read_intent","tenant":"a","intent_id":"i"}}\n'
)
HEARD = b'{"line":"answer","number":0,"at":6,"status":200,"replayed":false,"body":"{}"}\n'


def recorder_at(path: Path) -> Recorder:
    ticks = itertools.count()
    return Recorder(path, clock=lambda: next(ticks))


def test_a_history_reads_back_as_it_was_recorded(tmp_path: Path) -> None:
    operations: list[Operation] = [
        Create(tenant="acme", key="k", body={"amount": 5, "metadata": {"ä": "b"}}, door="nats", wait=3),
        ReadIntent(tenant="acme", intent_id="i"),
        ReadEntries(tenant="acme", account_id="a", limit=3, after=Place(at="now", intent="x", ordinal=1)),
        LOOK,
    ]
    with recorder_at(tmp_path / "h") as recorder:
        for operation in operations[:3]:
            with recorder.call(recorder.new_process(), operation) as call:
                call.answer(202, b'{"a": 1}\n', {"Idempotent-Replayed": "true"})
        with pytest.raises(TimeoutError), recorder.call(recorder.new_process(), LOOK):
            raise TimeoutError
        history = recorder.history()
    assert [call.operation for call in history] == operations
    assert [(call.status, call.replayed, call.body) for call in history[:3]] == [(202, True, '{"a": 1}\n')] * 3
    assert all(call.returned is not None and call.invoked < call.returned for call in history[:3])
    assert (history[3].known, history[3].why) == (False, "TimeoutError")
    assert {call.process for call in history} == {0, 1, 2, 3}


def test_a_call_that_nobody_ended_is_unknown(tmp_path: Path) -> None:
    with recorder_at(tmp_path / "h") as recorder:
        recorder.invoked(0, LOOK)
        with recorder.call(1, LOOK):
            pass
        assert [(call.known, call.why) for call in recorder.history()] == [
            (False, "the recording ends before an answer"), (False, "nobody waited for the answer"),
        ]  # fmt: skip


@pytest.mark.parametrize("cut", range(1, len(HEARD)))
def test_a_recording_that_was_cut_anywhere_goes_on(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "h"
    path.write_bytes(OPENED + ASKED + HEARD[:-cut])
    assert [call.known for call in read_history([path])] == [cut == 1]  # only the end of the line is missing
    with recorder_at(path) as recorder:
        with recorder.call(recorder.new_process(), LOOK) as call:
            call.answer(200, b"{}")
        history = recorder.history()
    assert sorted((call.number, call.process, call.known) for call in history) == [(0, 0, cut == 1), (1, 1, True)]


def test_recordings_of_several_writers_are_one_history(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        with recorder_at(path) as recorder, recorder.call(recorder.new_process(), LOOK) as call:
            call.answer(200, b"{}")
    history = read_history(paths)
    assert [(call.number, call.process) for call in history] == [(0, 0), (1, 1)]


BROKEN = [
    ("a line in the middle", OPENED + b"{garbage\n" + ASKED, "is damaged"),
    ("another format", OPENED.replace(b'"format":1', b'"format":2'), "written in format 2"),
    ("an answer to nothing", OPENED + HEARD, "without a beginning"),
    ("two answers", OPENED + ASKED + HEARD + HEARD, "ends twice"),
    ("a number used twice", OPENED + ASKED + HEARD + ASKED, "begins out of turn"),
    ("a process that does not wait", OPENED + ASKED + ASKED.replace(b'"number":0', b'"number":1'), "out of turn"),
    ("an answer before its question", OPENED + ASKED + HEARD.replace(b'"at":6', b'"at":4'), "before it was made"),
]


@pytest.mark.parametrize(("data", "sentence"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_recording_that_no_crash_explains_is_refused(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "h"
    path.write_bytes(data)
    with pytest.raises(HistoryBroken, match=sentence):
        read_history([path])
