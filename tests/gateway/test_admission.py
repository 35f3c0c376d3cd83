"""How much new work goes in: as much as there is room for, never a dribble, never nothing for longer than a second."""

from __future__ import annotations

import asyncio

import pytest

from zentra.gateway.doors import admission as module
from zentra.gateway.doors.admission import Admission, portion
from zentra.runtime.messages import Load


class Clock:
    """Tells the time it is set to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission(4_000, clock=clock)


@pytest.mark.parametrize(
    ("room", "wanted", "goes_in"),
    [
        (None, 500, 500),  # nobody was heard of
        (4_000, 500, 500),
        (500, 500, 500),
        (499, 500, 499),
        (250, 500, 250),
        (249, 500, 0),  # not worth a commit while more wait
        (249, 249, 249),  # but worth it where it is all there is
        (3, 2, 2),
        (1, 2, 0),
        (0, 1, 0),
        (-10_000, 500, 0),
    ],
)
def test_what_goes_in_is_what_there_is_room_for_or_nothing(room: int | None, wanted: int, goes_in: int) -> None:
    assert portion(room, wanted) == goes_in


# What happens, second by second: reports (worker, events), or how many were let in; and the room at the end.
STORIES: tuple[tuple[str, tuple[tuple[float, str, int], ...], int | None], ...] = (
    ("nobody was heard of", (), None),
    ("what was let in before anybody was heard of counts for nothing", ((0.0, "", 900),), None),
    ("one worker", ((0.0, "a", 1_500),), 2_500),
    ("each worker brings its room", ((0.0, "a", 1_500), (0.0, "b", 500)), 6_000),
    ("the last report counts", ((0.0, "a", 9_000), (0.5, "a", 10)), 3_990),
    ("a worker that lags leaves the others their room", ((0.0, "a", 9_000), (0.0, "b", 100)), 3_900),
    ("who is not heard of any more", ((0.0, "a", 9_000), (3.1, "b", 10)), 3_990),
    ("nobody is heard of any more", ((0.0, "a", 9_000), (3.1, "", 0)), None),
    ("what came since is on its way", ((0.0, "a", 1_000), (0.2, "", 500)), 2_500),
    ("what the report knew", ((0.0, "a", 0), (0.2, "", 500), (0.4, "a", 450)), 3_550),
    ("what the report could not know yet", ((0.0, "a", 0), (0.2, "", 500), (0.25, "a", 0)), 3_500),
    ("what a worker never told of, because nothing changed", ((0.0, "a", 0), (0.2, "", 500), (0.7, "", 0)), 4_000),
    (
        "a worker that is silent for long has its share",
        ((0.0, "a", 100), (0.0, "b", 100), (0.2, "", 600), (0.4, "b", 300)),
        7_300,
    ),
)


@pytest.mark.parametrize(("story", "room"), [story[1:] for story in STORIES], ids=[story[0] for story in STORIES])
def test_the_room_is_what_is_left_after_what_waits_and_what_is_on_its_way(
    admission: Admission, clock: Clock, story: tuple[tuple[float, str, int], ...], room: int | None
) -> None:
    for second, worker, events in story:
        clock.now = 100.0 + second
        if worker:
            admission.heard(Load(worker, events))
        else:
            admission.admitted(events)
    assert admission.room() == room


async def test_a_group_that_finds_room_does_not_wait(admission: Admission) -> None:
    admission.heard(Load("a", 3_600))
    entering = admission.enter(500)
    with pytest.raises(StopIteration) as entered:
        entering.send(None)
    assert entered.value.value == 400
    assert admission.held_seconds == 0


async def test_a_group_is_held_until_a_report_leaves_room(admission: Admission, clock: Clock) -> None:
    admission.heard(Load("a", 9_000))
    entering = asyncio.create_task(admission.enter(500))
    await asyncio.sleep(0)
    clock.now += 0.25
    assert admission.held_seconds == pytest.approx(0.25)
    admission.heard(Load("a", 3_900))  # less, but not enough
    await asyncio.wait([entering], timeout=0.01)
    assert not entering.done()
    admission.heard(Load("a", 3_700))
    assert await entering == 300
    clock.now += 1.0
    assert admission.held_seconds == pytest.approx(0.25)
    assert admission.waiting == 3_700


async def test_no_hold_is_longer_than_its_bound(admission: Admission, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLD_SECONDS_MAX", 0.02)
    admission.heard(Load("a", 1_000_000))
    assert [await admission.enter(500), await admission.enter(7)] == [500, 7]


async def test_a_gateway_that_ends_holds_nobody(admission: Admission) -> None:
    admission.heard(Load("a", 1_000_000))
    entering = asyncio.create_task(admission.enter(500))
    await asyncio.sleep(0)
    admission.open()
    assert [await entering, await admission.enter(20)] == [500, 20]


@pytest.mark.parametrize("gateways", [1, 2, 4])
def test_several_gateways_share_the_room_and_pass_it_by_one_round_at_most(gateways: int, clock: Clock) -> None:
    """Each asks every 20 ms for a full group while the worker does 4,000 a second and reports every 50 ms."""
    doors = [Admission(4_000, clock=clock) for _ in range(gateways)]
    waiting, let_in, most, tail = 0.0, [0] * gateways, 0.0, 0
    on_its_way: list[tuple[float, int]] = []
    for step in range(500):
        clock.now = 100.0 + step / 100
        arrived = [events for at, events in on_its_way if at <= clock.now]
        on_its_way = [entry for entry in on_its_way if entry[0] > clock.now]
        waiting = max(0.0, waiting + sum(arrived) - 40)
        most = max(most, waiting)
        for number, door in enumerate(doors):
            if step % 5 == 0:
                door.heard(Load("a", round(waiting)))
            if step % 2 == 0 and (events := portion(door.room(), 500)):
                door.admitted(events)
                let_in[number] += events
                on_its_way.append((clock.now + 0.05, events))
        tail += step > 100 and not waiting
    assert most <= 4_000 + (gateways - 1) * 4_000
    assert tail == 0, "the worker never runs dry"
    assert min(let_in) * 2 >= max(let_in), "nobody starves"
