"""Which clock is wrong: what the shop has signed was signed at some time, and no right clock is before that."""

from __future__ import annotations

from datetime import datetime, timedelta

from certs import certificates
from certs.errors import WrongClock, moment
from certs.reading import ShopState

TOLERANCE = timedelta(hours=1)


def last_signed(shop: ShopState) -> datetime:
    """The latest time that the shop's authority is known to have signed something."""
    return max(shop.roster.issued, certificates.issued(shop.certificate))


def behind(now: datetime, shop: ShopState) -> WrongClock | None:
    """The error for this laptop's clock where it is before what the shop has signed already; else None."""
    signed = last_signed(shop)
    if now >= signed - TOLERANCE:
        return None
    return WrongClock(
        f"This laptop's clock says {moment(now)}, but {shop.shop_name} signed its list of devices at {moment(signed)}: "
        "the clock of this laptop is behind, or that of the admin's laptop was ahead."
    )


def compare(now: datetime, theirs: datetime, name: str, shop: ShopState) -> WrongClock:
    """The error for two clocks that do not agree; it names the wrong one where that can be known."""
    signed = last_signed(shop) - TOLERANCE
    times = f"This laptop's clock says {moment(now)}, the clock of {name} says {moment(theirs)}"
    if now < signed <= theirs:
        return WrongClock(f"{times}: the clock of this laptop is behind.")
    if theirs < signed <= now:
        return WrongClock(f"{times}: the clock of {name} is behind.")
    ahead = "this laptop" if now > theirs else name
    return WrongClock(f"{times}: one of them is wrong, probably the clock of {ahead} is ahead.")
