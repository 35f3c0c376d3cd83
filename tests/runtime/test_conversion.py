"""What a conversion costs, held against fractions: exact, and never in the client's favour."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zentra.runtime.ledger.book import Objection
from zentra.runtime.ledger.conversion import BPS, FxRate, Price, Quote, is_rate, price, price_now, price_of_quote
from zentra.runtime.ledger.money import MINOR_MAX, exponent

AT = datetime(2026, 4, 1, tzinfo=UTC)

# fmt: off
PRICES: list[tuple[str, str, int, str, int, int, tuple[int, int] | str]] = [
    # sell, buy, minor,      mid,            bps,  fee, (bought, spread) or code
    ("USD", "NGN", 100,       "1530.25",      0,    0,   (153_025, 0)),
    ("USD", "NGN", 100,       "1530.25",      50,   0,   (152_259, 766)),   # 1522.59875
    ("NGN", "USD", 153_025,   "0.00065",      0,    0,   (99, 0)),          # 99.46
    ("USD", "JPY", 100,       "151.7",        0,    0,   (151, 0)),         # no minor units
    ("JPY", "USD", 151,       "0.0066",       0,    0,   (99, 0)),          # 0.9966
    ("USD", "KWD", 100,       "0.307",        0,    0,   (307, 0)),         # three digits
    ("KWD", "JPY", 1,         "493.9",        0,    0,   "conversion_too_small"),
    ("KWD", "JPY", 3,         "493.9",        0,    0,   (1, 0)),
    ("USD", "NGN", 101,       "10",           100,  1,   (990, 10)),
    ("USD", "NGN", 1,         "10",           0,    1,   "conversion_too_small"),
    ("USD", "NGN", 1,         "10",           0,    2,   "conversion_too_small"),
    ("NGN", "USD", 1,         "0.001",        0,    0,   "conversion_too_small"),
    ("USD", "NGN", 1,         "1",            9999, 0,   "conversion_too_small"),
    ("USD", "NGN", MINOR_MAX, "1",            0,    0,   (MINOR_MAX, 0)),
    ("USD", "NGN", MINOR_MAX, "1.000000000001", 0,  0,   "amount_overflow"),
]
# fmt: on


@pytest.mark.parametrize(("sell", "buy", "minor", "mid", "bps", "fee", "due"), PRICES)
def test_what_is_bought_is_rounded_in_favour_of_liquidity(
    sell: str, buy: str, minor: int, mid: str, bps: int, fee: int, due: tuple[int, int] | str
) -> None:
    made = price(sell, buy, minor, mid, bps, fee, 1)
    assert (made.code if isinstance(made, Objection) else (made.bought, made.spread)) == due


CURRENCIES = st.sampled_from(["USD", "NGN", "JPY", "KWD", "CLF"])
MIDS = st.builds(
    lambda whole, part: f"{whole}.{part}" if part else str(whole),
    st.integers(0, 10**9), st.from_regex(r"\A([0-9]{1,18})?\Z"),
).filter(is_rate)  # fmt: skip


@given(CURRENCIES, CURRENCIES, st.integers(1, MINOR_MAX), MIDS, st.integers(0, BPS - 1), st.integers(0, 10**6))
def test_a_price_is_the_exact_one_rounded_down_and_nothing_is_lost(
    sell: str, buy: str, minor: int, mid: str, bps: int, fee: int
) -> None:
    made = price(sell, buy, minor, mid, bps, fee, 3)
    scale = Fraction(10) ** (exponent(buy) - exponent(sell))
    at_mid = (minor - fee) * Fraction(mid) * scale
    client = at_mid * (1 - Fraction(bps, BPS))
    if isinstance(made, Price):
        assert (made.sold, made.fee) == (minor, fee)
        assert 0 <= client - made.bought < 1
        assert 0 <= at_mid - (made.bought + made.spread) < 1
        assert made.spread >= 0 < made.bought
    elif made.code == "amount_overflow":
        assert at_mid > MINOR_MAX
    else:
        assert client < 1


@given(CURRENCIES, CURRENCIES, MIDS, st.integers(1, 10**12), st.integers(0, 10**6))
def test_more_money_never_buys_less(sell: str, buy: str, mid: str, minor: int, more: int) -> None:
    one, other = price(sell, buy, minor, mid, 25, 0, 1), price(sell, buy, minor + more, mid, 25, 0, 1)
    if isinstance(one, Price) and isinstance(other, Price):
        assert other.bought >= one.bought


@pytest.mark.parametrize(("mid", "bps", "fee"), [("", 0, 0), ("1.", 0, 0), ("1", BPS, 0), ("1", 0, -1), ("1e3", 0, 0)])
def test_what_is_no_rate_raises(mid: str, bps: int, fee: int) -> None:
    with pytest.raises(ValueError, match="no rate"):
        price("USD", "NGN", 5, mid, bps, fee, 1)


RATE = FxRate("acme", "USD", "NGN", "10", 0, 0, AT, 60, "desk", 4)
QUOTE = Quote("acme", "i", "USD", "NGN", "100", "11", 0, 0, 3, AT + timedelta(seconds=30))


@pytest.mark.parametrize(("age", "due"), [(0, 1_000), (60, 1_000), (60.000001, "rate_stale"), (-5, 1_000)])
def test_a_rate_is_good_until_it_is_too_old(age: float, due: int | str) -> None:
    made = price_now(RATE, 100, AT + timedelta(seconds=age))
    assert (made.code if isinstance(made, Objection) else made.bought) == due


def test_without_a_rate_nothing_is_converted() -> None:
    assert price_now(None, 100, AT) == Objection("rate_unknown", "nobody has set a rate for this pair")


# fmt: off
QUOTED: list[tuple[dict[str, object], float, int | str]] = [
    ({},                     0,         1_100),
    ({},                     29.999999, 1_100),
    ({},                     30,        "quote_expired"),
    ({"tenant": "globex"},   0,         "quote_invalid"),
    ({"intent_id": "j"},     0,         "quote_invalid"),
    ({"sell": "EUR"},        0,         "quote_invalid"),
    ({"buy": "EUR"},         0,         "quote_invalid"),
    ({"minor": 101},         0,         "quote_invalid"),
    ({"minor": 101},         30,        "quote_invalid"),  # what it is not for does not expire
]
# fmt: on


@pytest.mark.parametrize(("changes", "later", "due"), QUOTED)
def test_a_quote_holds_for_what_it_was_given_for_until_it_expires(
    changes: dict[str, object], later: float, due: int | str
) -> None:
    asked: dict[str, object] = {"tenant": "acme", "intent_id": "i", "sell": "USD", "buy": "NGN", "minor": 100}
    made = price_of_quote(QUOTE, now=AT + timedelta(seconds=later), **(asked | changes))  # type: ignore[arg-type]
    assert (made.code if isinstance(made, Objection) else made.bought) == due
    if isinstance(made, Price):
        assert (made.quote, made.version) == ("i", 3)
