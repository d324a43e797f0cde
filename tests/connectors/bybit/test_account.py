"""Private streams and reconciliation: rows to events, in any order and any number of times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from connectors.bybit import endpoints
from connectors.bybit.endpoints import PRIVATE, TRADE
from engine.actions import (
    AmendOrder,
    PlaceOrder,
    QueryFills,
    QueryOrder,
)
from engine.events import (
    Balance,
    Fill,
    FundingPaid,
    OrderReport,
    PositionReport,
    VenueRefused,
)
from engine.types import ExecType, OrdStatus, OrdType, Side, TimeInForce, Venue
from tests.connectors.bybit.bybit_rows import COIN, EXECUTION, FRAMES, ID, LINK, ORDER, recorded

MS, SECOND = 1_000_000, 1_000_000_000
UTC_MS = 1_763_800_000_000
LINEAR, SPOT = 0, 1


def stream(world: Any, topic: str, *rows: Any) -> list[Any]:
    world.frame(PRIVATE, {"id": "u1", "topic": topic, "creationTime": UTC_MS, "data": list(rows)})
    return world.take()


def order_event(world: Any, **fields: Any) -> OrderReport:
    (event,) = stream(world, "order", {**ORDER, **fields})
    return event


# --- order stream -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "exec_type", "status"),
    [
        ({}, ExecType.NEW, OrdStatus.NEW),
        ({"orderStatus": "Untriggered"}, ExecType.NEW, OrdStatus.NEW),
        ({"orderStatus": "PartiallyFilled", "cumExecQty": "0.004"}, ExecType.TRADE, OrdStatus.PARTIALLY_FILLED),
        ({"orderStatus": "Filled", "cumExecQty": "0.010"}, ExecType.TRADE, OrdStatus.FILLED),
        ({"orderStatus": "Cancelled", "cancelType": "CancelByUser"}, ExecType.CANCELED, OrdStatus.CANCELED),
        ({"orderStatus": "Cancelled", "cumExecQty": "0.004"}, ExecType.CANCELED, OrdStatus.CANCELED),
        ({"orderStatus": "PartiallyFilledCanceled", "cumExecQty": "0.004"}, ExecType.CANCELED, OrdStatus.CANCELED),
        ({"orderStatus": "Deactivated"}, ExecType.CANCELED, OrdStatus.CANCELED),
        (
            {"orderStatus": "Cancelled", "rejectReason": "EC_PostOnlyWillTakeLiquidity"},
            ExecType.REJECTED,
            OrdStatus.REJECTED,
        ),
        (
            {"orderStatus": "Cancelled", "rejectReason": "EC_NoImmediateQtyToFill", "cumExecQty": "0.004"},
            ExecType.EXPIRED,
            OrdStatus.EXPIRED,
        ),
        ({"orderStatus": "Cancelled", "rejectReason": "EC_CancelForNoFullFill"}, ExecType.EXPIRED, OrdStatus.EXPIRED),
        ({"orderStatus": "Rejected", "rejectReason": "EC_Other"}, ExecType.REJECTED, OrdStatus.REJECTED),
        ({"orderStatus": "Rejected", "cumExecQty": "0.004"}, ExecType.CANCELED, OrdStatus.CANCELED),
        ({"orderStatus": "WordOfTomorrow"}, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN),
    ],
)
def test_status_words(live: Any, fields: dict[str, str], exec_type: ExecType, status: OrdStatus) -> None:
    event = order_event(live, **fields)
    assert (event.exec_type, event.ord_status) == (exec_type, status)
    assert event.cum_qty_lots == int(1000 * float(fields.get("cumExecQty", "0")))


def test_order_event_in_full(live: Any) -> None:
    event = order_event(live, orderStatus="Cancelled", cancelType="CancelBySmp", rejectReason="EC_BySelfMatch")
    assert event == OrderReport(
        live.now_ns, Venue.BYBIT, LINEAR, ID, "V1", ExecType.CANCELED, OrdStatus.CANCELED, Side.BUY, OrdType.LIMIT,
        TimeInForce.GTC, 250_000, 10, 0, 1_763_800_000_018 * MS, 0, "EC_BySelfMatch CancelBySmp",
    )  # fmt: skip


def test_triggered_only_passes_by(live: Any) -> None:
    assert stream(live, "order", {**ORDER, "orderStatus": "Triggered"}) == []


def test_second_filled_after_a_late_cancel_says_the_same_again(live: Any) -> None:
    first = order_event(live, orderStatus="Filled", cumExecQty="0.010")
    second = order_event(
        live, orderStatus="Filled", cumExecQty="0.010", cancelType="CancelByUser",
        rejectReason="EC_OrigClOrdIDDoesNotExist",
    )  # fmt: skip
    assert (first.ord_status, first.cum_qty_lots) == (second.ord_status, second.cum_qty_lots) == (OrdStatus.FILLED, 10)


def test_price_that_a_market_order_echoes_was_never_asked_for(live: Any) -> None:
    assert order_event(live, orderType="Market", price="26250.0", timeInForce="IOC").px_ticks == 0


def test_foreign_order_has_no_identifier_of_ours(live: Any) -> None:
    for link in ("", "my-order", "tw12", None):
        assert order_event(live, orderLinkId=link).cl_ord_id == 0


def test_rows_of_other_instruments_are_counted_not_told(live: Any) -> None:
    assert stream(live, "order", {**ORDER, "symbol": "ETHUSDT"}, {**ORDER, "category": "inverse"}) == []
    assert live.connector.account.foreign_rows == 2


def test_one_bad_row_does_not_hide_the_others(live: Any) -> None:
    bad = {**ORDER, "qty": "0.0105"}  # between two lots
    events = stream(live, "order", bad, None, {"symbol": 5}, ORDER)
    assert [(one.exec_type, one.cl_ord_id) for one in events] == [(ExecType.OUTCOME_UNKNOWN, ID), (ExecType.NEW, ID)]
    assert (live.connector.account.misread, live.connector.account.foreign_rows) == (2, 1)


def test_categorised_topics_are_the_same_topics(live: Any) -> None:
    assert len(stream(live, "order.linear", ORDER)) == 1
    assert stream(live, "dcp.future", {"x": 1}) == []


# --- races ------------------------------------------------------------------------------------------------------------


def place(world: Any) -> dict[str, Any]:
    action = PlaceOrder(Venue.BYBIT, LINEAR, ID, Side.BUY, OrdType.LIMIT, 250_000, 10, TimeInForce.GTC)
    world.connector.place_order(action, world.now_ns)
    return world.last_sent(TRADE)


def acknowledge(world: Any, request: dict[str, Any]) -> list[Any]:
    data = {"orderId": "V1", "orderLinkId": LINK}
    world.frame(TRADE, {"reqId": request["reqId"], "retCode": 0, "op": "order.create", "data": data})
    return world.take()


def test_fill_before_the_acknowledgement_names_our_order(live: Any) -> None:
    request = place(live)
    (fill,) = stream(live, "execution", EXECUTION)
    assert (fill.cl_ord_id, fill.order_id, fill.qty_lots) == (ID, "V1", 4)
    (ack,) = acknowledge(live, request)
    assert ack.exec_type is ExecType.PENDING_NEW


def test_acknowledgement_after_filled_is_still_only_an_acknowledgement(live: Any) -> None:
    request = place(live)
    order_event(live, orderStatus="Filled", cumExecQty="0.010")
    (ack,) = acknowledge(live, request)
    assert (ack.exec_type, ack.ord_status, ack.cum_qty_lots) == (ExecType.PENDING_NEW, OrdStatus.PENDING_NEW, -1)


def test_fill_after_the_cancel_is_told(live: Any) -> None:
    order_event(live, orderStatus="Cancelled", cumExecQty="0.004")
    (fill,) = stream(live, "execution", EXECUTION)
    assert (fill.exec_id, fill.qty_lots) == ("E1", 4)


def test_same_execution_has_the_same_identity_from_stream_and_rest(live: Any) -> None:
    (first,) = stream(live, "execution", EXECUTION)
    (second,) = stream(live, "execution", EXECUTION)
    live.connector.get_fills(QueryFills(Venue.BYBIT, 7, LINEAR, UTC_MS * MS), live.now_ns)
    row = {key: value for key, value in EXECUTION.items() if key != "category"}
    live.answers[endpoints.EXECUTIONS] = {"list": [row], "nextPageCursor": ""}
    live.answer_requests()
    (answer,) = live.take()
    (third,) = answer.fills
    assert first == second == third


def test_amend_is_seen_by_its_price_and_quantity(live: Any) -> None:
    live.connector.amend_order(AmendOrder(Venue.BYBIT, LINEAR, ID, "V1", Side.BUY, 249_990, 20), live.now_ns)
    old = order_event(live, orderStatus="PartiallyFilled", cumExecQty="0.004")
    assert old.exec_type is ExecType.TRADE
    new = order_event(live, orderStatus="PartiallyFilled", cumExecQty="0.004", price="24999.0", qty="0.020")
    assert (new.exec_type, new.px_ticks, new.order_qty_lots) == (ExecType.REPLACED, 249_990, 20)
    assert order_event(live, price="24999.0", qty="0.020").exec_type is ExecType.NEW
    live.run(4 * SECOND)
    assert not live.of(OrderReport)


def test_lost_amend_event_is_made_up_for_by_a_query(live: Any) -> None:
    live.connector.amend_order(AmendOrder(Venue.BYBIT, LINEAR, ID, "V1", Side.BUY, 249_990, 20), live.now_ns)
    live.answers[endpoints.OPEN_ORDERS] = {"list": [{**ORDER, "price": "24999.0", "qty": "0.020"}]}
    live.connector.get_order(QueryOrder(Venue.BYBIT, LINEAR, ID, "V1"), live.now_ns)
    live.answer_requests()
    assert [event.exec_type for event in live.take()] == [ExecType.REPLACED, ExecType.STATUS]


# --- executions -------------------------------------------------------------------------------------------------------


def test_fill_in_full(live: Any) -> None:
    assert stream(live, "execution", EXECUTION) == [
        Fill(
            live.now_ns, Venue.BYBIT, LINEAR, ID, "V1", "E1", Side.BUY, 250_000, 4, 2_000_000, "USDT", True,
            1_763_800_000_018 * MS,
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "asset", "atoms"),
    [
        ({"side": "Buy"}, "BTC", 2_000_000),
        ({"side": "Sell"}, "USDT", 2_000_000),
        ({"side": "Buy", "execFee": "-0.02", "feeRate": "-0.0001"}, "USDT", -2_000_000),
        ({"side": "Sell", "execFee": "-0.02", "feeRate": "-0.0001"}, "BTC", -2_000_000),
        ({"side": "Buy", "isMaker": False, "feeRate": "-0.0001"}, "BTC", 2_000_000),
        ({"side": "Sell", "feeCurrency": "MNT"}, "MNT", 2_000_000),
        ({"side": "Buy", "execFee": "0.000000001"}, "BTC", 1),  # a cost is rounded up
        ({"side": "Buy", "extraFees": [{"feeCoin": "BTC", "fee": "0.01"}]}, "BTC", 3_000_000),
    ],
)
def test_fee_of_a_spot_fill(live: Any, fields: dict[str, Any], asset: str, atoms: int) -> None:
    row = {**EXECUTION, "category": "spot", "feeCurrency": "", **fields}
    (fill,) = stream(live, "execution", row)
    assert (fill.instrument, fill.fee_asset, fill.fee_atoms) == (SPOT, asset, atoms)


def test_funding_is_no_fill(live: Any) -> None:
    row = {**EXECUTION, "execType": "Funding", "execFee": "0.5", "orderType": "UNKNOWN", "execId": "F1"}
    assert stream(live, "execution", row) == [
        FundingPaid(live.now_ns, Venue.BYBIT, LINEAR, -50_000_000, "USDT", "F1", 1_763_800_000_018 * MS)
    ]


@pytest.mark.parametrize("kind", ["AdlTrade", "BustTrade", "BlockTrade", "MovePosition", "Delivery"])
def test_executions_that_move_size_are_fills(live: Any, kind: str) -> None:
    assert len(stream(live, "execution", {**EXECUTION, "execType": kind, "orderLinkId": ""})) == 1


@pytest.mark.parametrize("kind", ["Settle", "KindOfTomorrow"])
def test_executions_that_may_not_move_size_are_not(live: Any, kind: str) -> None:
    assert stream(live, "execution", {**EXECUTION, "execType": kind}) == []


def test_price_off_the_grid_is_the_nearest_tick(live: Any) -> None:
    (fill,) = stream(live, "execution", {**EXECUTION, "execType": "BustTrade", "execPrice": "24999.96"})
    assert fill.px_ticks == 250_000


def test_missing_execution_identity_is_made_the_same_each_time(live: Any) -> None:
    row = {**EXECUTION, "execId": ""}
    (first,) = stream(live, "execution", row)
    (second,) = stream(live, "execution", row)
    assert first.exec_id == second.exec_id == "V1:5:1763800000018:25000:0.004"


# --- positions and balances -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "size", "lots"), [("Buy", "0.5", 500), ("Sell", "0.01", -10), ("", "0", 0)])
def test_position_is_signed(live: Any, side: str, size: str, lots: int) -> None:
    row = {
        "category": "linear", "symbol": "BTCUSDT", "positionIdx": 0, "side": side, "size": size, "updatedTime": "7",
    }  # fmt: skip
    assert stream(live, "position", row) == [PositionReport(live.now_ns, Venue.BYBIT, LINEAR, lots, 7 * MS)]


def test_hedge_mode_switched_on_by_hand_refuses_the_venue_once(live: Any) -> None:
    row = {"category": "linear", "symbol": "BTCUSDT", "positionIdx": 1, "side": "Buy", "size": "1", "updatedTime": "7"}
    (event,) = stream(live, "position", row)
    assert isinstance(event, VenueRefused)
    assert event.category == "mode"
    assert stream(live, "position", {**row, "positionIdx": 2}) == []


@pytest.mark.parametrize(
    ("mode", "account_usd", "fields", "available"),
    [
        ("REGULAR_MARGIN", "5000", {}, 900),
        ("REGULAR_MARGIN", "499.5", {}, 500),  # the account's USD at 0.999 each
        ("PORTFOLIO_MARGIN", "499.5", {}, 500),
        ("ISOLATED_MARGIN", "", {}, 845),
        ("REGULAR_MARGIN", "5000", {"locked": "1001"}, 0),
        ("REGULAR_MARGIN", "5000", {"spotBorrow": "400"}, 500),
        ("REGULAR_MARGIN", "5000", {"equity": "0", "usdValue": "0"}, 900),
        ("REGULAR_MARGIN", "5000", {"locked": "", "spotBorrow": None}, 1000),
    ],
)
def test_available_balance(live: Any, mode: str, account_usd: str, fields: dict[str, Any], available: int) -> None:
    live.connector.account.margin_mode = mode
    wallet = {"totalAvailableBalance": account_usd, "coin": [{**COIN, **fields}]}
    (event,) = stream(live, "wallet", wallet)
    assert event == Balance(live.now_ns, Venue.BYBIT, "USDT", 1_000 * 10**8, available * 10**8, UTC_MS * MS)


# --- recorded frames --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "ws_account_order.json", "ws_account_order_filled.json", "ws_account_order_partially_filled_rejected.json",
        "ws_account_order_stop_loss.json", "ws_account_order_take_profit.json", "ws_account_order_stop_limit.json",
        "ws_account_order_buy_stop_market.json", "ws_account_execution.json", "ws_account_execution_adl.json",
        "ws_account_position.json", "ws_account_position_short.json",
        "ws_account_wallet.json", "ws_account_wallet_small_order.json", "ws_account_wallet_locked_exceeds_total.json",
    ],
)  # fmt: skip
def test_recorded_private_frame_is_understood(captures: Path, wide: Any, name: str) -> None:
    message = recorded(captures, name)
    wide.frame(PRIVATE, message)
    assert wide.connector.account.misread == 0
    known = [row for row in message["data"] if "symbol" not in row or row["symbol"] in {
        one.symbol for one in wide.connector.instruments.values()
    }]  # fmt: skip
    assert len(wide.events) >= len(known)
    for event in wide.of(OrderReport):
        assert event.ord_status is not OrdStatus.UNKNOWN
    for event in wide.of(Balance):
        assert 0 <= event.available_atoms <= max(0, event.total_atoms)


def test_recorded_partial_reject_is_a_cancel(captures: Path, wide: Any) -> None:
    wide.frame(PRIVATE, recorded(captures, "ws_account_order_partially_filled_rejected.json"))
    (event,) = wide.of(OrderReport)
    assert (event.ord_status, event.order_qty_lots, event.cum_qty_lots) == (OrdStatus.CANCELED, 1_000_000, 500_000)


WRONG = (None, "", "x", "-1", "1e400", "NaN", 7, -1, 1.5, [], {}, True, "9" * 40)


@pytest.mark.parametrize("channel", [PRIVATE, TRADE, endpoints.PUBLIC_LINEAR, endpoints.PUBLIC_SPOT])
def test_no_prefix_of_a_recorded_frame_raises(captures: Path, wide: Any, channel: int) -> None:
    for path in sorted((captures / FRAMES).glob("ws_*.json")):
        payload = orjson.dumps(orjson.loads(path.read_bytes()))
        for end in range(0, len(payload) + 1, 3):
            wide.frame(channel, payload[:end])
            wide.events.clear()


@pytest.mark.parametrize(("topic", "row"), [("order", ORDER), ("execution", EXECUTION)])
def test_no_field_of_a_row_raises_whatever_it_holds(live: Any, topic: str, row: dict[str, Any]) -> None:
    for name in row:
        for wrong in WRONG:
            stream(live, topic, {**row, name: wrong})
        stream(live, topic, {key: value for key, value in row.items() if key != name})
    for wrong in WRONG:
        stream(live, topic, wrong)
        live.frame(PRIVATE, {"topic": topic, "data": wrong})
        live.frame(PRIVATE, {"topic": wrong, "data": [row]})


def test_no_field_of_a_wallet_or_position_raises_whatever_it_holds(live: Any) -> None:
    position = {"category": "linear", "symbol": "BTCUSDT", "positionIdx": 0, "side": "Buy", "size": "1"}
    for name in position:
        for wrong in WRONG:
            stream(live, "position", {**position, name: wrong})
    for name in COIN:
        for wrong in WRONG:
            stream(live, "wallet", {"totalAvailableBalance": "1", "coin": [{**COIN, name: wrong}]})
    for wrong in WRONG:
        stream(live, "wallet", {"totalAvailableBalance": wrong, "coin": [COIN]})
        stream(live, "wallet", {"totalAvailableBalance": "1", "coin": wrong})
