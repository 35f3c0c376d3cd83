"""What every store says of the accounts that a name means."""

from __future__ import annotations

from tests.contracts.test_store_contract import World, numbers, pools, uuid, world
from zentra.runtime.ledger.monitors import Monitor

__all__ = ["pools", "world"]


async def test_an_account_is_found_by_id_by_number_and_by_what_it_is_for(world: World) -> None:
    """A number that is retired, or of somebody else, means nobody; a system account is that of its book."""
    plain, watched = await world.account(), await world.account(monitors=(Monitor(uuid(), "posted", "above", 5),))
    book, digits = f"b{next(numbers)}", f"{next(numbers):012d}"
    abroad = await world.account(guarded=False, book=book)
    await world.number(plain, digits)
    names = [("acme", plain.account_id), ("acme", watched.account_id), ("acme", f"virtual:{digits}"),
             ("globex", f"virtual:{digits}"), ("acme", "virtual:0"), ("acme", f"@fee/NGN/{book}"), ("acme", "@fee/JPY"),
             ("acme", "@customer/NGN")]  # fmt: skip
    assert await world.store.accounts(names) == {
        names[0]: plain, names[1]: watched, names[2]: plain, names[5]: abroad,
    }  # fmt: skip
    assert (plain.book, abroad.book, len(watched.monitors), plain.monitors) == ("default", book, 1, ())
