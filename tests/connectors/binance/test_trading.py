"""Orders: what is sent, and what every kind of answer, silence and loss becomes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from connectors.binance.endpoints import SPOT_API, USDM_API
from engine.actions import AmendOrder, CancelAll, CancelOrder
from engine.events import Fill, OrderReport, VenueNotice, VenueRefused
from engine.types import ExecType, OrdStatus, OrdType, Side, TimeInForce, Venue
from tests.connectors.binance.binance_world import (
    OUR_ID,
    OUR_TEXT,
    PERP_INDEX,
    SPOT_INDEX,
    Binance,
    error,
    execution,
    order,
    order_update,
    spot_result,
    usdm_result,
)
from tests.connectors.fake_wire import MS, SECOND

SECOND_LEG = f"{OUR_TEXT}-1"


@pytest.fixture
def venue() -> Binance:
    made = Binance().start()
    made.events.clear()
    made.asked.clear()
    made.wire.log.clear()
    return made


def only(venue: Binance) -> OrderReport:
    (report,) = venue.take(OrderReport)
    return report


def place_spot(venue: Binance, **changes: Any) -> None:
    venue.api_answers["order.place"] = spot_result
    venue.place(SPOT_INDEX, **changes)


def cancel(venue: Binance, instrument: int = SPOT_INDEX, order_id: str = "") -> None:
    venue.connector.cancel_order(CancelOrder(Venue.BINANCE, instrument, OUR_ID, order_id), venue.world.now_ns)
    venue.world.settle()


def amend(venue: Binance, px_ticks: int, qty_lots: int, instrument: int = SPOT_INDEX) -> None:
    action = AmendOrder(Venue.BINANCE, instrument, OUR_ID, "", Side.BUY, px_ticks, qty_lots)
    venue.connector.amend_order(action, venue.world.now_ns)
    venue.world.settle()


# --- what is sent ---


@pytest.mark.parametrize(
    ("instrument", "changes", "expected"),
    [
        (SPOT_INDEX, {}, {"type": "LIMIT", "timeInForce": "GTC", "price": "25000.00", "quantity": "0.01000",
                          "newOrderRespType": "RESULT", "selfTradePreventionMode": "EXPIRE_MAKER"}),
        (SPOT_INDEX, {"post_only": True}, {"type": "LIMIT_MAKER", "timeInForce": None}),
        (SPOT_INDEX, {"time_in_force": TimeInForce.IOC, "side": Side.SELL}, {"timeInForce": "IOC", "side": "SELL"}),
        (SPOT_INDEX, {"ord_type": OrdType.MARKET}, {"type": "MARKET", "price": None, "timeInForce": None}),
        (SPOT_INDEX, {"reduce_only": True}, {"reduceOnly": None}),
        (PERP_INDEX, {}, {"type": "LIMIT", "timeInForce": "GTC", "price": "25000.0", "quantity": "0.010",
                          "newOrderRespType": "ACK", "reduceOnly": None}),
        (PERP_INDEX, {"post_only": True}, {"timeInForce": "GTX", "newOrderRespType": "RESULT",
                                           "selfTradePreventionMode": None}),
        (PERP_INDEX, {"reduce_only": True, "time_in_force": TimeInForce.IOC},
         {"reduceOnly": "true", "timeInForce": "IOC", "newOrderRespType": "RESULT"}),
    ],
)  # fmt: skip
def test_order_becomes_the_venues_parameters(
    venue: Binance, instrument: int, changes: dict[str, Any], expected: dict[str, str | None]
) -> None:
    venue.place(instrument, **changes)
    ((channel, request),) = venue.api_requests
    assert channel == (SPOT_API if instrument == SPOT_INDEX else USDM_API)
    assert request["method"] == "order.place"
    params = request["params"]
    assert params["newClientOrderId"] == OUR_TEXT
    assert params["symbol"] == "BTCUSDT"
    for name, value in expected.items():
        assert params.get(name) == value, name


def test_order_is_timed_by_the_venues_clock() -> None:
    venue = Binance()
    venue.skew_ns = -400 * MS
    venue.start()
    venue.place()
    sent_ms = venue.utc_ms(venue.world.now_ns - venue.world.rtt_ns)
    assert abs(venue.api_requests[0][1]["params"]["timestamp"] - sent_ms) <= 1


@pytest.mark.parametrize(
    "changes", [{"time_in_force": TimeInForce.GTD}, {"post_only": True, "time_in_force": TimeInForce.IOC}]
)
def test_order_that_the_venue_does_not_have_is_refused_here(venue: Binance, changes: dict[str, Any]) -> None:
    venue.place(**changes)
    report = only(venue)
    assert (report.exec_type, report.ord_status) == (ExecType.REJECTED, OrdStatus.REJECTED)
    assert venue.api_requests == []


# --- what answers become ---


def test_spot_result_proves_that_the_order_rests(venue: Binance) -> None:
    place_spot(venue)
    report = only(venue)
    assert (report.exec_type, report.ord_status) == (ExecType.NEW, OrdStatus.NEW)
    assert (report.cl_ord_id, report.order_id) == (OUR_ID, "28")
    assert (report.px_ticks, report.order_qty_lots, report.cum_qty_lots) == (2_500_000, 1_000, 0)


def test_usdm_ack_only_says_that_the_venue_has_it(venue: Binance) -> None:
    venue.api_answers["order.place"] = usdm_result
    venue.place(PERP_INDEX)
    report = only(venue)
    assert (report.exec_type, report.ord_status, report.order_id) == (
        ExecType.PENDING_NEW,
        OrdStatus.PENDING_NEW,
        "8886774",
    )


@pytest.mark.parametrize("instrument", [SPOT_INDEX, PERP_INDEX])
def test_ioc_that_found_nothing_expires_in_its_answer(venue: Binance, instrument: int) -> None:
    made = spot_result if instrument == SPOT_INDEX else usdm_result
    venue.api_answers["order.place"] = lambda request: made(request, status="EXPIRED", timeInForce="IOC")
    venue.place(instrument, time_in_force=TimeInForce.IOC)
    report = only(venue)
    assert (report.exec_type, report.ord_status, report.cum_qty_lots) == (ExecType.EXPIRED, OrdStatus.EXPIRED, 0)
    assert venue.connector.live.orders == {}


@pytest.mark.parametrize(
    ("instrument", "status", "code", "text", "exec_type"),
    [
        (SPOT_INDEX, 400, -2010, "Account has insufficient balance for requested action.", ExecType.REJECTED),
        (SPOT_INDEX, 400, -1013, "Filter failure: LOT_SIZE", ExecType.REJECTED),
        (SPOT_INDEX, 400, -2010, "Duplicate order sent.", ExecType.OUTCOME_UNKNOWN),
        (SPOT_INDEX, 500, -1007, "Timeout waiting for response from backend server.", ExecType.OUTCOME_UNKNOWN),
        (SPOT_INDEX, 400, -1006, "An unexpected response was received.", ExecType.OUTCOME_UNKNOWN),
        (SPOT_INDEX, 503, -1008, "Server is currently overloaded with other requests.", ExecType.REJECTED),
        (SPOT_INDEX, 502, 0, "", ExecType.OUTCOME_UNKNOWN),
        (PERP_INDEX, 400, -2019, "Margin is insufficient.", ExecType.REJECTED),
        (PERP_INDEX, 400, -2022, "ReduceOnly Order is rejected.", ExecType.REJECTED),
        (PERP_INDEX, 400, -2021, "Order would immediately trigger.", ExecType.REJECTED),
        (PERP_INDEX, 400, -5022, "Due to the order could not be executed as maker.", ExecType.REJECTED),
        (PERP_INDEX, 400, -4116, "ClientOrderId is duplicated.", ExecType.OUTCOME_UNKNOWN),
        (PERP_INDEX, 503, -1000, "Unknown error, please check your request or try again later.",
         ExecType.OUTCOME_UNKNOWN),
    ],
)  # fmt: skip
def test_error_of_a_new_order_is_a_refusal_only_where_the_venue_says_so(
    venue: Binance, instrument: int, status: int, code: int, text: str, exec_type: ExecType
) -> None:
    venue.api_answers["order.place"] = lambda request: error(status, code, text)
    venue.place(instrument)
    report = only(venue)
    assert report.exec_type is exec_type
    assert (report.code, report.text) == (code, text)
    is_over = exec_type is ExecType.REJECTED
    assert (OUR_ID not in venue.connector.live.orders) is is_over


def test_silence_is_unknown_after_the_timeout_and_a_late_answer_still_counts(venue: Binance) -> None:
    venue.place()
    venue.world.run(1_400 * MS)
    assert venue.of(OrderReport) == []
    venue.world.run(300 * MS)
    assert only(venue).exec_type is ExecType.OUTCOME_UNKNOWN
    request = venue.api_requests[0][1]
    venue.world.frame(SPOT_API, orjson.dumps({"id": request["id"], **spot_result(request)}))
    assert only(venue).exec_type is ExecType.NEW
    venue.world.frame(SPOT_API, orjson.dumps({"id": request["id"], **spot_result(request)}))
    assert venue.of(OrderReport) == []


def test_lost_order_channel_makes_everything_under_way_unknown(venue: Binance) -> None:
    venue.place(cl_ord_id=OUR_ID)
    venue.place(cl_ord_id=OUR_ID + 1)
    venue.place(PERP_INDEX, cl_ord_id=OUR_ID + 2)
    venue.world.drop(SPOT_API)
    reports = venue.take(OrderReport)
    assert [(report.cl_ord_id, report.exec_type) for report in reports] == [
        (OUR_ID, ExecType.OUTCOME_UNKNOWN),
        (OUR_ID + 1, ExecType.OUTCOME_UNKNOWN),
    ]


def test_orders_take_the_rest_route_while_the_channel_is_down(venue: Binance) -> None:
    venue.world.drop(SPOT_API)
    venue.events.clear()
    venue.routes["POST /api/v3/order"] = lambda asked, now_ns: spot_result({"params": asked.query})["result"]
    venue.place()
    (asked,) = venue.requests_to("/api/v3/order")
    assert asked.method == "POST"
    assert asked.query["newClientOrderId"] == OUR_TEXT
    assert re.fullmatch("[0-9a-f]{64}", asked.query["signature"])
    assert asked.headers == {"X-MBX-APIKEY": "demo-key-binance-0001"}
    assert only(venue).exec_type is ExecType.NEW


@pytest.mark.parametrize(
    ("answer", "exec_type"),
    [
        ((0, {}, b"timeout"), ExecType.OUTCOME_UNKNOWN),
        ((504, {}, b"<html>"), ExecType.OUTCOME_UNKNOWN),
        ((200, {}, b"<html>"), ExecType.OUTCOME_UNKNOWN),
        ((400, {}, b'{"code":-1013,"msg":"Filter failure: LOT_SIZE"}'), ExecType.REJECTED),
        ((403, {}, b"<html>"), ExecType.REJECTED),
    ],
)
def test_rest_route_never_takes_a_lost_answer_for_a_refusal(venue: Binance, answer: Any, exec_type: ExecType) -> None:
    venue.world.drop(SPOT_API)
    venue.events.clear()
    venue.routes["POST /api/v3/order"] = lambda asked, now_ns: answer
    venue.place()
    assert only(venue).exec_type is exec_type
    assert len(venue.requests_to("/api/v3/order")) == 1


# --- cancels ---


def test_cancel_names_the_number_once_it_is_known(venue: Binance) -> None:
    venue.place()
    cancel(venue)
    assert venue.api_requests[-1][1]["params"]["origClientOrderId"] == OUR_TEXT
    place_spot(venue, cl_ord_id=OUR_ID + 1)
    venue.connector.live.remove(OUR_ID)
    cancel(venue, order_id="77")
    assert venue.api_requests[-1][1]["params"]["orderId"] == 77


def test_cancel_answer_ends_the_order_with_what_it_executed(venue: Binance) -> None:
    place_spot(venue)
    venue.events.clear()
    venue.api_answers["order.cancel"] = lambda request: spot_result(
        {"params": {}}, origClientOrderId=OUR_TEXT, clientOrderId="91fe37ce9e69c90d6358c0", status="CANCELED",
        executedQty="0.00400000", price="25000.00000000", origQty="0.01000000",
    )  # fmt: skip
    cancel(venue)
    report = only(venue)
    assert (report.cl_ord_id, report.exec_type, report.cum_qty_lots) == (OUR_ID, ExecType.CANCELED, 400)


def test_cancel_of_an_order_that_is_not_open_proves_nothing_about_it(venue: Binance) -> None:
    place_spot(venue)
    venue.events.clear()
    venue.api_answers["order.cancel"] = lambda request: error(400, -2011, "Unknown order sent.")
    cancel(venue)
    report = only(venue)
    assert (report.exec_type, report.ord_status, report.code) == (ExecType.CANCEL_REJECTED, OrdStatus.UNKNOWN, -2011)
    assert OUR_ID in venue.connector.live.orders


def test_cancel_without_an_answer_is_unknown(venue: Binance) -> None:
    place_spot(venue)
    venue.events.clear()
    cancel(venue)
    venue.world.run(2 * SECOND)
    assert only(venue).exec_type is ExecType.OUTCOME_UNKNOWN


def test_cancel_all_reports_every_order_it_ended_ours_and_foreign(venue: Binance) -> None:
    place_spot(venue)
    venue.events.clear()
    rows = [
        spot_result({"params": {}}, origClientOrderId=OUR_TEXT, status="CANCELED", price="25000.00")["result"],
        spot_result({"params": {}}, origClientOrderId="web_1", status="CANCELED", orderId=29, price="1.00")["result"],
    ]
    venue.api_answers["openOrders.cancelAll"] = lambda request: {"status": 200, "result": rows}
    venue.connector.cancel_all(CancelAll(Venue.BINANCE, SPOT_INDEX), venue.world.now_ns)
    venue.world.settle()
    assert [(report.cl_ord_id, report.order_id) for report in venue.take(OrderReport)] == [(OUR_ID, "28"), (0, "29")]


def test_usdm_cancel_all_goes_over_rest_and_is_repeated_until_answered(venue: Binance) -> None:
    answers: list[Any] = [(0, {}, b"reset"), {"code": 200, "msg": "The operation of cancel all open order is done."}]
    venue.routes["DELETE /fapi/v1/allOpenOrders"] = lambda asked, now_ns: answers.pop(0)
    venue.connector.cancel_all(CancelAll(Venue.BINANCE, PERP_INDEX), venue.world.now_ns)
    venue.world.run(2 * SECOND)
    assert len(venue.requests_to("/fapi/v1/allOpenOrders")) == 2


# --- amends ---


def test_usdm_amend_is_a_modify(venue: Binance) -> None:
    venue.api_answers["order.place"] = usdm_result
    venue.place(PERP_INDEX)
    venue.events.clear()
    venue.api_answers["order.modify"] = usdm_result
    amend(venue, 249_990, 20, PERP_INDEX)
    params = venue.api_requests[-1][1]["params"]
    assert (params["orderId"], params["price"], params["quantity"], params["side"]) == (
        8886774,
        "24999.0",
        "0.020",
        "BUY",
    )
    report = only(venue)
    assert (report.exec_type, report.px_ticks, report.order_qty_lots) == (ExecType.REPLACED, 249_990, 20)


def test_spot_amend_to_less_keeps_the_place_in_the_queue(venue: Binance) -> None:
    place_spot(venue)
    venue.events.clear()
    venue.api_answers["order.amend.keepPriority"] = lambda request: {
        "status": 200,
        "result": {
            "transactTime": 1763800002000,
            "executionId": 903,
            "amendedOrder": {
                "symbol": "BTCUSDT", "orderId": 28, "origClientOrderId": OUR_TEXT, "clientOrderId": OUR_TEXT,
                "price": "25000.00000000", "qty": "0.00500000", "executedQty": "0.00100000", "status": "NEW",
                "timeInForce": "GTC", "type": "LIMIT", "side": "BUY",
            },
        },
    }  # fmt: skip
    amend(venue, 2_500_000, 500)
    params = venue.api_requests[-1][1]["params"]
    assert (params["newQty"], params["newClientOrderId"], params["orderId"]) == ("0.00500", OUR_TEXT, 28)
    report = only(venue)
    assert (report.exec_type, report.order_qty_lots, report.cum_qty_lots) == (ExecType.REPLACED, 500, 100)


def replaced(executed: str, *, answer: Callable[..., Any] = spot_result) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def made(request: dict[str, Any]) -> dict[str, Any]:
        old = spot_result({"params": {}}, origClientOrderId=OUR_TEXT, clientOrderId="x1", status="CANCELED",
                          executedQty=executed, price="25000.00")["result"]  # fmt: skip
        new = answer(request, orderId=29)["result"]
        result = {
            "cancelResult": "SUCCESS",
            "newOrderResult": "SUCCESS",
            "cancelResponse": old,
            "newOrderResponse": new,
        }
        return {"status": 200, "result": result}

    return made


def test_spot_amend_of_the_price_is_told_as_one_order(venue: Binance) -> None:
    place_spot(venue)
    venue.events.clear()
    venue.api_answers["order.cancelReplace"] = replaced("0.00000000")
    amend(venue, 2_499_000, 1_000)
    params = venue.api_requests[-1][1]["params"]
    assert (params["cancelOrderId"], params["newClientOrderId"], params["quantity"]) == (28, SECOND_LEG, "0.01000")
    assert params["cancelReplaceMode"] == "STOP_ON_FAILURE"
    venue.world.frame(SPOT_API, execution(c="x1", C=OUR_TEXT, x="CANCELED", X="CANCELED"))
    venue.world.frame(SPOT_API, execution(i=29, c=SECOND_LEG, p="24990.00000000"))
    reports = venue.take(OrderReport)
    assert [(report.exec_type, report.order_id) for report in reports] == [
        (ExecType.REPLACED, "29"),
        (ExecType.NEW, "29"),
    ]
    assert reports[0].px_ticks == 2_499_000


def test_spot_replace_whose_events_overtake_the_answer_never_ends_the_order(venue: Binance) -> None:
    place_spot(venue)
    venue.events.clear()
    amend(venue, 2_499_000, 1_000)
    request = venue.api_requests[-1][1]
    venue.world.frame(SPOT_API, execution(c="x1", C=OUR_TEXT, x="CANCELED", X="CANCELED"))
    venue.world.frame(SPOT_API, execution(i=29, c=SECOND_LEG, p="24990.00000000"))
    venue.world.frame(SPOT_API, orjson.dumps({"id": request["id"], **replaced("0.00000000")(request)}))
    kinds = [report.exec_type for report in venue.take(OrderReport)]
    assert ExecType.CANCELED not in kinds and kinds[-1] is ExecType.REPLACED


def test_spot_replace_counts_what_the_old_leg_executed(venue: Binance) -> None:
    place_spot(venue)
    venue.world.frame(SPOT_API, execution(x="TRADE", X="PARTIALLY_FILLED", l="0.004", z="0.004", L="25000", t=56))
    venue.events.clear()
    venue.api_answers["order.cancelReplace"] = replaced("0.00400000")
    amend(venue, 2_499_000, 1_000)
    assert venue.api_requests[-1][1]["params"]["quantity"] == "0.00600"
    report = only(venue)
    assert (report.order_qty_lots, report.cum_qty_lots) == (1_000, 400)
    venue.world.frame(
        SPOT_API, execution(i=29, c=SECOND_LEG, x="TRADE", X="FILLED", q="0.006", l="0.006", z="0.006", L="1", t=57)
    )
    report = venue.of(OrderReport)[0]
    assert (report.order_qty_lots, report.cum_qty_lots, report.ord_status) == (1_000, 1_000, OrdStatus.FILLED)


def test_fill_that_slips_into_a_replace_is_taken_off_the_new_leg(venue: Binance) -> None:
    place_spot(venue)
    venue.events.clear()
    venue.api_answers["order.cancelReplace"] = replaced("0.00300000")
    amend(venue, 2_499_000, 1_000)
    report = venue.of(OrderReport)[0]
    assert (report.order_qty_lots, report.cum_qty_lots) == (1_300, 300)
    trim = venue.api_requests[-1][1]
    assert trim["method"] == "order.amend.keepPriority"
    assert (trim["params"]["orderId"], trim["params"]["newQty"]) == (29, "0.00700")


def test_replace_that_cancelled_and_did_not_place_ends_the_order(venue: Binance) -> None:
    place_spot(venue)
    venue.events.clear()
    old = spot_result({"params": {}}, origClientOrderId=OUR_TEXT, status="CANCELED", price="25000.00")["result"]
    venue.api_answers["order.cancelReplace"] = lambda request: error(
        409, -2021, "Order cancel-replace partially failed.", cancelResult="SUCCESS", newOrderResult="FAILURE",
        cancelResponse=old, newOrderResponse={"code": -2010, "msg": "Order would immediately match and take."},
    )  # fmt: skip
    amend(venue, 2_499_000, 1_000)
    report = only(venue)
    assert (report.exec_type, report.code) == (ExecType.CANCELED, -2010)
    assert "immediately match" in report.text
    assert venue.connector.live.orders == {}


def test_replace_that_could_not_cancel_leaves_the_order_as_it_is(venue: Binance) -> None:
    place_spot(venue)
    venue.events.clear()
    venue.api_answers["order.cancelReplace"] = lambda request: error(
        400, -2022, "Order cancel-replace failed.", cancelResult="FAILURE", newOrderResult="NOT_ATTEMPTED",
        cancelResponse={"code": -2011, "msg": "Unknown order sent."}, newOrderResponse=None,
    )  # fmt: skip
    amend(venue, 2_499_000, 1_000)
    report = only(venue)
    assert (report.exec_type, report.code) == (ExecType.REPLACE_REJECTED, -2011)
    assert not venue.connector.live.orders[OUR_ID].is_replacing


# --- events around them ---


def test_fill_before_the_answer_is_told_with_our_id(venue: Binance) -> None:
    venue.place()
    venue.world.frame(
        SPOT_API,
        execution(x="TRADE", X="FILLED", l="0.01", z="0.01", L="24999.50", t=56, n="0.00001", N="BTC"),
    )
    report, fill = venue.events
    assert isinstance(report, OrderReport) and isinstance(fill, Fill)
    assert (report.exec_type, report.ord_status, report.cum_qty_lots) == (ExecType.TRADE, OrdStatus.FILLED, 1_000)
    assert (fill.cl_ord_id, fill.exec_id, fill.px_ticks, fill.qty_lots) == (OUR_ID, "56", 2_499_950, 1_000)
    assert (fill.fee_atoms, fill.fee_asset, fill.is_maker) == (1_000, "BTC", False)
    venue.events.clear()
    request = venue.api_requests[0][1]
    venue.world.frame(
        SPOT_API,
        orjson.dumps({"id": request["id"], **spot_result(request, status="FILLED", executedQty="0.01000000")}),
    )
    assert (only(venue).ord_status, venue.of(Fill)) == (OrdStatus.FILLED, [])


def test_fill_after_the_cancel_and_a_repeated_fill_are_both_told(venue: Binance) -> None:
    place_spot(venue)
    venue.world.frame(SPOT_API, execution(c="x", C=OUR_TEXT, x="CANCELED", X="CANCELED"))
    late = execution(x="TRADE", X="PARTIALLY_FILLED", l="0.001", z="0.001", L="25000", t=57)
    venue.world.frame(SPOT_API, late)
    venue.world.frame(SPOT_API, late)
    fills = venue.of(Fill)
    assert [(fill.exec_id, fill.cl_ord_id) for fill in fills] == [("57", OUR_ID)] * 2


def test_usdm_order_that_would_take_expires_by_event(venue: Binance) -> None:
    venue.api_answers["order.place"] = usdm_result
    venue.place(PERP_INDEX, post_only=True)
    venue.events.clear()
    from connectors.binance.endpoints import USDM_PRIVATE

    venue.world.frame(USDM_PRIVATE, order_update(x="EXPIRED", X="EXPIRED", f="GTX"))
    report = only(venue)
    assert (report.exec_type, report.ord_status, report.cl_ord_id) == (ExecType.EXPIRED, OrdStatus.EXPIRED, OUR_ID)


# --- limits ---


def test_new_orders_beyond_the_budget_are_refused_and_cancels_are_not(venue: Binance) -> None:
    for at in range(60):
        venue.place(cl_ord_id=OUR_ID + at)
    sent = len(venue.api_requests)
    assert sent <= 40  # 50 in 10 s, a fifth kept back
    cancel(venue, order_id="5")
    assert venue.api_requests[-1][1]["method"] == "order.cancel"
    venue.world.run(400 * MS)
    throttled = [report for report in venue.take(OrderReport) if report.text == "throttled"]
    assert len(throttled) == 60 - sent
    assert {report.exec_type for report in throttled} == {ExecType.REJECTED}
    assert len(venue.api_requests) == sent + 1


def test_rate_limit_answer_stops_new_orders_until_the_venues_time(venue: Binance) -> None:
    until_ms = venue.utc_ms(venue.world.now_ns) + 5_000
    venue.api_answers["order.place"] = lambda request: error(
        429, -1003, "Too many requests.", serverTime=0, retryAfter=until_ms
    )
    venue.place()
    (notice,) = venue.of(VenueNotice)
    assert notice.kind == "rate_limited"
    assert only(venue).exec_type is ExecType.REJECTED
    venue.place(cl_ord_id=OUR_ID + 1)
    venue.world.run(SECOND)
    assert len(venue.api_requests) == 1
    assert only(venue).text == "throttled"
    cancel(venue, order_id="5")
    assert venue.api_requests[-1][1]["method"] == "order.cancel"
    venue.world.run(5 * SECOND)
    venue.place(cl_ord_id=OUR_ID + 2)
    assert venue.api_requests[-1][1]["method"] == "order.place"


def test_ban_stops_everything(venue: Binance) -> None:
    until_ms = venue.utc_ms(venue.world.now_ns) + 60_000
    venue.api_answers["order.place"] = lambda request: error(
        418, -1003, "Way too much request weight used; IP banned.", serverTime=0, retryAfter=until_ms
    )
    venue.place()
    assert [notice.kind for notice in venue.of(VenueNotice)] == ["banned"]
    before = len(venue.api_requests)
    cancel(venue, order_id="5")
    assert len(venue.api_requests) == before
    venue.world.run(65 * SECOND)
    assert venue.api_requests[-1][1]["method"] == "order.cancel"


def test_refused_key_is_told_as_such(venue: Binance) -> None:
    venue.api_answers["order.place"] = lambda request: error(401, -2015, "Invalid API-key, IP, or permissions.")
    venue.place()
    assert [event.category for event in venue.of(VenueRefused)] == ["key"]


def test_refused_time_measures_the_clock_again(venue: Binance) -> None:
    venue.api_answers["order.place"] = lambda request: error(400, -1021, "outside of the recvWindow")
    venue.skew_ns = 300 * MS
    venue.place()
    venue.world.run(SECOND)
    assert len(venue.requests_to("/api/v3/time")) == 5
    venue.place(cl_ord_id=OUR_ID + 1)
    sent_ms = venue.utc_ms(venue.world.now_ns - venue.world.rtt_ns)
    assert abs(venue.api_requests[-1][1]["params"]["timestamp"] - sent_ms) <= 1


def test_same_inputs_put_the_same_bytes_on_the_wire() -> None:
    def once() -> list[tuple[Any, ...]]:
        venue = Binance().start(books=True)
        place_spot(venue)
        venue.place(PERP_INDEX, cl_ord_id=OUR_ID + 1)
        cancel(venue)
        venue.world.drop(SPOT_API)
        venue.world.run(10 * SECOND)
        return venue.wire.log

    assert once() == once()


def test_place_builds_its_bytes_without_an_encoder(venue: Binance, monkeypatch: pytest.MonkeyPatch) -> None:
    venue.connector.place_order(order(), venue.world.now_ns)
    monkeypatch.setattr("connectors.binance.trading.orjson", None)
    venue.connector.place_order(order(cl_ord_id=OUR_ID + 1), venue.world.now_ns)
    first, second = (payload for _, payload in venue.wire.sent[-2:])
    assert first != second and len(first) == len(second)
