"""What a country asks of an IBAN beyond its check digits: length, form, and checks within the account number.

The registry of countries and banks is schwifty's. It is read when the first IBAN is given to an account: most processes
never see one."""

from __future__ import annotations

from zentra.runtime.errors import Refusal

__all__ = ["proved_iban"]


def proved_iban(compact: str) -> str:
    """Return an IBAN of a country that has them, as it is; raise Refusal `number_malformed` for any other."""
    from schwifty import IBAN
    from schwifty.exceptions import SchwiftyException

    try:
        return str(IBAN(compact, validate_bban=True).compact)
    except SchwiftyException as error:
        raise Refusal("number_malformed", f"not an IBAN: {str(error).lower()}") from None
