"""What a venue checks before it accepts an order: state, filters, duplicates, reduce-only, post-only, funds.

Free functions over account, book and request; each raises Refused or returns what the core needs. They change nothing.
"""

from __future__ import annotations

from engine.types import InstrumentState, Market, OrdType, Side, TimeInForce
from tools.exchange.account import Account, order_value
from tools.exchange.matching import MatchingBook
from tools.exchange.model import RATE_SCALE, Listing, NewOrder, Order, Policy, Reason, Refused


def check_request(account: Account, new: NewOrder, policy: Policy) -> None:
    """State of the listing, duplicate id, filters, count of open orders."""
    listing = new.listing
    if listing.state is not InstrumentState.TRADING:
        raise Refused(Reason.HALTED)
    if account.unlimited:
        return
    if new.client_id:
        earlier = account.by_client_id.get((listing.index, new.client_id))
        if earlier is not None and (earlier.is_open or policy.client_id_forever):
            raise Refused(Reason.DUPLICATE_ID)
    if not new.quote_atoms:
        check_filters(listing, new.ord_type, new.px_ticks, new.qty_lots, new.reduce_only)
    elif new.quote_atoms < listing.instrument.min_notional_atoms:
        raise Refused(Reason.NOTIONAL_FILTER)
    if account.open_sums(listing).count >= listing.max_open_orders:
        raise Refused(Reason.MAX_ORDERS)


def check_filters(listing: Listing, ord_type: OrdType, px: int, qty: int, reduce_only: bool) -> None:
    """Price range and band, quantity range, least notional (reduce-only exempt)."""
    instrument = listing.instrument
    if ord_type is OrdType.LIMIT:
        if not listing.min_px_ticks <= px <= listing.max_px_ticks:
            raise Refused(Reason.PX_FILTER)
        mark = listing.mark_px_ticks
        if listing.band_e4 and mark and abs(px - mark) * 10_000 > mark * listing.band_e4:
            raise Refused(Reason.PX_BAND)
    if not max(1, instrument.min_qty_lots) <= qty <= instrument.max_qty_lots:
        raise Refused(Reason.QTY_FILTER)
    if ord_type is OrdType.MARKET and qty > listing.max_market_lots:
        raise Refused(Reason.QTY_FILTER, "MARKET")
    reference = px if ord_type is OrdType.LIMIT else listing.last_px_ticks or listing.mark_px_ticks
    if reference and not reduce_only and listing.value(reference, qty) < instrument.min_notional_atoms:
        raise Refused(Reason.NOTIONAL_FILTER)


def reduce_only_lots(account: Account, new: NewOrder, policy: Policy) -> int:
    """What is left of a reduce-only order: at most the position it reduces."""
    room = reduce_room(account, new.listing, new.side)
    if room == 0 or (new.qty_lots > room and not policy.reduce_only_shrinks):
        raise Refused(Reason.REDUCE_ONLY)
    return min(new.qty_lots, room)


def reduce_room(account: Account, listing: Listing, side: Side) -> int:
    position = account.position(listing).qty_lots
    return abs(position) if position * side < 0 else 0


def ends_at_once(account: Account, book: MatchingBook, new: NewOrder, qty: int, policy: Policy) -> Reason:
    """NONE, or why an accepted order expires without a trade. Raises where this venue refuses instead."""
    px = new.px_ticks if new.ord_type is OrdType.LIMIT else None
    if new.post_only and px is not None and book.crosses(new.side, px):
        if policy.post_only_refuses:
            raise Refused(Reason.POST_ONLY)
        return Reason.POST_ONLY
    if new.tif is TimeInForce.FOK and not new.quote_atoms:
        own = -1 if account.unlimited else account.account_id
        if book.fillable(new.side, px, qty, own) < qty:
            if policy.fok_refuses:
                raise Refused(Reason.FOK)
            return Reason.FOK
    return Reason.NONE


def funds_needed(account: Account, book: MatchingBook, new: NewOrder, qty: int) -> int:
    """Atoms to lock: spot limit orders only. Raises when the account cannot afford the order."""
    listing = new.listing
    if not listing.is_spot:
        _check_margin(account, book, new, qty)
        return 0
    instrument = listing.instrument
    is_limit = new.ord_type is OrdType.LIMIT
    if new.side is Side.SELL:
        asset, need = instrument.base, sell_lots(book, new, qty) * listing.lot_atoms
    elif new.quote_atoms:
        asset, need = instrument.quote, new.quote_atoms
    else:
        asset = instrument.quote
        need = value_up(listing, new.px_ticks * qty if is_limit else book.cost(Side.BUY, qty)[1])
    free = account.balance(Market.SPOT, asset).free
    if account.linear is account.spot:
        free = min(free, account.available(asset))
    if need > free:
        raise Refused(Reason.BALANCE)
    return need if is_limit else 0


def sell_lots(book: MatchingBook, new: NewOrder, qty: int) -> int:
    """Lots a sale takes: its quantity, or for one by quote amount what the bids make of it now."""
    if not new.quote_atoms:
        return qty
    best = book.bids.best()
    return lots_for_quote(new.listing, best.px_ticks, new.quote_atoms) if best else 0


def lots_for_quote(listing: Listing, px: int, quote_atoms: int) -> int:
    return quote_atoms * listing.value_den // (px * listing.value_num)


def value_up(listing: Listing, px_times_qty: int) -> int:
    """Atoms of quote, rounded up: what must be locked so that every later fill can be paid."""
    return -(-px_times_qty * listing.value_num // listing.value_den)


def _check_margin(account: Account, book: MatchingBook, new: NewOrder, qty: int) -> None:
    listing = new.listing
    if new.reduce_only:
        return
    best = book.side(new.side.opposite).best()
    px = new.px_ticks if new.ord_type is OrdType.LIMIT else best.px_ticks if best else listing.mark_px_ticks
    value = listing.value(px, qty)
    bid, ask = (value, 0) if new.side is Side.BUY else (0, value)
    extra = account.initial_margin(listing, bid, ask) - account.initial_margin(listing)
    fee = value * listing.taker_fee_e8 // RATE_SCALE
    if extra > 0 and account.available(listing.instrument.settle) < extra + fee:
        raise Refused(Reason.MARGIN)


def check_amend_funds(account: Account, order: Order, px: int, qty: int) -> None:
    """Raises when the amended order could not be afforded."""
    listing, lots = order.listing, qty - order.cum_lots
    if account.unlimited or order.reduce_only:
        return
    if listing.is_spot:
        instrument = listing.instrument
        is_sell = order.side is Side.SELL
        need = lots * listing.lot_atoms if is_sell else value_up(listing, px * lots)
        if need - order.locked > account.balance(Market.SPOT, instrument.base if is_sell else instrument.quote).free:
            raise Refused(Reason.BALANCE)
        return
    change = listing.value(px, lots) - order_value(order)
    bid, ask = (change, 0) if order.side is Side.BUY else (0, change)
    extra = account.initial_margin(listing, bid, ask) - account.initial_margin(listing)
    if extra > 0 and account.available(listing.instrument.settle) < extra:
        raise Refused(Reason.MARGIN)
