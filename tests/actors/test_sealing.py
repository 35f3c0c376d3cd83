"""The log of a tenant goes forward, whatever the clock does."""

from __future__ import annotations

from datetime import timedelta

from tests.actors.world import MakeFleet, transfer
from zentra.runtime.intents.vocabulary import IntentKind


def test_no_head_is_of_before_the_one_that_it_follows(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    for back in (0, 3600, 1):
        fleet.now -= timedelta(seconds=back)
        fleet.submit(transfer(100, kind=IntentKind.BOOK_TRANSFER))
        fleet.run_until_idle()
    heads = [head for _, head in sorted(fleet.store.rows.heads.items())]
    assert [head.size for head in heads] == [1, 2, 3]
    assert [head.at for head in heads] == sorted(head.at for head in heads)
