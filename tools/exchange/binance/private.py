"""User data: who listens to which account, and the events of the core as Binance tells them.

Spot: subscriptions on WebSocket API connections, events wrapped with the subscription's id. USD-M: listen keys of
60 minutes on `/private`. One fill is TRADE_LITE, ORDER_TRADE_UPDATE, then ACCOUNT_UPDATE here; the venue promises an
order only within one type. Source: venues/binance.md section 6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from engine.types import Market
from tools.exchange.account import Account, Position
from tools.exchange.binance import render
from tools.exchange.binance.errors import ApiError
from tools.exchange.binance.render import MS, money
from tools.exchange.binance.request import Ids
from tools.exchange.binance.usdm_account import break_even_px, entry_px
from tools.exchange.core import VenueCore
from tools.exchange.front import Outbox
from tools.exchange.model import BalanceChange, Event, OrderChange, OrderEvent, PositionChange

LISTEN_KEY_NS: Final = 60 * 60 * 1_000_000_000
SUBSCRIPTIONS_MAX: Final = 1000
FUTURES_REASONS: Final = {
    "ORDER": "ORDER",
    "FUNDING": "FUNDING_FEE",
    "DEPOSIT": "DEPOSIT",
    "TRANSFER": "MARGIN_TRANSFER",
}


@dataclass(slots=True, eq=False)
class SpotSubscription:
    subscription_id: int
    conn_id: int
    account_id: int
    is_micro: bool


@dataclass(slots=True, eq=False)
class ListenKey:
    key: str
    account_id: int
    expires_ns: int
    conns: dict[int, tuple[bool, frozenset[str]]] = field(default_factory=dict)  # conn: (wrapped, event names)


class UserData:
    def __init__(self, core: VenueCore, outbox: Outbox, ids: Ids) -> None:
        self.core = core
        self.outbox = outbox
        self.ids = ids
        self.spot: dict[int, list[SpotSubscription]] = {}  # by account
        self.listen_keys: dict[str, ListenKey] = {}
        self._next_subscription: dict[int, int] = {}  # by connection

    # --- spot subscriptions -----------------------------------------------------------------------------------------

    def subscribe(self, conn_id: int, account_id: int, *, is_micro: bool) -> int:
        subscriptions = self.spot.setdefault(account_id, [])
        if any(each.conn_id == conn_id for each in subscriptions):
            raise ApiError(-2035, "User Data Stream subscription already active.")
        if sum(len(each) for each in self.spot.values()) >= SUBSCRIPTIONS_MAX:
            raise ApiError(-2042, "Too many active subscriptions.")
        number = self._next_subscription.get(conn_id, 0)
        self._next_subscription[conn_id] = number + 1
        subscriptions.append(SpotSubscription(number, conn_id, account_id, is_micro))
        return number

    def unsubscribe(self, conn_id: int, subscription_id: int | None, now_ns: int, skew_ns: int) -> None:
        """One subscription of a connection, or all of them (None)."""
        ended = []
        for account_id, subscriptions in self.spot.items():
            for each in subscriptions:
                if each.conn_id == conn_id and subscription_id in (None, each.subscription_id):
                    ended.append(each)
            self.spot[account_id] = [each for each in subscriptions if each not in ended]
        if not ended and subscription_id is not None:
            raise ApiError(-2036, "User Data Stream subscription not active.")
        for each in ended:
            self._send_spot(each, {"e": "eventStreamTerminated", "E": (now_ns + skew_ns) // MS}, now_ns)

    def subscriptions_of(self, conn_id: int) -> list[int]:
        return [each.subscription_id for rows in self.spot.values() for each in rows if each.conn_id == conn_id]

    def drop_conn(self, conn_id: int) -> None:
        for account_id, subscriptions in self.spot.items():
            self.spot[account_id] = [each for each in subscriptions if each.conn_id != conn_id]
        self._next_subscription.pop(conn_id, None)
        for listen_key in self.listen_keys.values():
            listen_key.conns.pop(conn_id, None)

    # --- listen keys ------------------------------------------------------------------------------------------------

    def start_listen_key(self, account_id: int, now_ns: int) -> str:
        """The account's key; asking again gives the same one and 60 minutes more."""
        for listen_key in self.listen_keys.values():
            if listen_key.account_id == account_id:
                listen_key.expires_ns = now_ns + LISTEN_KEY_NS
                return listen_key.key
        key = self.ids.text(64)
        self.listen_keys[key] = ListenKey(key, account_id, now_ns + LISTEN_KEY_NS)
        return key

    def renew_listen_key(self, account_id: int, now_ns: int) -> str:
        for listen_key in self.listen_keys.values():
            if listen_key.account_id == account_id:
                listen_key.expires_ns = now_ns + LISTEN_KEY_NS
                return listen_key.key
        raise ApiError(-1125, "This listenKey does not exist.")

    def close_listen_key(self, account_id: int) -> None:
        for key in [key for key, each in self.listen_keys.items() if each.account_id == account_id]:
            del self.listen_keys[key]

    def attach(self, conn_id: int, key: str, *, wraps: bool, events: frozenset[str] = frozenset()) -> None:
        """An unknown key is accepted and stays silent, as at the venue."""
        listen_key = self.listen_keys.get(key)
        if listen_key is not None:
            listen_key.conns[conn_id] = (wraps, events)

    def detach(self, conn_id: int, key: str) -> None:
        listen_key = self.listen_keys.get(key)
        if listen_key is not None:
            listen_key.conns.pop(conn_id, None)

    def next_expiry_ns(self) -> int:
        return min((each.expires_ns for each in self.listen_keys.values()), default=2**63 - 1)

    def expire(self, now_ns: int, skew_ns: int, *, all_keys: bool = False) -> int:
        """Tell the listeners of keys that ran out (or of all, for fault injection); returns how many ended."""
        due = [each for each in self.listen_keys.values() if all_keys or each.expires_ns <= now_ns]
        for each in due:
            event = {"e": "listenKeyExpired", "E": (now_ns + skew_ns) // MS, "listenKey": each.key}
            self._send_usdm(each, event, now_ns)
            del self.listen_keys[each.key]
        return len(due)

    # --- events -----------------------------------------------------------------------------------------------------

    def on_events(self, batch: list[Event], now_ns: int, skew_ns: int) -> None:
        """One batch: spot events per order change with the balances after it, USD-M likewise with positions."""
        pending: dict[tuple[int, Market], list[BalanceChange | PositionChange]] = {}
        for event in batch:
            if isinstance(event, OrderEvent):
                market = event.order.listing.market
                self._flush(pending, (event.order.account_id, market), now_ns, skew_ns)
                if market is Market.SPOT:
                    self._spot_order(event, now_ns, skew_ns)
                else:
                    self._usdm_order(event, now_ns, skew_ns)
            elif isinstance(event, BalanceChange):
                pending.setdefault((event.account_id, event.market), []).append(event)
            elif isinstance(event, PositionChange):
                pending.setdefault((event.account_id, Market.LINEAR), []).append(event)
        for key in list(pending):
            self._flush(pending, key, now_ns, skew_ns)

    def _flush(
        self,
        pending: dict[tuple[int, Market], list[BalanceChange | PositionChange]],
        key: tuple[int, Market],
        now_ns: int,
        skew_ns: int,
    ) -> None:
        changes = pending.pop(key, None)
        if not changes:
            return
        if key[1] is Market.SPOT:
            self._spot_balances(key[0], changes, now_ns, skew_ns)
        else:
            self._usdm_account(key[0], changes, now_ns, skew_ns)

    def _spot_order(self, event: OrderEvent, now_ns: int, skew_ns: int) -> None:
        subscriptions = self.spot.get(event.order.account_id)
        if not subscriptions:
            return
        cancel_id = ""
        if event.change is OrderChange.CANCELED:
            cancel_id = event.note.get("cancel_id") or event.order.wire.setdefault("shown_id", self.ids.text())
        for each in subscriptions:
            unit_ns = 1000 if each.is_micro else MS
            self._send_spot(each, render.spot_report(event, cancel_id, unit_ns, skew_ns), now_ns)

    def _spot_balances(
        self, account_id: int, changes: list[BalanceChange | PositionChange], now_ns: int, skew_ns: int
    ) -> None:
        subscriptions = self.spot.get(account_id)
        if not subscriptions:
            return
        balances = {change.asset: change for change in changes if isinstance(change, BalanceChange)}
        for each in subscriptions:
            stamp = (now_ns + skew_ns) // (1000 if each.is_micro else MS)
            for change in changes:
                if isinstance(change, BalanceChange) and change.cause in ("DEPOSIT", "TRANSFER"):
                    row = {"e": "balanceUpdate", "E": stamp, "a": change.asset, "d": money(change.delta), "T": stamp}
                    self._send_spot(each, row, now_ns)
            rows = [{"a": asset, "f": money(b.free), "l": money(b.locked)} for asset, b in balances.items()]
            self._send_spot(each, {"e": "outboundAccountPosition", "E": stamp, "u": stamp, "B": rows}, now_ns)

    def _send_spot(self, subscription: SpotSubscription, event: dict[str, Any], now_ns: int) -> None:
        frame = orjson.dumps({"subscriptionId": subscription.subscription_id, "event": event})
        self._emit([(subscription.conn_id, frame)], event.get("x") == "TRADE", now_ns)

    def _usdm_order(self, event: OrderEvent, now_ns: int, skew_ns: int) -> None:
        listen_key = self._listen_key(event.order.account_id)
        if listen_key is None:
            return
        if event.fill is not None:
            self._send_usdm(listen_key, render.usdm_trade_lite(event, skew_ns), now_ns)
        self._send_usdm(listen_key, render.usdm_update(event, skew_ns), now_ns)

    def _usdm_account(
        self, account_id: int, changes: list[BalanceChange | PositionChange], now_ns: int, skew_ns: int
    ) -> None:
        listen_key = self._listen_key(account_id)
        if listen_key is None:
            return
        account = self.core.accounts[account_id]
        balances = {change.asset: change for change in changes if isinstance(change, BalanceChange)}
        positions = {change.listing.index: change for change in changes if isinstance(change, PositionChange)}
        cause = next(change.cause for change in changes)
        # Balance change without profit, loss and commission: only what did not come from an order.
        rows = [
            {
                "a": asset,
                "wb": money(change.free),
                "cw": money(change.free),
                "bc": "0" if change.cause == "ORDER" else money(change.delta),
            }
            for asset, change in balances.items()
        ]
        detail: dict[str, Any] = {"m": FUTURES_REASONS.get(cause, "ADJUSTMENT"), "B": rows, "P": []}
        detail["P"] = [self._position_row(account, change) for change in positions.values()]
        stamp = (changes[-1].ts_ns + skew_ns) // MS
        self._send_usdm(listen_key, {"e": "ACCOUNT_UPDATE", "E": stamp, "T": stamp, "a": detail}, now_ns)

    def _position_row(self, account: Account, change: PositionChange) -> dict[str, Any]:
        listing = change.listing
        # The position of the moment of the change: a batch may hold several.
        position = Position(listing, change.qty_lots, change.cost_atoms)
        return {
            "s": listing.symbol,
            "pa": listing.qty_text(change.qty_lots),
            "ep": entry_px(position),
            "bep": break_even_px(position),
            "cr": money(account.position(listing).realized_atoms),
            "up": money(position.unrealized()),
            "mt": "cross",
            "iw": "0",
            "ps": "BOTH",
        }

    def _listen_key(self, account_id: int) -> ListenKey | None:
        for listen_key in self.listen_keys.values():
            if listen_key.account_id == account_id and listen_key.conns:
                return listen_key
        return None

    def _send_usdm(self, listen_key: ListenKey, event: dict[str, Any], now_ns: int) -> None:
        raw = orjson.dumps(event)
        frames = []
        for conn_id, (wraps, names) in listen_key.conns.items():
            if names and event["e"] not in names and event["e"] != "listenKeyExpired":
                continue
            frames.append((conn_id, b'{"stream":"%b","data":%b}' % (listen_key.key.encode(), raw) if wraps else raw))
        is_fill = event["e"] == "ORDER_TRADE_UPDATE" and event["o"]["x"] == "TRADE"
        self._emit(frames, is_fill, now_ns)

    def _emit(self, frames: list[tuple[int, bytes]], is_fill: bool, now_ns: int) -> None:
        # One event on its way to its listeners, past the faults that hit private events.
        hooks = self.core.hooks
        if hooks.private_stalled or not frames:
            return
        if hooks.drop_private > 0:
            hooks.drop_private -= 1
            return
        copies = 1
        if is_fill and hooks.duplicate_fills > 0:
            hooks.duplicate_fills -= 1
            copies = 2
        delay_ns = hooks.event_delay_ns + (hooks.late_fill_ns if is_fill else 0)
        for conn_id, frame in frames * copies:
            self.outbox.send(conn_id, frame, now_ns, delay_ns)
