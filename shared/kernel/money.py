"""Money is an `int` of micro-dollars everywhere; these are the only roundings there are."""

from decimal import Decimal

MICROUSD_PER_USD = 1_000_000
# One credit is one US cent: a unit to show, never one to store.
MICROUSD_PER_CREDIT = 10_000


def price(quantity: int | Decimal, *, microusd: int | Decimal, per: int) -> int:
    """Return the price in micro-dollars of `quantity` at `microusd` for each `per` units, rounded half to even.

    `price(1_500, microusd=250_000, per=1_000_000) == 375` (1,500 tokens at $0.25 for a million). Whole numbers only
    are calculated with: no figure is so big that digits of it are lost.
    """
    many, share = quantity.as_integer_ratio()
    money, part = microusd.as_integer_ratio()
    divisor = share * part * per
    whole, rest = divmod(many * money, divisor)
    up = 2 * rest > divisor or (2 * rest == divisor and whole % 2 == 1)
    return whole + up


def show_usd(microusd: int) -> str:
    """Return dollars to the micro-dollar, e.g. `$0.000375`."""
    sign = "-" if microusd < 0 else ""
    whole, rest = divmod(abs(microusd), MICROUSD_PER_USD)
    return f"{sign}${whole}.{rest:06d}"
