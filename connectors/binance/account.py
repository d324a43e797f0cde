"""User data: executions, balances, positions, funding; and the listen key that USD-M's stream needs.

Spot events come on the WebSocket API socket that subscribed to them, wrapped in `{"subscriptionId", "event"}`; USD-M
events on a stream of their own, addressed by a listen key that lives 60 minutes unless it is renewed.
TRADE_LITE is ignored and counted: ORDER_TRADE_UPDATE tells the same fill with its fee and the order's state.

Formulas of `Balance`, both wallets of the account together, per asset:
- total = spot free + spot locked + USD-M wallet balance (unrealised profit is not in it)
- available = spot free + USD-M `availableBalance`; between two queries the latter moves by the change of the wallet
  balance, because USD-M's stream does not tell it.
Source: binance-spot-api-docs user-data-stream.md; USD-M "User Data Streams"; read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from connectors.binance.context import Context, MarketSide
from connectors.binance.endpoints import WEIGHT_LISTEN_KEY
from connectors.binance.errors import LISTEN_KEY_GONE, NOT_UNDERSTOOD, failure_of_body
from connectors.binance.live import EXECS, Live, ord_type_of, our_id, side_of, status_of, tif_of
from connectors.binance.symbols import Symbol
from connectors.rest import RestAnswer
from connectors.session import MINUTE, MS, SECOND
from engine.events import Balance, Fill, FundingPaid, OrderReport, PositionReport, VenueRefused
from engine.instrument import atoms_from_text
from engine.types import ExecType, Market, Venue

EmitReport = Callable[[OrderReport, int, int], None]

KEEP_ALIVE_NS: Final = 30 * MINUTE
LISTEN_KEY_PATH: Final = "/fapi/v1/listenKey"
INCOME_PATH: Final = "/fapi/v1/income"
WEIGHT_INCOME: Final = 30
_VENUE_CANCEL_TEXTS: Final = ("autoclose-", "adl_autoclose", "settlement_autoclose-", "delivery_autoclose-")


class Wallets:
    """Balances of both markets, told as one account."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.spot: dict[str, tuple[int, int]] = {}  # asset -> free, locked
        self.usdm: dict[str, tuple[int, int]] = {}  # asset -> wallet balance, available
        self.loaded: set[Market] = set()  # markets whose whole wallet was read once

    def set_spot(self, asset: str, free: str, locked: str) -> None:
        self.spot[asset] = (atoms_from_text(free), atoms_from_text(locked))

    def set_usdm(self, asset: str, wallet: str, available: str) -> None:
        self.usdm[asset] = (atoms_from_text(wallet), atoms_from_text(available))

    def move_usdm(self, asset: str, wallet: str) -> None:
        """The stream tells the wallet balance only."""
        was, available = self.usdm.get(asset, (0, 0))
        now = atoms_from_text(wallet)
        self.usdm[asset] = (now, max(0, available + now - was))

    def tell(self, asset: str, recv_ts_ns: int, exch_ts_ns: int) -> None:
        """A wallet changed. Nothing is told before both are known: half an account is not a balance."""
        if len(self.loaded) == len(self._ctx.sides):
            self._ctx.emit(self.balance(asset, recv_ts_ns, exch_ts_ns))

    def balance(self, asset: str, recv_ts_ns: int, exch_ts_ns: int = 0) -> Balance:
        free, locked = self.spot.get(asset, (0, 0))
        wallet, available = self.usdm.get(asset, (0, 0))
        return Balance(recv_ts_ns, Venue.BINANCE, asset, free + locked + wallet, free + available, exch_ts_ns)

    def all(self, recv_ts_ns: int) -> tuple[Balance, ...]:
        return tuple(self.balance(asset, recv_ts_ns) for asset in {**self.spot, **self.usdm})


class UserEvents:
    """Events of one market's account."""

    def __init__(self, ctx: Context, side: MarketSide, live: Live, wallets: Wallets, emit_report: EmitReport) -> None:
        self._ctx = ctx
        self._side = side
        self._live = live
        self._wallets = wallets
        self._emit_report = emit_report
        self.ignored: dict[str, int] = {}
        self.garbled = 0
        self.handlers: dict[str, Callable[[Any, int], None]] = {
            "executionReport": self._on_execution_report,
            "outboundAccountPosition": self._on_account_position,
            "ORDER_TRADE_UPDATE": self._on_order_trade_update,
            "ACCOUNT_UPDATE": self._on_account_update,
            "ACCOUNT_CONFIG_UPDATE": self._on_config_update,
        }

    def on_event(self, event: Mapping[str, Any], recv_ts_ns: int) -> None:
        """Raises one of errors.NOT_UNDERSTOOD for an event that is not as documented."""
        name = event["e"]
        handler = self.handlers.get(name)
        if handler is None:
            self.ignored[name] = self.ignored.get(name, 0) + 1
        elif event.get("st", 1) == 1:  # 2: COIN-M, which shares the address since 2026
            handler(event, recv_ts_ns)

    # --- executions ---

    def _on_execution_report(self, event: Mapping[str, Any], recv_ts_ns: int) -> None:
        symbol = self._side.symbols.get(event["s"])
        if symbol is None:
            return
        # Of a cancelled order, `c` is the id of the cancel request and `C` the order's own.
        name = event["C"] or event["c"]
        reason = event["r"] if event["r"] != "NONE" else event.get("eR", "")
        self._on_execution(symbol, event, name, reason, has_trade=event["t"] != -1, recv_ts_ns=recv_ts_ns)

    def _on_order_trade_update(self, event: Mapping[str, Any], recv_ts_ns: int) -> None:
        order = event["o"]
        symbol = self._side.symbols.get(order["s"])
        if symbol is None:
            return
        client_id = order["c"]
        reason = client_id if client_id.startswith(_VENUE_CANCEL_TEXTS) else ""
        has_trade = order["t"] != 0 or symbol.lots(order["l"]) > 0
        self._on_execution(symbol, order, client_id, reason, has_trade=has_trade, recv_ts_ns=recv_ts_ns)

    def _on_execution(
        self,
        symbol: Symbol,
        event: Mapping[str, Any],
        name: str,
        reason: str,
        *,
        has_trade: bool,
        recv_ts_ns: int,
    ) -> None:
        """The fields that both markets name alike."""
        index = symbol.instrument.index
        order_id = str(event["i"])
        cl_ord_id, leg = our_id(name)
        if cl_ord_id:
            self._live.learn_number(index, order_id, cl_ord_id, leg)
        cl_ord_id, leg = self._live.owner(index, order_id)
        base_lots = self._live.base_lots(cl_ord_id, leg)
        status = status_of(event["X"])
        exec_type = EXECS.get(event["x"], ExecType.STATUS)
        if exec_type is ExecType.EXPIRED and not status.is_terminal:
            exec_type = ExecType.STATUS  # self-trade prevention took a part of it
        if event["X"] == "EXPIRED_IN_MATCH":
            reason = "self-trade prevented"
        leg_cum_lots = symbol.lots(event["z"])
        side = side_of(event["S"])
        report = OrderReport(
            recv_ts_ns=recv_ts_ns,
            venue=Venue.BINANCE,
            instrument=index,
            cl_ord_id=cl_ord_id,
            order_id=order_id,
            exec_type=exec_type,
            ord_status=status,
            side=side,
            ord_type=ord_type_of(event["o"]),
            time_in_force=tif_of(event["f"]),
            px_ticks=symbol.order_px(event["p"]),
            order_qty_lots=base_lots + symbol.lots(event["q"]),
            cum_qty_lots=base_lots + leg_cum_lots,
            exch_ts_ns=int(event["T"]) * MS,
            text=reason,
        )
        self._emit_report(report, leg_cum_lots, recv_ts_ns)
        if has_trade:
            self._emit_fill(symbol, event, report, leg_cum_lots)

    def _emit_fill(self, symbol: Symbol, event: Mapping[str, Any], report: OrderReport, leg_cum_lots: int) -> None:
        qty_lots = symbol.lots(event["l"])
        if qty_lots == 0:
            return
        # The venue's own executions (liquidation, settlement) may lack a trade id; the same event gives the same id.
        exec_id = str(event["t"]) if event["t"] > 0 else f"{report.order_id}-{event['T']}-{leg_cum_lots}"
        self._ctx.emit(
            Fill(
                recv_ts_ns=report.recv_ts_ns,
                venue=Venue.BINANCE,
                instrument=report.instrument,
                cl_ord_id=report.cl_ord_id,
                order_id=report.order_id,
                exec_id=exec_id,
                side=report.side,
                px_ticks=symbol.px(event["L"]),
                qty_lots=qty_lots,
                fee_atoms=atoms_from_text(event.get("n") or "0", round_up=True),
                fee_asset=event.get("N") or "",
                is_maker=event["m"],
                exch_ts_ns=report.exch_ts_ns,
            )
        )

    # --- balances and positions ---

    def _on_account_position(self, event: Mapping[str, Any], recv_ts_ns: int) -> None:
        for row in event["B"]:
            self._wallets.set_spot(row["a"], row["f"], row["l"])
            self._wallets.tell(row["a"], recv_ts_ns, int(event["u"]) * MS)

    def _on_account_update(self, event: Mapping[str, Any], recv_ts_ns: int) -> None:
        update = event["a"]
        exch_ts_ns = int(event["T"]) * MS
        positions = update.get("P", ())
        for row in positions:
            self._on_position(row, exch_ts_ns, recv_ts_ns)
        for row in update.get("B", ()):
            self._wallets.move_usdm(row["a"], row["wb"])
            self._wallets.tell(row["a"], recv_ts_ns, exch_ts_ns)
        if update.get("m") == "FUNDING_FEE":
            self._on_funding(update, positions, event["T"], recv_ts_ns)

    def _on_position(self, row: Mapping[str, Any], exch_ts_ns: int, recv_ts_ns: int) -> None:
        symbol = self._side.symbols.get(row["s"])
        if symbol is None:
            return
        qty_lots = symbol.lots(row["pa"])
        if row.get("ps", "BOTH") == "BOTH":
            self._ctx.emit(PositionReport(recv_ts_ns, Venue.BINANCE, symbol.instrument.index, qty_lots, exch_ts_ns))
        elif qty_lots:
            self._refuse(f"{row['s']} has a {row['ps']} position: the account is in hedge mode", recv_ts_ns)

    def _on_config_update(self, event: Mapping[str, Any], recv_ts_ns: int) -> None:
        # We never change these: somebody else did, and margins are no longer what was read at the start.
        leverage = event.get("ac")
        if leverage is not None:
            if leverage.get("s") in self._side.symbols:
                self._refuse(f"leverage of {leverage['s']} was changed to {leverage.get('l')}", recv_ts_ns)
        else:
            self._refuse("multi-assets mode was changed", recv_ts_ns)

    def _refuse(self, reason: str, recv_ts_ns: int) -> None:
        self._ctx.emit(VenueRefused(recv_ts_ns, Venue.BINANCE, "mode", reason))

    # --- funding ---

    def _on_funding(self, update: Mapping[str, Any], positions: Any, event_ms: int, recv_ts_ns: int) -> None:
        name = update.get("S") or (positions[0]["s"] if len(positions) == 1 else "")
        symbol = self._side.symbols.get(name)
        if symbol is None:
            # A crossed position's funding names no symbol in older events: the income list does.
            self._ask_income(event_ms, recv_ts_ns)
            return
        for row in update["B"]:
            self._ctx.emit(
                FundingPaid(
                    recv_ts_ns,
                    Venue.BINANCE,
                    symbol.instrument.index,
                    atoms_from_text(row["bc"]),
                    row["a"],
                    f"{name}-{event_ms}",
                    event_ms * MS,
                )
            )

    def _ask_income(self, event_ms: int, now_ns: int) -> None:
        def on_answer(answer: RestAnswer, now_ns: int) -> None:
            try:
                rows = orjson.loads(answer.body) if answer.is_ok else ()
                tell(rows, now_ns)
            except NOT_UNDERSTOOD:
                self.garbled += 1

        def tell(rows: Any, now_ns: int) -> None:
            for row in rows:
                symbol = self._side.symbols.get(row["symbol"])
                if symbol is not None:
                    self._ctx.emit(
                        FundingPaid(
                            now_ns,
                            Venue.BINANCE,
                            symbol.instrument.index,
                            atoms_from_text(row["income"]),
                            row["asset"],
                            str(row["tranId"]),
                            int(row["time"]) * MS,
                        )
                    )

        params = f"incomeType=FUNDING_FEE&startTime={event_ms - 60_000}&limit=100"
        self._ctx.get(self._side, INCOME_PATH, params, WEIGHT_INCOME, on_answer, now_ns, is_signed=True)


class ListenKey:
    """The address of USD-M's private stream: asked for, kept alive, asked for again when it is gone."""

    def __init__(self, ctx: Context, side: MarketSide, on_key: Callable[[int], None]) -> None:
        self._ctx = ctx
        self._side = side
        self._on_key = on_key
        self.key = ""
        self._is_asked = False
        self._renew_at_ns = 0

    def ask(self, now_ns: int) -> None:
        if self._is_asked:
            return
        self._is_asked = True

        def on_answer(answer: RestAnswer, now_ns: int) -> None:
            self._is_asked = False
            key = _listen_key(answer)
            if key:
                self.key = key
                self._renew_at_ns = now_ns + KEEP_ALIVE_NS
                self._on_key(now_ns)
            else:
                self._renew_at_ns = now_ns + 5 * SECOND

        self._call("POST", on_answer, now_ns)

    def expire(self, now_ns: int) -> None:
        self.key = ""
        self.ask(now_ns)

    def on_timer(self, now_ns: int) -> None:
        if not self._renew_at_ns or now_ns < self._renew_at_ns or self._ctx.is_stopping:
            return
        self._renew_at_ns = now_ns + MINUTE  # unless the answer says otherwise
        if not self.key:
            self.ask(now_ns)
            return

        def on_answer(answer: RestAnswer, now_ns: int) -> None:
            if answer.is_ok:
                self._renew_at_ns = now_ns + KEEP_ALIVE_NS
            elif failure_of_body(answer.status, answer.body).code == LISTEN_KEY_GONE:
                self.expire(now_ns)

        self._call("PUT", on_answer, now_ns)

    def _call(self, method: str, on_answer: Callable[[RestAnswer, int], None], now_ns: int) -> None:
        self._ctx.call(
            self._side,
            method,
            LISTEN_KEY_PATH,
            "",
            WEIGHT_LISTEN_KEY,
            on_answer,
            now_ns,
            is_signed=False,
            is_keyed=True,
            is_secret=True,
        )


def _listen_key(answer: RestAnswer) -> str:
    if not answer.is_ok:
        return ""
    try:
        key = orjson.loads(answer.body)["listenKey"]
    except NOT_UNDERSTOOD:
        return ""
    return key if isinstance(key, str) else ""
