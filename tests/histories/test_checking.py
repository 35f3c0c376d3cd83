"""A history that a correct runtime may show is clean; every planted fault is named by its rule."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.histories.world import Crowd, World, transfer
from zentra.bench.histories.checking import check
from zentra.bench.histories.recording import Operation, Place, ReadAccount, ReadEntries, ReadIntent

NAMES = ["alice", "bob", "shop", "dora", "mint", "@settlement/NGN", "nobody"]
BROKEN: list[dict[str, Any]] = [{"amount": 0}, {"amount": -1}, {"currency": "ZZZ"}, {"amount": "1e3"}, {"color": "red"}]
CHANGES: list[dict[str, Any]] = [
    {}, {}, {}, {"amount": 7}, {"source": "bob"}, {"metadata": {"a": "b"}}, {"kind": "book_transfer"},
    {"destination": "nobody"}, {"destination": "alice"}, {"currency": "USD"}, {"amount": 900}, *BROKEN,
]  # fmt: skip


def creations(keys: st.SearchStrategy[int]) -> st.SearchStrategy[Operation]:
    """Requests of which many repeat a key or an id, with the same content or with another."""
    return st.builds(
        lambda key, named, amount, changes: transfer(
            f"k{key}", **{"intent_id": f"i{named}", "amount": amount} | changes
        ),
        keys, keys, st.sampled_from([50, 50, 600]), st.sampled_from(CHANGES),
    )  # fmt: skip


def looks(keys: st.SearchStrategy[int]) -> st.SearchStrategy[Operation]:
    """Reads with filters drawn freely: of known and unknown things, and of pages that begin anywhere."""
    places = st.builds(
        lambda ms, intent, ordinal: Place(at=f"2026-04-01T00:00:00.{ms:03}+00:00", intent=intent, ordinal=ordinal),
        st.integers(0, 60), st.text("0123456789abcdef-uidk", max_size=12), st.integers(0, 3),
    )  # fmt: skip
    names = st.sampled_from(NAMES)
    return st.one_of(
        st.builds(lambda name: ReadAccount(tenant="acme", account_id=name), names),
        st.builds(lambda key: ReadIntent(tenant="acme", intent_id=f"i{key}"), keys),
        st.builds(
            lambda name, limit, after: ReadEntries(tenant="acme", account_id=name, limit=limit, after=after),
            names, st.integers(1, 5), st.none() | places,
        ),
    )  # fmt: skip


OPERATIONS = creations(st.integers(0, 6)) | looks(st.integers(0, 6))
MOVES = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["ask", "serve", "end", "end", "lose", "work"]), OPERATIONS),
    max_size=80,
)  # fmt: skip


def played(moves: list[tuple[int, str, Operation]]) -> Crowd:
    crowd = Crowd(World())
    for client, move, operation in moves:
        if move == "work":
            left = crowd.world.unsettled()
            crowd.world.work(left[client % 2 :: 2] or left)
        elif move == "ask" or not crowd.is_open(client):
            if crowd.is_open(client):
                crowd.end(client)
            crowd.begin(client, operation)
        elif move == "serve":
            crowd.serve(client)
        else:
            crowd.end(client, lose=move == "lose")
    crowd.finish()
    return crowd


@given(MOVES)
def test_what_a_correct_runtime_shows_is_clean(moves: list[tuple[int, str, Operation]]) -> None:
    crowd = played(moves)
    assert check(crowd.calls, crowd.world.ending()) == []
