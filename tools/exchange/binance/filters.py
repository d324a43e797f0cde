"""Text of prices and quantities to ticks and lots, refusing as each market does."""

from __future__ import annotations

from decimal import Decimal

from tools.exchange.binance.errors import ApiError
from tools.exchange.binance.info import usdm_px_precision
from tools.exchange.model import Listing


def decimals_of(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    assert isinstance(exponent, int), f"not finite: {value}"
    return max(0, -exponent)


def spot_ticks(listing: Listing, price: Decimal) -> int:
    if decimals_of(price) > 8:
        raise ApiError(-1111, "Parameter 'price' has too much precision.")
    try:
        return listing.ticks(price)
    except ValueError:
        raise ApiError(-1013, "Filter failure: PRICE_FILTER") from None


def spot_lots(listing: Listing, quantity: Decimal, *, is_market: bool = False) -> int:
    if decimals_of(quantity) > 8:
        raise ApiError(-1111, "Parameter 'quantity' has too much precision.")
    if quantity == 0:
        raise ApiError(-1013, "Invalid quantity.")
    try:
        return listing.lots(quantity)
    except ValueError:
        raise ApiError(-1013, "Filter failure: LOT_SIZE") from None


def usdm_ticks(listing: Listing, price: Decimal) -> int:
    if decimals_of(price) > usdm_px_precision(listing):
        raise ApiError(-1111, "Precision is over the maximum defined for this asset.")
    if price <= 0:
        raise ApiError(-4001, "Price less than 0.")
    try:
        ticks = listing.ticks(price)
    except ValueError:
        raise ApiError(-4014, "Price not increased by tick size.") from None
    if ticks > listing.max_px_ticks:
        raise ApiError(-4002, "Price greater than max price.")
    if ticks < listing.min_px_ticks:
        raise ApiError(-4013, "Price less than min price.")
    check_band(listing, ticks)
    return ticks


def check_band(listing: Listing, ticks: int) -> None:
    """The percent filter of limit orders, around the mark price."""
    mark, band = listing.mark_px_ticks, listing.band_e4
    if not mark or not band:
        return
    if ticks * 10_000 > mark * (10_000 + band):
        highest = listing.px_text(mark * (10_000 + band) // 10_000)
        raise ApiError(-4016, f"Limit price can't be higher than {highest}.")
    if ticks * 10_000 < mark * (10_000 - band):
        lowest = listing.px_text(-(-mark * (10_000 - band) // 10_000))
        raise ApiError(-4024, f"Limit price can't be lower than {lowest}.")


def usdm_lots(listing: Listing, quantity: Decimal) -> int:
    if decimals_of(quantity) > listing.qty_decimals:
        raise ApiError(-1111, "Precision is over the maximum defined for this asset.")
    if quantity <= 0:
        raise ApiError(-4003, "Quantity less than or equal to zero.")
    try:
        lots = listing.lots(quantity)
    except ValueError:
        raise ApiError(-4023, "Qty not increased by step size.") from None
    if lots < listing.instrument.min_qty_lots:
        raise ApiError(-4004, "Quantity less than min quantity.")
    return lots
