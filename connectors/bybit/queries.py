"""Questions that reconcile with Bybit: one order, open orders, fills, balances, positions.

Each question becomes as many requests as the venue's pages, categories and time windows need, and one answer. An answer
of which any part is missing or was not understood says so: it is never passed off as complete.
Source: https://bybit-exchange.github.io/docs/v5/order/open-order, /order/order-list, /order/execution, /position,
/account/wallet-balance, read 2026-07-24.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final
from urllib.parse import quote

from connectors.bybit import endpoints
from connectors.bybit.account import MISREAD, Account, Row, balances_of, order_report, position_of
from connectors.bybit.context import Context, Group, Reply
from connectors.bybit.symbols import MS_TO_NS
from connectors.bybit.trading import OrderEntry
from connectors.session import MS
from engine.actions import QueryBalances, QueryFills, QueryOpenOrders, QueryOrder, QueryPositions
from engine.events import Balance, Balances, Fill, Fills, OpenOrders, OrderReport, PositionReport, Positions
from engine.ids import text_from_cl_ord_id
from engine.instrument import Instrument
from engine.types import ExecType, OrdStatus, Venue

FILL_OVERLAP_MS: Final = 10_000
FILL_WINDOW_MS: Final = 7 * 86_400_000 - 1
FILL_WINDOWS_MAX: Final = 105  # two years, all that Bybit keeps
PAGES_MAX: Final = 200


class Queries:
    def __init__(self, context: Context, account: Account, entry: OrderEntry) -> None:
        self._context = context
        self._account = account
        self._entry = entry

    def get_order(self, action: QueryOrder, now_ns: int) -> None:
        """Open and recently closed orders first, the history after them: the two are not of one moment."""
        context = self._context
        instrument = context.instruments.get(action.instrument)
        if instrument is None or context.auth is None:
            self._answer_order(action, ExecType.OUTCOME_UNKNOWN, "not asked: no credentials or no instrument", now_ns)
            return
        link = text_from_cl_ord_id(action.cl_ord_id)
        ident = f"orderId={action.order_id}" if action.order_id else f"orderLinkId={link}"
        query = f"category={endpoints.CATEGORY[instrument.market]}&symbol={instrument.symbol}&{ident}"

        def on_history(reply: Reply, now_ns: int) -> None:
            self._on_order_answer(action, instrument, reply, now_ns, is_last=True)

        def on_realtime(reply: Reply, now_ns: int) -> None:
            if not self._on_order_answer(action, instrument, reply, now_ns, is_last=False):
                context.get(
                    endpoints.ORDER_HISTORY, query, on_history, now_ns, group=Group.HISTORY, market=instrument.market
                )

        context.get(
            endpoints.OPEN_ORDERS, query, on_realtime, now_ns, group=Group.OPEN_ORDERS, market=instrument.market
        )

    def _on_order_answer(
        self, action: QueryOrder, instrument: Instrument, reply: Reply, now_ns: int, *, is_last: bool
    ) -> bool:
        """True when the question is answered."""
        if not reply.is_ok:
            self._answer_order(action, ExecType.OUTCOME_UNKNOWN, f"query: {reply.code} {reply.text}", now_ns)
            return True
        link = text_from_cl_ord_id(action.cl_ord_id)
        for row in reply.rows:
            is_asked = row.get("orderId") == action.order_id if action.order_id else row.get("orderLinkId") == link
            if is_asked:
                self._answer_order_row(action, instrument, row, now_ns)
                return True
        if is_last:
            self._answer_order(action, ExecType.NOT_FOUND, "in neither open orders nor history", now_ns)
        return is_last

    def _answer_order_row(self, action: QueryOrder, instrument: Instrument, row: Row, now_ns: int) -> None:
        try:
            report = order_report(row, instrument, now_ns, is_status=True)
            assert report is not None, "a status report is never skipped"
        except MISREAD:
            self._account.misread += 1
            self._answer_order(action, ExecType.OUTCOME_UNKNOWN, "venue's row was not understood", now_ns)
            return
        report.cl_ord_id = report.cl_ord_id or action.cl_ord_id
        self._tell_amend(report)
        self._context.emit(report)

    def _tell_amend(self, report: OrderReport) -> None:
        """An amend whose order event was lost is proved by the price and quantity of a status."""
        amend = self._entry.amends.get(report.cl_ord_id)
        if amend is None or report.ord_status.is_terminal:
            return
        if (report.px_ticks, report.order_qty_lots) == (amend.px_ticks, amend.qty_lots):
            self._entry.amend_seen(report.cl_ord_id)
            replaced = OrderReport(
                report.recv_ts_ns, report.venue, report.instrument, report.cl_ord_id, report.order_id,
                ExecType.REPLACED, report.ord_status, report.side, report.ord_type, report.time_in_force,
                report.px_ticks, report.order_qty_lots, report.cum_qty_lots, report.exch_ts_ns,
            )  # fmt: skip
            self._context.emit(replaced)

    def _answer_order(self, action: QueryOrder, exec_type: ExecType, text: str, now_ns: int) -> None:
        self._context.emit(
            OrderReport(
                now_ns, Venue.BYBIT, action.instrument, action.cl_ord_id, action.order_id, exec_type,
                OrdStatus.UNKNOWN, text=text,
            )
        )  # fmt: skip

    def get_open_orders(self, action: QueryOpenOrders, now_ns: int) -> None:
        reports: list[OrderReport] = []

        def on_rows(rows: Sequence[Row], category: str, reply: Reply, now_ns: int) -> None:
            for row in rows:
                instrument = self._account.instrument_of(row, category)
                report = None if instrument is None else order_report(row, instrument, now_ns, is_status=True)
                if report is not None and not report.ord_status.is_terminal:
                    reports.append(report)

        def done(is_ok: bool, now_ns: int) -> None:
            self._context.emit(OpenOrders(now_ns, Venue.BYBIT, action.request_id, tuple(reports), is_ok))

        queries = [(category, f"category={category}{scope}&openOnly=0&limit=50") for category, scope in self._scopes()]
        self._ask(endpoints.OPEN_ORDERS, queries, Group.OPEN_ORDERS, on_rows, done, now_ns)

    def get_fills(self, action: QueryFills, now_ns: int) -> None:
        """All executions since then with an overlap, oldest first, in windows of at most seven days."""
        context = self._context
        instrument = context.instruments.get(action.instrument)
        fills: list[Fill] = []
        found: list[Row] = []

        def on_rows(rows: Sequence[Row], category: str, reply: Reply, now_ns: int) -> None:
            found.extend(rows)

        def done(is_ok: bool, now_ns: int) -> None:
            assert instrument is not None, "answered without an instrument"
            try:
                for row in sorted(found, key=lambda one: (int(one.get("execTime") or 0), int(one.get("seq") or 0))):
                    event = self._account.execution_event(row, instrument, now_ns)
                    if isinstance(event, Fill):
                        fills.append(event)
                    elif event is not None:
                        context.emit(event)
            except MISREAD:
                self._account.misread += 1
                is_ok = False
            context.emit(Fills(now_ns, Venue.BYBIT, action.request_id, action.instrument, tuple(fills), is_ok))

        if instrument is None:
            context.emit(Fills(now_ns, Venue.BYBIT, action.request_id, action.instrument, (), False))
            return
        category = endpoints.CATEGORY[instrument.market]
        prefix = f"category={category}&symbol={instrument.symbol}&limit=100"
        windows = fill_windows(action.since_exch_ts_ns // MS, context.utc_ms(now_ns))
        queries = [(category, f"{prefix}&startTime={first}&endTime={last}") for first, last in windows]
        self._ask(endpoints.EXECUTIONS, queries, Group.EXECUTIONS, on_rows, done, now_ns)

    def get_balance(self, action: QueryBalances, now_ns: int) -> None:
        balances: list[Balance] = []

        def on_rows(rows: Sequence[Row], category: str, reply: Reply, now_ns: int) -> None:
            for row in rows:
                balances.extend(balances_of(row, self._account.margin_mode, reply.time_ms * MS_TO_NS, now_ns))

        def done(is_ok: bool, now_ns: int) -> None:
            self._context.emit(Balances(now_ns, Venue.BYBIT, action.request_id, tuple(balances), is_ok))

        self._ask(endpoints.WALLET, [("linear", "accountType=UNIFIED")], Group.WALLET, on_rows, done, now_ns)

    def get_positions(self, action: QueryPositions, now_ns: int) -> None:
        positions: list[PositionReport] = []

        def on_rows(rows: Sequence[Row], category: str, reply: Reply, now_ns: int) -> None:
            for row in rows:
                if not self._account.check_position_mode(row, now_ns):
                    raise ValueError("hedge mode")
                instrument = self._account.instrument_of(row, category)
                if instrument is not None:
                    positions.append(position_of(row, instrument, now_ns))

        def done(is_ok: bool, now_ns: int) -> None:
            self._context.emit(Positions(now_ns, Venue.BYBIT, action.request_id, tuple(positions), is_ok))

        linear = [(category, scope) for category, scope in self._scopes() if category == "linear"]
        queries = [(category, f"category={category}{scope}&limit=200") for category, scope in linear]
        self._ask(endpoints.POSITIONS, queries, Group.POSITIONS, on_rows, done, now_ns)

    def _scopes(self) -> list[tuple[str, str]]:
        """(category, further parameters): linear answers only by settle coin, spot for the whole account."""
        scopes: list[tuple[str, str]] = []
        for instrument in self._context.instruments.values():
            category = endpoints.CATEGORY[instrument.market]
            scope = (category, f"&settleCoin={instrument.settle}" if category == "linear" else "")
            if scope not in scopes:
                scopes.append(scope)
        return scopes

    def _ask(
        self,
        path: str,
        queries: Iterable[tuple[str, str]],
        group: Group,
        on_rows: Callable[[Sequence[Row], str, Reply, int], None],
        done: Callable[[bool, int], None],
        now_ns: int,
    ) -> None:
        """All pages of all queries; `done` once, False when any was not answered or not understood."""
        waiting = list(queries)
        if self._context.auth is None or not waiting:
            done(self._context.auth is not None, now_ns)
            return
        question = _Question(self._context, self._account, path, group, on_rows, done, len(waiting))
        for category, query in waiting:
            question.ask(category, query, "", 1, now_ns)


class _Question:
    """One question of several pages and categories."""

    def __init__(
        self,
        context: Context,
        account: Account,
        path: str,
        group: Group,
        on_rows: Callable[[Sequence[Row], str, Reply, int], None],
        done: Callable[[bool, int], None],
        parts: int,
    ) -> None:
        self._context = context
        self._account = account
        self._path = path
        self._group = group
        self._on_rows = on_rows
        self._done = done
        self._open_parts = parts
        self._is_ok = True

    def ask(self, category: str, query: str, cursor: str, page: int, now_ns: int) -> None:
        # The cursor comes percent-encoded already; it goes back as it came.
        full = f"{query}&cursor={quote(cursor, safe='%')}" if cursor else query

        def on_reply(reply: Reply, now_ns: int) -> None:
            self._on_reply(category, query, page, reply, now_ns)

        market = endpoints.MARKET[category]
        self._context.get(self._path, full, on_reply, now_ns, group=self._group, market=market)

    def _on_reply(self, category: str, query: str, page: int, reply: Reply, now_ns: int) -> None:
        is_ok = reply.is_ok
        if is_ok:
            try:
                self._on_rows(reply.rows, category, reply, now_ns)
            except MISREAD:
                self._account.misread += 1
                is_ok = False
        if is_ok and reply.cursor and reply.rows:
            if page < PAGES_MAX:
                self.ask(category, query, reply.cursor, page + 1, now_ns)
                return
            is_ok = False
        self._is_ok = self._is_ok and is_ok
        self._open_parts -= 1
        if self._open_parts == 0:
            self._done(self._is_ok, now_ns)


def fill_windows(since_ms: int, now_ms: int) -> list[tuple[int, int]]:
    """[start, end] in ms from a little before `since_ms` to now; 0: the last seven days."""
    first = since_ms - FILL_OVERLAP_MS if since_ms > 0 else now_ms - FILL_WINDOW_MS + FILL_OVERLAP_MS
    first = max(first, now_ms - FILL_WINDOWS_MAX * FILL_WINDOW_MS)
    end = now_ms + FILL_OVERLAP_MS  # the venue's clock may be ahead of ours
    windows = []
    while first < end:
        last = min(first + FILL_WINDOW_MS, end)
        windows.append((first, last))
        first = last + 1
    return windows
