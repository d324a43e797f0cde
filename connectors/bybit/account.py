"""Private streams of Bybit, and the questions that reconcile with it.

The order stream tells where an order stands, the execution stream tells quantities and fees; nothing is promised about
their order, and nothing is sent on subscription. Fills are identified by (category, execId).

Available balance of one coin, in atoms, never below zero:
    free      = walletBalance - locked, less borrowed spot
    isolated  : free - totalPositionIM - totalOrderIM - bonus
    cross, portfolio: the smaller of free and totalAvailableBalance / price, price = usdValue / equity (in USD)
`totalAvailableBalance` is the account's, in USD over all coins: it already holds back initial margin and haircuts.
Source: https://bybit-exchange.github.io/docs/v5/websocket/private/order, /execution, /position, /wallet and
/v5/account/wallet-balance, read 2026-07-24.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Final

from connectors.bybit.context import Context
from connectors.bybit.symbols import (
    MS_TO_NS,
    ORD_TYPE,
    SIDE,
    TIME_IN_FORCE,
    atoms_of,
    decimal_of,
    lots_of,
    ns_of,
    ticks_near,
)
from connectors.bybit.trading import OrderEntry
from engine.events import (
    Balance,
    Event,
    Fill,
    FundingPaid,
    OrderReport,
    PositionReport,
    VenueRefused,
)
from engine.ids import cl_ord_id_from_text
from engine.instrument import Instrument
from engine.types import ExecType, Market, OrdStatus, OrdType, Side, TimeInForce, Venue

Row = Mapping[str, Any]

POST_ONLY_CROSSED: Final = "EC_PostOnlyWillTakeLiquidity"
NOT_FILLABLE: Final = ("EC_NoImmediateQtyToFill", "EC_CancelForNoFullFill", "EC_NoEnoughQtyToFill")
CLOSED_WORDS: Final = ("Cancelled", "PartiallyFilledCanceled", "Deactivated")
MOVES_SIZE: Final = ("Trade", "AdlTrade", "BustTrade", "BlockTrade", "MovePosition", "FutureSpread", "Delivery")
NOT_A_FILL: Final = ("Funding", "Settle")
MISREAD: Final = (KeyError, ValueError, ArithmeticError, TypeError, AttributeError)


# --- rows to events -----------------------------------------------------------------------------------------------


def status_of(row: Row) -> tuple[ExecType, OrdStatus] | None:
    """What an order row says; None for words that only pass by."""
    word, reason = row["orderStatus"], row.get("rejectReason")
    has_fills = decimal_of(row.get("cumExecQty")) > 0
    if word in ("New", "Untriggered"):
        return ExecType.NEW, OrdStatus.NEW
    if word == "PartiallyFilled":
        return ExecType.TRADE, OrdStatus.PARTIALLY_FILLED
    if word == "Filled":
        return ExecType.TRADE, OrdStatus.FILLED
    if word in CLOSED_WORDS:
        if reason == POST_ONLY_CROSSED and not has_fills:
            return ExecType.REJECTED, OrdStatus.REJECTED
        # Bybit has no "expired": the rest of an IOC and a FOK that found no match are told by the reason.
        if reason in NOT_FILLABLE:
            return ExecType.EXPIRED, OrdStatus.EXPIRED
        return ExecType.CANCELED, OrdStatus.CANCELED
    if word == "Rejected":
        return (ExecType.CANCELED, OrdStatus.CANCELED) if has_fills else (ExecType.REJECTED, OrdStatus.REJECTED)
    if word in ("Triggered", "Created"):
        return None
    return ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN


def order_report(row: Row, instrument: Instrument, now_ns: int, *, is_status: bool) -> OrderReport | None:
    """One row of the order stream, or (`is_status`) of an answer to a question."""
    told = status_of(row)
    if told is None and not is_status:
        return None
    exec_type, status = told or (ExecType.STATUS, OrdStatus.PENDING_NEW)
    if is_status and exec_type is not ExecType.OUTCOME_UNKNOWN:
        exec_type = ExecType.STATUS
    ord_type = ORD_TYPE.get(row.get("orderType", ""), OrdType.LIMIT)
    # Market orders echo the worst price that slippage may reach; nobody asked for it.
    px_ticks = ticks_near(row.get("price"), instrument) if ord_type is OrdType.LIMIT else 0
    reason, cancel = row.get("rejectReason") or "", row.get("cancelType") or ""
    words = [word for word in (reason, cancel) if word not in ("", "EC_NoError", "UNKNOWN")]
    is_in_quote = row.get("marketUnit") == "quoteCoin"
    return OrderReport(
        now_ns,
        Venue.BYBIT,
        instrument.index,
        cl_ord_id_from_text(row.get("orderLinkId") or ""),
        row["orderId"],
        exec_type,
        status,
        SIDE[row["side"]],
        ord_type,
        TIME_IN_FORCE.get(row.get("timeInForce", ""), TimeInForce.GTC),
        px_ticks,
        -1 if is_in_quote else lots_of(row["qty"], instrument),
        lots_of(row.get("cumExecQty"), instrument),
        ns_of(row.get("updatedTime")),
        0,
        " ".join(words),
    )


def fee_asset_of(row: Row, instrument: Instrument) -> str:
    """Linear: the settle coin. Spot: what was received, but a maker with a negative rate is paid in the other."""
    named = row.get("feeCurrency")
    if named:
        return str(named)
    if instrument.market is Market.LINEAR:
        return instrument.settle
    is_rebate = bool(row.get("isMaker")) and decimal_of(row.get("feeRate")) < 0
    return instrument.base if (row["side"] == "Buy") is not is_rebate else instrument.quote


def fill_of(row: Row, instrument: Instrument, now_ns: int) -> Fill:
    """`execFee` > 0 was paid. Extra fees (taxes) in the same coin are added."""
    asset = fee_asset_of(row, instrument)
    fee_atoms = atoms_of(row.get("execFee"), round_up=True)
    extra = row.get("extraFees")
    if isinstance(extra, list):
        fee_atoms += sum(atoms_of(one.get("fee"), round_up=True) for one in extra if one.get("feeCoin") == asset)
    return Fill(
        now_ns,
        Venue.BYBIT,
        instrument.index,
        cl_ord_id_from_text(row.get("orderLinkId") or ""),
        row["orderId"],
        exec_id_of(row),
        SIDE[row["side"]],
        ticks_near(row["execPrice"], instrument),
        lots_of(row["execQty"], instrument),
        fee_atoms,
        asset,
        bool(row.get("isMaker")),
        ns_of(row.get("execTime")),
    )


def exec_id_of(row: Row) -> str:
    """The venue's identity of an execution, or a made one that is the same each time the row is seen."""
    named = row.get("execId")
    if named:
        return str(named)
    return ":".join(str(row.get(name) or "") for name in ("orderId", "seq", "execTime", "execPrice", "execQty"))


def funding_of(row: Row, instrument: Instrument, now_ns: int) -> FundingPaid:
    amount = -atoms_of(row.get("execFee"), round_up=True)
    asset = str(row.get("feeCurrency") or instrument.settle)
    return FundingPaid(
        now_ns, Venue.BYBIT, instrument.index, amount, asset, exec_id_of(row), ns_of(row.get("execTime"))
    )


def position_of(row: Row, instrument: Instrument, now_ns: int) -> PositionReport:
    sign = {"Buy": Side.BUY, "Sell": Side.SELL}.get(row.get("side") or "", 0)
    return PositionReport(
        now_ns, Venue.BYBIT, instrument.index, sign * lots_of(row["size"], instrument), ns_of(row.get("updatedTime"))
    )


def balances_of(wallet: Row, margin_mode: str, exch_ts_ns: int, now_ns: int) -> list[Balance]:
    """One row of the wallet: one Balance a coin."""
    usd_text = wallet.get("totalAvailableBalance")
    usd = decimal_of(usd_text) if usd_text and margin_mode != "ISOLATED_MARGIN" else None
    return [
        Balance(
            now_ns,
            Venue.BYBIT,
            coin["coin"],
            atoms_of(coin.get("walletBalance")),
            _floor_atoms(available_of(coin, usd)),
            exch_ts_ns,
        )
        for coin in wallet["coin"]
    ]


def available_of(coin: Row, account_usd: Decimal | None) -> Decimal:
    """See the module's docstring; `account_usd` None: isolated margin."""
    free = decimal_of(coin.get("walletBalance")) - decimal_of(coin.get("locked")) - decimal_of(coin.get("spotBorrow"))
    if account_usd is None:
        margin = decimal_of(coin.get("totalPositionIM")) + decimal_of(coin.get("totalOrderIM"))
        return max(Decimal(0), free - margin - decimal_of(coin.get("bonus")))
    equity, usd_value = decimal_of(coin.get("equity")), decimal_of(coin.get("usdValue"))
    if equity > 0 and usd_value > 0:
        free = min(free, account_usd * equity / usd_value)
    return max(Decimal(0), free)


def _floor_atoms(amount: Decimal) -> int:
    return int(amount.scaleb(8).to_integral_value(ROUND_FLOOR))


# --- streams and questions ----------------------------------------------------------------------------------------


class Account:
    """The private stream."""

    def __init__(self, context: Context, entry: OrderEntry) -> None:
        self.margin_mode = ""
        self.misread = 0  # rows that were not understood
        self.foreign_rows = 0  # rows of instruments that are not configured
        self._context = context
        self._entry = entry
        self._is_hedge_told = False

    # --- streams ---

    def on_message(self, message: Row, now_ns: int) -> None:
        topic = str(message.get("topic")).split(".")[0]
        rows = message.get("data")
        handler = self._handler(topic)
        if handler is None or not isinstance(rows, list):
            return
        for row in rows:
            try:
                events = handler(row, message, now_ns)
            except MISREAD:
                events = self._misread(row, now_ns)
            for event in events:  # outside of the try: what the core makes of them is no misreading
                self._context.emit(event)

    def _handler(self, topic: str) -> Callable[[Row, Row, int], Sequence[Event]] | None:
        return {
            "order": self._on_order,
            "execution": self._on_execution,
            "position": self._on_position,
            "wallet": self._on_wallet,
        }.get(topic)

    def instrument_of(self, row: Row, category: str = "") -> Instrument | None:
        instrument = self._context.by_symbol.get((row.get("category") or category, row["symbol"]))
        if instrument is None:
            self.foreign_rows += 1
        return instrument

    def _on_order(self, row: Row, message: Row, now_ns: int) -> Sequence[Event]:
        instrument = self.instrument_of(row)
        report = None if instrument is None else order_report(row, instrument, now_ns, is_status=False)
        if report is None:
            return ()
        self._entry.order_seen(report.cl_ord_id)
        self._see_amend(report)
        return (report,)

    def _see_amend(self, report: OrderReport) -> None:
        """An amend shows as an order event with the new price and quantity."""
        if report.ord_status.is_terminal:
            self._entry.forget(report.cl_ord_id)
            return
        amend = self._entry.amends.get(report.cl_ord_id)
        if amend is not None and (report.px_ticks, report.order_qty_lots) == (amend.px_ticks, amend.qty_lots):
            self._entry.amend_seen(report.cl_ord_id)
            report.exec_type = ExecType.REPLACED

    def _on_execution(self, row: Row, message: Row, now_ns: int) -> Sequence[Event]:
        instrument = self.instrument_of(row)
        event = None if instrument is None else self.execution_event(row, instrument, now_ns)
        return () if event is None else (event,)

    def execution_event(self, row: Row, instrument: Instrument, now_ns: int) -> Fill | FundingPaid | None:
        kind = row.get("execType", "Trade")
        if kind == "Funding":
            return funding_of(row, instrument, now_ns)
        if kind not in MOVES_SIZE:
            self.misread += kind not in NOT_A_FILL
            return None  # the position stream tells what an unknown kind did
        return fill_of(row, instrument, now_ns)

    def _on_position(self, row: Row, message: Row, now_ns: int) -> Sequence[Event]:
        self.check_position_mode(row, now_ns)
        instrument = self.instrument_of(row)
        if instrument is None or row.get("positionIdx"):
            return ()
        return (position_of(row, instrument, now_ns),)

    def check_position_mode(self, row: Row, now_ns: int) -> bool:
        if row.get("positionIdx") in (1, 2):
            if not self._is_hedge_told:
                self._is_hedge_told = True
                text = f"{row.get('symbol')}: hedge mode (positionIdx {row['positionIdx']}); one-way mode is needed"
                self._context.emit(VenueRefused(now_ns, Venue.BYBIT, "mode", text))
            return False
        return True

    def _on_wallet(self, row: Row, message: Row, now_ns: int) -> Sequence[Event]:
        exch_ts_ns = int(message.get("creationTime") or 0) * MS_TO_NS
        return balances_of(row, self.margin_mode, exch_ts_ns, now_ns)

    def _misread(self, row: Any, now_ns: int) -> Sequence[Event]:
        """One bad row never hides what it was about: an order of ours is asked for, the others go on."""
        self.misread += 1
        if not isinstance(row, dict):
            return ()
        cl_ord_id = cl_ord_id_from_text(str(row.get("orderLinkId") or ""))
        instrument = self._context.by_symbol.get((str(row.get("category")), str(row.get("symbol"))))
        if not cl_ord_id or instrument is None:
            return ()
        report = OrderReport(
            now_ns, Venue.BYBIT, instrument.index, cl_ord_id, str(row.get("orderId") or ""),
            ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, text="venue's row was not understood",
        )  # fmt: skip
        return (report,)
