"""Questions of the core: orders, fills, balances, positions. Both markets answer into one event each.

An answer that could not be had says so (`is_ok` False); a part of one is never passed off as the whole.
Fills are paged: windows of time until the first row, then by trade id until a page is not full.
Source: binance-spot-api-docs rest-api.md "Account endpoints"; USD-M "Account Trade List", "Current All Open Orders",
"Position Information V3", "Futures Account Balance V3"; read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from connectors.binance.account import Wallets
from connectors.binance.context import Context, MarketSide
from connectors.binance.endpoints import WEIGHT_ACCOUNT, WEIGHT_POSITIONS
from connectors.binance.errors import NOT_UNDERSTOOD, Failure, Meaning, failure_of_body, meaning_of
from connectors.binance.live import Live, leg_text, report_from_row
from connectors.binance.symbols import Symbol
from connectors.rest import RestAnswer
from connectors.session import MS, SECOND
from engine.actions import QueryBalances, QueryFills, QueryOpenOrders, QueryOrder, QueryPositions
from engine.events import Balances, Fill, Fills, OpenOrders, OrderReport, PositionReport, Positions
from engine.instrument import atoms_from_text
from engine.types import ExecType, Market, OrdStatus, Side, Venue

PAGE: Final = 1_000
OVERLAP_MS: Final = 5_000
_HOUR_MS: Final = 3_600_000
_WINDOW_MS: dict[Market, int] = {Market.SPOT: 24 * _HOUR_MS, Market.LINEAR: 7 * 24 * _HOUR_MS}
_HISTORY_MS: Final = 3 * 24 * _HOUR_MS
"""How far back a question goes at most: an engine that was away for longer needs a person, not a page counter."""

SUCCESSOR_LAG_NS: Final = 10 * SECOND
"""So long after a replace, a new leg that is not found may still appear."""

EmitReport = Callable[[OrderReport, int, int], None]
Rows = Sequence[Mapping[str, Any]]


class Gather:
    """Several answers into one: `done(is_ok, now_ns)` once, when the last one is in."""

    def __init__(self, count: int, done: Callable[[bool, int], None]) -> None:
        self._left = count
        self._is_ok = True
        self._done = done

    def add(self, is_ok: bool, now_ns: int) -> None:
        self._is_ok = self._is_ok and is_ok
        self._left -= 1
        if self._left == 0:
            self._done(self._is_ok, now_ns)


def parsed(answer: RestAnswer) -> Any:
    """The JSON of a good answer, None for any other."""
    if not answer.is_ok:
        return None
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None


class Queries:
    def __init__(self, ctx: Context, live: Live, wallets: Wallets, emit_report: EmitReport) -> None:
        self._ctx = ctx
        self._live = live
        self._wallets = wallets
        self._emit_report = emit_report

    def get_order(self, action: QueryOrder, now_ns: int) -> None:
        side = self._ctx.side_of(action.instrument)
        LegWalk(self._ctx, self._live, side, action, self._emit_report).ask(now_ns)

    # --- open orders ---

    def get_open_orders(self, action: QueryOpenOrders, now_ns: int) -> None:
        orders: list[OrderReport] = []

        def done(is_ok: bool, now_ns: int) -> None:
            self._ctx.emit(OpenOrders(now_ns, Venue.BINANCE, action.request_id, tuple(orders), is_ok))

        wanted = [(side, symbol) for side in self._ctx.sides.values() for symbol in side.symbols.values()]
        gather = Gather(len(wanted), done)
        for side, symbol in wanted:
            self._ask_open(side, symbol, orders, gather, now_ns)

    def _ask_open(
        self, side: MarketSide, symbol: Symbol, orders: list[OrderReport], gather: Gather, now_ns: int
    ) -> None:
        def on_answer(answer: RestAnswer, now_ns: int) -> None:
            rows = parsed(answer)
            is_ok = rows is not None
            for row in rows or ():
                try:
                    is_known = self._live.is_known(symbol.instrument.index, str(row["orderId"]))
                    report, _ = report_from_row(self._live, symbol, row, ExecType.STATUS, now_ns)
                    if report.cl_ord_id and not is_known:
                        self._live.adopt(row, report)
                    orders.append(report)
                except NOT_UNDERSTOOD:
                    is_ok = False
            gather.add(is_ok, now_ns)

        params = f"symbol={symbol.instrument.symbol}"
        weight = side.weights.open_orders
        self._ctx.get(side, side.paths.open_orders, params, weight, on_answer, now_ns, is_signed=True)

    # --- fills ---

    def get_fills(self, action: QueryFills, now_ns: int) -> None:
        side = self._ctx.side_of(action.instrument)
        now_ms = self._ctx.utc_ms(side, now_ns)
        since_ms = action.since_exch_ts_ns // MS - OVERLAP_MS
        FillPages(self._ctx, self._live, side, action, max(since_ms, now_ms - _HISTORY_MS)).ask(now_ns)

    # --- balances and positions ---

    def get_balance(self, action: QueryBalances, now_ns: int) -> None:
        def done(is_ok: bool, now_ns: int) -> None:
            balances = self._wallets.all(now_ns)
            self._ctx.emit(Balances(now_ns, Venue.BINANCE, action.request_id, balances, is_ok))

        gather = Gather(len(self._ctx.sides), done)
        for market, side in self._ctx.sides.items():
            weight = WEIGHT_ACCOUNT[market]
            if market is Market.SPOT:
                params = "omitZeroBalances=true"
                self._ask_rows(side, "/api/v3/account", params, weight, self._take_spot, gather, now_ns)
            else:
                self._ask_rows(side, "/fapi/v3/balance", "", weight, self._take_usdm, gather, now_ns)

    def _take_spot(self, account: Any, now_ns: int) -> None:
        rows = account["balances"]
        self._wallets.spot.clear()
        for row in rows:
            self._wallets.set_spot(row["asset"], row["free"], row["locked"])
        self._wallets.loaded.add(Market.SPOT)

    def _take_usdm(self, rows: Any, now_ns: int) -> None:
        self._wallets.usdm.clear()
        for row in rows:
            self._wallets.set_usdm(row["asset"], row["balance"], row["availableBalance"])
        self._wallets.loaded.add(Market.LINEAR)

    def get_positions(self, action: QueryPositions, now_ns: int) -> None:
        positions: list[PositionReport] = []

        def done(is_ok: bool, now_ns: int) -> None:
            self._ctx.emit(Positions(now_ns, Venue.BINANCE, action.request_id, tuple(positions), is_ok))

        side = self._ctx.sides.get(Market.LINEAR)
        if side is None:
            done(True, now_ns)
            return
        usdm = side

        def take(rows: Any, now_ns: int) -> None:
            for row in rows:
                symbol = usdm.symbols.get(row["symbol"])
                if symbol is not None and row.get("positionSide", "BOTH") == "BOTH":
                    qty_lots = symbol.lots(row["positionAmt"])
                    exch_ts_ns = int(row.get("updateTime", 0)) * MS
                    index = symbol.instrument.index
                    positions.append(PositionReport(now_ns, Venue.BINANCE, index, qty_lots, exch_ts_ns))

        self._ask_rows(usdm, "/fapi/v3/positionRisk", "", WEIGHT_POSITIONS, take, Gather(1, done), now_ns)

    def _ask_rows(
        self,
        side: MarketSide,
        path: str,
        params: str,
        weight: int,
        take: Callable[[Any, int], None],
        gather: Gather,
        now_ns: int,
    ) -> None:
        def on_answer(answer: RestAnswer, now_ns: int) -> None:
            rows = parsed(answer)
            is_ok = rows is not None
            if is_ok:
                try:
                    take(rows, now_ns)
                except NOT_UNDERSTOOD:
                    is_ok = False
            gather.add(is_ok, now_ns)

        self._ctx.get(side, path, params, weight, on_answer, now_ns, is_signed=True)


class LegWalk:
    """One question for one order: its newest leg, found by client ids.

    A cancelled leg may have a successor where a replace is under way or where we do not know the order's past (a
    restart). A successor that is not found is weak evidence for some seconds: answers lag the engine.
    """

    def __init__(self, ctx: Context, live: Live, side: MarketSide, action: QueryOrder, emit_report: EmitReport) -> None:
        self._ctx = ctx
        self._live = live
        self._side = side
        self._action = action
        self._emit_report = emit_report
        self._symbol = side.by_index[action.instrument]
        order = live.orders.get(action.cl_ord_id)
        self._is_known = order is not None
        self._leg = order.leg if order is not None else 0
        self._found: tuple[OrderReport, int] | None = None

    def ask(self, now_ns: int) -> None:
        side, action = self._side, self._action
        if self._action.cl_ord_id:
            name = f"origClientOrderId={leg_text(action.cl_ord_id, self._leg)}"
        else:
            name = f"orderId={action.order_id}"
        params = f"symbol={self._symbol.instrument.symbol}&{name}"
        weight = side.weights.query_order
        self._ctx.get(side, side.paths.order, params, weight, self._on_answer, now_ns, is_signed=True)

    def _on_answer(self, answer: RestAnswer, now_ns: int) -> None:
        row = parsed(answer)
        if row is None:
            self._on_failure(failure_of_body(answer.status, answer.body), now_ns)
            return
        try:
            self._on_row(row, now_ns)
        except NOT_UNDERSTOOD as error:
            self._on_failure(Failure(0, 0, f"answer not understood: {error!r}"), now_ns)

    def _on_row(self, row: Mapping[str, Any], now_ns: int) -> None:
        index = self._symbol.instrument.index
        if self._action.cl_ord_id:
            # Of a cancelled order the row shows the cancel request's id; the one we asked for is the order's own.
            row = {**row, "origClientOrderId": leg_text(self._action.cl_ord_id, self._leg)}
        was_known = self._live.is_known(index, str(row["orderId"]))
        report, leg_cum_lots = report_from_row(self._live, self._symbol, row, ExecType.STATUS, now_ns)
        if report.cl_ord_id and not was_known:
            self._live.adopt(row, report)
        self._found = (report, leg_cum_lots)
        if report.ord_status is OrdStatus.CANCELED and self._may_have_successor():
            self._live.count(report.cl_ord_id, self._leg, leg_cum_lots)
            self._leg += 1
            self.ask(now_ns)
        else:
            self._finish(now_ns)

    def _may_have_successor(self) -> bool:
        if self._side.market is not Market.SPOT or not self._action.cl_ord_id:
            return False
        order = self._live.orders.get(self._action.cl_ord_id)
        return order.is_replacing if order is not None else not self._is_known

    def _on_failure(self, failure: Failure, now_ns: int) -> None:
        is_missing = meaning_of(self._side.market, failure) is Meaning.NOT_FOUND
        if self._found is None or not is_missing:
            self._tell(ExecType.NOT_FOUND if is_missing else ExecType.OUTCOME_UNKNOWN, failure, now_ns)
            return
        order = self._live.orders.get(self._action.cl_ord_id)
        if order is not None and order.is_replacing and now_ns - order.replaced_ns < SUCCESSOR_LAG_NS:
            self._tell(ExecType.OUTCOME_UNKNOWN, failure, now_ns)
        else:
            self._finish(now_ns)

    def _finish(self, now_ns: int) -> None:
        assert self._found is not None, "a walk ends at a leg that was found"
        report, leg_cum_lots = self._found
        order = self._live.orders.get(report.cl_ord_id)
        if order is not None and order.order_id == report.order_id:
            order.is_replacing = False
        self._emit_report(report, leg_cum_lots, now_ns)

    def _tell(self, exec_type: ExecType, failure: Failure, now_ns: int) -> None:
        action = self._action
        self._ctx.emit(
            OrderReport(
                now_ns,
                Venue.BINANCE,
                action.instrument,
                action.cl_ord_id,
                action.order_id,
                exec_type,
                OrdStatus.UNKNOWN,
                code=failure.code,
                text=failure.text,
            )
        )


class FillPages:
    """One question for fills, page by page."""

    def __init__(self, ctx: Context, live: Live, side: MarketSide, action: QueryFills, since_ms: int) -> None:
        self._ctx = ctx
        self._live = live
        self._side = side
        self._action = action
        self._symbol = side.by_index[action.instrument]
        self._from_ms = since_ms
        self._from_id = -1
        self._fills: dict[str, Fill] = {}

    def ask(self, now_ns: int) -> None:
        params = f"symbol={self._symbol.instrument.symbol}&limit={PAGE}"
        if self._from_id >= 0:
            params += f"&fromId={self._from_id}"
        else:
            params += f"&startTime={self._from_ms}&endTime={self._from_ms + _WINDOW_MS[self._side.market] - 1}"
        weight = self._side.weights.trades
        self._ctx.get(self._side, self._side.paths.trades, params, weight, self._on_page, now_ns, is_signed=True)

    def _on_page(self, answer: RestAnswer, now_ns: int) -> None:
        rows = parsed(answer)
        try:
            if rows is None:
                raise ValueError("no answer")
            for row in rows:
                fill = self._fill(row, now_ns)
                self._fills[fill.exec_id] = fill
            newest = max((int(row["id"]) for row in rows), default=-1)
        except NOT_UNDERSTOOD:
            self._finish(False, now_ns)
            return
        if rows:
            if self._from_id >= 0 and len(rows) < PAGE:
                self._finish(True, now_ns)
                return
            self._from_id = newest + 1
        else:
            self._from_ms += _WINDOW_MS[self._side.market]
            if self._from_id >= 0 or self._from_ms > self._ctx.utc_ms(self._side, now_ns):
                self._finish(True, now_ns)
                return
        self.ask(now_ns)

    def _fill(self, row: Mapping[str, Any], now_ns: int) -> Fill:
        order_id = str(row["orderId"])
        is_buyer = row["isBuyer"] if "isBuyer" in row else row["side"] == "BUY"
        return Fill(
            recv_ts_ns=now_ns,
            venue=Venue.BINANCE,
            instrument=self._action.instrument,
            cl_ord_id=self._live.owner(self._action.instrument, order_id)[0],
            order_id=order_id,
            exec_id=str(row["id"]),
            side=Side.BUY if is_buyer else Side.SELL,
            px_ticks=self._symbol.px(row["price"]),
            qty_lots=self._symbol.lots(row["qty"]),
            fee_atoms=atoms_from_text(row["commission"], round_up=True),
            fee_asset=row["commissionAsset"],
            is_maker=row["isMaker"] if "isMaker" in row else row["maker"],
            exch_ts_ns=int(row["time"]) * MS,
        )

    def _finish(self, is_ok: bool, now_ns: int) -> None:
        fills = tuple(sorted(self._fills.values(), key=lambda fill: (fill.exch_ts_ns, int(fill.exec_id))))
        action = self._action
        self._ctx.emit(Fills(now_ns, Venue.BINANCE, action.request_id, action.instrument, fills, is_ok))
