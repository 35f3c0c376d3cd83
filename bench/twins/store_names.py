"""What names mean to the store's twin that are no ids: numbers, and system accounts by what they are for."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.ledger.names import parse_number, parse_system_name

__all__ = ["meant"]


def meant(
    refs: Mapping[tuple[str, str], AccountRef], numbers: Mapping[tuple[str, str, str], str],
    names: Collection[tuple[str, str]],
) -> dict[tuple[str, str], AccountRef]:  # fmt: skip
    """Return the accounts that (tenant, name) mean: by id, by number, or by what a system account is for."""
    found = {name: refs.get(name) or _meant(refs, numbers, *name) for name in names}
    return {name: ref for name, ref in found.items() if ref is not None}


def _meant(
    refs: Mapping[tuple[str, str], AccountRef], numbers: Mapping[tuple[str, str, str], str], tenant: str, name: str
) -> AccountRef | None:
    """Return the account that a number or the name of a system account means, or None."""
    number = parse_number(name)
    if number is not None:
        return refs.get((tenant, numbers.get((tenant, *number), "")))
    system = parse_system_name(name)
    if system is None:
        return None
    wanted = (tenant, *system)
    return next((ref for ref in refs.values() if (ref.tenant, ref.type, ref.currency, ref.book) == wanted), None)
