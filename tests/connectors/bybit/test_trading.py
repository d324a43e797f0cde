"""Orders: bytes on the wire, answers, and everything that can happen between the two."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from connectors.bybit import endpoints
from connectors.bybit.endpoints import TRADE
from engine.actions import AmendOrder, CancelAll, CancelOrder, PlaceOrder
from engine.events import InstrumentDefined, InstrumentStateChanged, OrderReport, VenueNotice, VenueRefused
from engine.ids import cl_ord_id, text_from_cl_ord_id
from engine.types import NO_PX, ExecType, InstrumentState, OrdStatus, OrdType, Side, TimeInForce, Venue

MS, SECOND = 1_000_000, 1_000_000_000
UTC_MS = 1_763_800_000_000
LINEAR, SPOT = 0, 1
ID = cl_ord_id(1, 2, 3, 4)
LINK = text_from_cl_ord_id(ID)


def order(ident: int = ID, instrument: int = LINEAR, **fields: Any) -> PlaceOrder:
    values = {
        "side": Side.BUY, "ord_type": OrdType.LIMIT, "px_ticks": 250_000, "qty_lots": 10,
        "time_in_force": TimeInForce.GTC,
    }  # fmt: skip
    return PlaceOrder(Venue.BYBIT, instrument, ident, **{**values, **fields})


def cancel(ident: int = ID, order_id: str = "", instrument: int = LINEAR) -> CancelOrder:
    return CancelOrder(Venue.BYBIT, instrument, ident, order_id)


def amend(px_ticks: int = 249_990, qty_lots: int = 20) -> AmendOrder:
    return AmendOrder(Venue.BYBIT, LINEAR, ID, "V1", Side.BUY, px_ticks, qty_lots)


def answer(world: Any, request: dict[str, Any], code: int = 0, data: Any = None, **fields: Any) -> None:
    reply = {
        "reqId": request["reqId"], "retCode": code, "retMsg": fields.pop("text", "OK" if code == 0 else "no"),
        "op": request["op"], "data": data or {}, "retExtInfo": {}, "header": fields.pop("header", {}), "connId": "c3",
    }  # fmt: skip
    world.frame(TRADE, {**reply, **fields})


def brief(event: OrderReport) -> tuple[ExecType, OrdStatus, int, int]:
    return event.exec_type, event.ord_status, event.cl_ord_id, event.code


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_limit_order_on_the_trade_socket(live: Any) -> None:
    live.connector.place_order(order(post_only=True), live.now_ns)
    request = live.last_sent(TRADE)
    assert request.pop("reqId").endswith("-1")
    assert request == {
        "header": {"X-BAPI-TIMESTAMP": str(UTC_MS), "X-BAPI-RECV-WINDOW": "5000"},
        "op": "order.create",
        "args": [
            {
                "category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.010",
                "price": "25000.0", "timeInForce": "PostOnly", "orderLinkId": LINK, "positionIdx": 0,
                "smpType": "CancelMaker",
            }
        ],
    }  # fmt: skip
    assert not live.wire.requests


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"time_in_force": TimeInForce.GTC}, {"timeInForce": "GTC"}),
        ({"time_in_force": TimeInForce.IOC}, {"timeInForce": "IOC"}),
        ({"time_in_force": TimeInForce.FOK, "side": Side.SELL}, {"timeInForce": "FOK", "side": "Sell"}),
        ({"time_in_force": TimeInForce.IOC, "reduce_only": True}, {"reduceOnly": True, "timeInForce": "IOC"}),
    ],
)
def test_words_of_an_order(live: Any, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    live.connector.place_order(order(**fields), live.now_ns)
    (args,) = live.last_sent(TRADE)["args"]
    assert {key: args[key] for key in expected} == expected


def test_spot_order_has_neither_position_nor_reduce_only(live: Any) -> None:
    live.connector.place_order(order(instrument=SPOT, qty_lots=11, reduce_only=True), live.now_ns)
    (args,) = live.last_sent(TRADE)["args"]
    assert args == {
        "category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.000011",
        "price": "25000.0", "timeInForce": "GTC", "orderLinkId": LINK, "smpType": "CancelMaker",
    }  # fmt: skip


def test_spot_market_order_counts_base_coin(live: Any) -> None:
    live.connector.place_order(order(instrument=SPOT, ord_type=OrdType.MARKET, px_ticks=NO_PX), live.now_ns)
    (args,) = live.last_sent(TRADE)["args"]
    assert (args["orderType"], args["marketUnit"]) == ("Market", "baseCoin")
    assert "price" not in args


def test_cancel_by_our_id_until_the_venue_told_its_own(live: Any) -> None:
    live.connector.cancel_order(cancel(), live.now_ns)
    assert live.last_sent(TRADE)["args"] == [{"category": "linear", "symbol": "BTCUSDT", "orderLinkId": LINK}]
    live.connector.cancel_order(cancel(order_id="V1"), live.now_ns)
    request = live.last_sent(TRADE)
    assert request["op"] == "order.cancel"
    assert request["args"] == [{"category": "linear", "symbol": "BTCUSDT", "orderId": "V1"}]


def test_amend_sends_the_new_total(live: Any) -> None:
    live.connector.amend_order(amend(), live.now_ns)
    request = live.last_sent(TRADE)
    assert request["op"] == "order.amend"
    assert request["args"] == [
        {"category": "linear", "symbol": "BTCUSDT", "orderId": "V1", "qty": "0.020", "price": "24999.0"}
    ]


def test_request_identifiers_never_repeat(live: Any) -> None:
    for at in range(3):
        live.connector.cancel_order(cancel(ID + at), live.now_ns)
    idents = [one["reqId"] for one in live.sent(TRADE) if "reqId" in one]
    assert len(set(idents)) == 3
    assert all(len(ident) <= 36 for ident in idents)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_acknowledgement_is_no_acceptance(live: Any) -> None:
    live.connector.place_order(order(), live.now_ns)
    answer(live, live.last_sent(TRADE), data={"orderId": "V1", "orderLinkId": LINK})
    (event,) = live.take()
    assert brief(event) == (ExecType.PENDING_NEW, OrdStatus.PENDING_NEW, ID, 0)
    assert (event.order_id, event.px_ticks, event.order_qty_lots, event.cum_qty_lots) == ("V1", 250_000, 10, -1)


@pytest.mark.parametrize(
    ("code", "exec_type", "status"),
    [
        (110007, ExecType.REJECTED, OrdStatus.REJECTED),
        (110003, ExecType.REJECTED, OrdStatus.REJECTED),
        (10006, ExecType.REJECTED, OrdStatus.REJECTED),  # not executed; the core may try again with a new price
        (110072, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN),  # an earlier send got through
        (170141, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN),
        (10000, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN),
        (10016, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN),
        (20006, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN),
    ],
)
def test_error_answer_to_a_new_order(live: Any, code: int, exec_type: ExecType, status: OrdStatus) -> None:
    live.connector.place_order(order(), live.now_ns)
    answer(live, live.last_sent(TRADE), code)
    (event,) = live.of(OrderReport)
    assert brief(event) == (exec_type, status, ID, code)


@pytest.mark.parametrize("code", [110001, 110008, 110010, 170213, 170139, 170142])
def test_cancel_of_an_order_that_is_gone_proves_nothing(live: Any, code: int) -> None:
    live.connector.cancel_order(cancel(), live.now_ns)
    answer(live, live.last_sent(TRADE), code)
    (event,) = live.take()
    assert brief(event) == (ExecType.CANCEL_REJECTED, OrdStatus.UNKNOWN, ID, code)


def test_cancel_of_an_order_just_placed_is_asked_again(live: Any) -> None:
    live.connector.place_order(order(), live.now_ns)
    answer(live, live.last_sent(TRADE), data={"orderId": "V1"})
    live.take()
    live.connector.cancel_order(cancel(), live.now_ns)
    answer(live, live.last_sent(TRADE), 110001)
    assert live.take() == []
    count = len(live.sent(TRADE))
    live.run(200 * MS)
    assert len(live.sent(TRADE)) == count + 1
    answer(live, live.last_sent(TRADE))
    live.run(SECOND)
    assert not live.of(OrderReport)


def test_cancel_that_hit_the_limit_goes_again_after_the_reset(live: Any) -> None:
    live.connector.cancel_order(cancel(order_id="V1"), live.now_ns)
    count = len(live.sent(TRADE))
    reset = {"X-Bapi-Limit": "10", "X-Bapi-Limit-Status": "0", "X-Bapi-Limit-Reset-Timestamp": str(UTC_MS + 300)}
    answer(live, live.last_sent(TRADE), 10006, header=reset, text="Too many visits!")
    (notice,) = live.take()
    assert (notice.kind, notice.until_ts_ns) == ("rate_limited", live.now_ns + 310 * MS)
    live.run(300 * MS)
    assert len(live.sent(TRADE)) == count
    live.run(100 * MS)
    assert len(live.sent(TRADE)) == count + 1
    assert live.last_sent(TRADE)["args"][0]["orderId"] == "V1"


def test_bucket_of_one_endpoint_does_not_hold_up_another(live: Any) -> None:
    live.connector.place_order(order(), live.now_ns)
    answer(live, live.last_sent(TRADE), 10006)
    live.connector.place_order(order(ID + 1), live.now_ns)
    count = len(live.sent(TRADE))
    live.connector.cancel_order(cancel(order_id="V0"), live.now_ns)
    assert len(live.sent(TRADE)) == count + 1
    assert live.last_sent(TRADE)["op"] == "order.cancel"


def test_timeout_leaves_the_outcome_unknown_and_a_late_answer_is_still_read(live: Any) -> None:
    live.connector.place_order(order(), live.now_ns)
    request = live.last_sent(TRADE)
    live.run(1_400 * MS)
    live.frame(TRADE, {"op": "pong", "retCode": 0, "retMsg": "OK", "data": ["1"], "connId": "c3"})
    assert not live.of(OrderReport)
    live.run(200 * MS)
    (event,) = live.of(OrderReport)
    assert brief(event) == (ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, ID, 0)
    assert event.text == "no answer in 1500 ms"
    live.take()
    answer(live, request, data={"orderId": "V1"})
    (late,) = live.take()
    assert brief(late)[0] is ExecType.PENDING_NEW
    answer(live, request, data={"orderId": "V1"})
    assert live.take() == []  # the same answer twice


def test_trade_socket_that_swallows_orders_is_replaced(live: Any) -> None:
    live.connector.place_order(order(), live.now_ns)
    live.run(1_600 * MS)
    assert ("close", TRADE) in live.wire.log


def test_lost_trade_socket_leaves_its_orders_unknown(live: Any) -> None:
    live.connector.place_order(order(), live.now_ns)
    live.connector.cancel_order(cancel(ID + 1, "V2"), live.now_ns)
    live.disconnect(TRADE)
    reports = live.of(OrderReport)
    assert [brief(one)[:3] for one in reports] == [
        (ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, ID),
        (ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, ID + 1),
    ]


def test_orders_go_by_rest_while_the_trade_socket_is_down(live: Any) -> None:
    live.disconnect(TRADE)
    live.take()
    live.connector.place_order(order(), live.now_ns)
    request_id, method, target, headers, body = live.only_request()
    assert (method, target) == ("POST", endpoints.CREATE)
    assert orjson.loads(body)["orderLinkId"] == LINK
    assert headers["Content-Type"] == "application/json"
    assert len(headers["X-BAPI-SIGN"]) == 64
    live.respond(request_id, {"retCode": 0, "retMsg": "OK", "result": {"orderId": "V1"}, "time": 1})
    (event,) = live.take()
    assert (brief(event)[0], event.order_id) == (ExecType.PENDING_NEW, "V1")


@pytest.mark.parametrize(
    ("status", "body", "exec_type"),
    [
        (0, {}, ExecType.OUTCOME_UNKNOWN),
        (502, {}, ExecType.OUTCOME_UNKNOWN),
        (200, {"retCode": 10016, "retMsg": "busy"}, ExecType.OUTCOME_UNKNOWN),
        (200, {}, ExecType.OUTCOME_UNKNOWN),
        (200, {"retCode": 110007, "retMsg": "no"}, ExecType.REJECTED),
        (403, {}, ExecType.REJECTED),
        (429, {}, ExecType.REJECTED),
    ],
)
def test_answers_of_the_rest_route(live: Any, status: int, body: Any, exec_type: ExecType) -> None:
    live.disconnect(TRADE)
    live.take()
    live.connector.place_order(order(), live.now_ns)
    request_id, *_ = live.only_request()
    live.respond(request_id, body, status)
    (event,) = live.of(OrderReport)
    assert event.exec_type is exec_type
    live.run(10 * SECOND)
    assert not [one for one in live.wire.requests if one[1] == "POST"]  # a new order is never sent twice


def test_demo_environment_has_no_trade_socket(make_world: Any) -> None:
    from engine.venue import Credentials

    world = make_world(credentials=Credentials("k", "s", "hmac", "demo"), environment="demo").go_live()
    assert not any(entry[0] == "connect" and entry[1] == TRADE for entry in world.wire.log)
    world.connector.place_order(order(), world.now_ns)
    assert world.only_request()[2] == endpoints.CREATE


def test_batch_is_answered_by_position(live: Any) -> None:
    live.connector.place_orders([order(ID + at) for at in range(3)], live.now_ns)
    request = live.last_sent(TRADE)
    assert request["op"] == "order.create-batch"
    (args,) = request["args"]
    assert args["category"] == "linear"
    assert [row["orderLinkId"] for row in args["request"]] == [text_from_cl_ord_id(ID + at) for at in range(3)]
    assert "category" not in args["request"][0]
    rows = [{"orderId": "V0"}, {"orderId": ""}]
    verdicts = {"list": [{"code": 0, "msg": "OK"}, {"code": 110007, "msg": "no"}]}
    answer(live, request, data={"list": rows}, retExtInfo=verdicts)
    assert [brief(event)[:3] for event in live.take()] == [
        (ExecType.PENDING_NEW, OrdStatus.PENDING_NEW, ID),
        (ExecType.REJECTED, OrdStatus.REJECTED, ID + 1),
        (ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, ID + 2),  # missing in the answer
    ]


def test_batches_are_cut_to_the_budget_and_split_by_category(live: Any) -> None:
    orders = [order(ID + at, instrument=at % 2) for at in range(30)]
    live.connector.place_orders(orders, live.now_ns)
    live.run(4 * SECOND)
    batches = [one["args"][0] for one in live.sent(TRADE) if one.get("op") == "order.create-batch"]
    sizes = [(one["category"], len(one["request"])) for one in batches]
    assert sizes == [("linear", 10), ("spot", 10), ("spot", 5)]
    refused = [one for one in live.of(OrderReport) if one.exec_type is ExecType.REJECTED]
    assert len(refused) == 5  # those of the second linear batch would have come too late


def test_cancel_batch(live: Any) -> None:
    live.connector.cancel_orders([cancel(ID, "V1"), cancel(ID + 1)], live.now_ns)
    request = live.last_sent(TRADE)
    assert request["op"] == "order.cancel-batch"
    assert request["args"][0]["request"] == [
        {"symbol": "BTCUSDT", "orderId": "V1"},
        {"symbol": "BTCUSDT", "orderLinkId": text_from_cl_ord_id(ID + 1)},
    ]


def test_orders_beyond_the_limit_wait_and_those_too_late_are_not_sent(live: Any) -> None:
    for at in range(40):
        live.connector.place_order(order(ID + at), live.now_ns)
    sent = [one for one in live.sent(TRADE) if one.get("op") == "order.create"]
    assert 7 <= len(sent) <= 10
    live.run(1_700 * MS)
    sent = [one["args"][0]["orderLinkId"] for one in live.sent(TRADE) if one.get("op") == "order.create"]
    refused = [event for event in live.of(OrderReport) if event.exec_type is ExecType.REJECTED]
    assert {event.text for event in refused} == {"not sent: request limit"}
    assert sent == [text_from_cl_ord_id(ID + at) for at in range(len(sent))]
    assert not {event.cl_ord_id for event in refused} & {int(link[2:], 16) for link in sent}
    assert len(refused) + len(sent) == 40


def test_hedge_goes_before_new_orders_that_wait(live: Any) -> None:
    for at in range(20):
        live.connector.place_order(order(ID + at), live.now_ns)
    live.connector.place_order(order(ID + 99, is_hedge=True, time_in_force=TimeInForce.IOC), live.now_ns)
    links = [one["args"][0]["orderLinkId"] for one in live.sent(TRADE) if one.get("op") == "order.create"]
    if text_from_cl_ord_id(ID + 99) not in links:
        first_wave = len(links)
        live.run(1_100 * MS)
        links = [one["args"][0]["orderLinkId"] for one in live.sent(TRADE) if one.get("op") == "order.create"]
        assert links[first_wave] == text_from_cl_ord_id(ID + 99)


def test_cancel_of_an_order_that_still_waits_takes_it_back(live: Any) -> None:
    for at in range(20):
        live.connector.place_order(order(ID + at), live.now_ns)
    live.connector.cancel_order(cancel(ID + 19), live.now_ns)
    (event,) = live.of(OrderReport)
    assert brief(event)[:3] == (ExecType.REJECTED, OrdStatus.REJECTED, ID + 19)
    live.run(3 * SECOND)
    links = [one["args"][0].get("orderLinkId") for one in live.sent(TRADE) if "reqId" in one]
    assert text_from_cl_ord_id(ID + 19) not in links


def test_limit_of_the_account_is_learnt_from_the_answers(live: Any) -> None:
    live.connector.place_order(order(), live.now_ns)
    header = {"X-Bapi-Limit": "60", "X-Bapi-Limit-Status": "59", "X-Bapi-Limit-Reset-Timestamp": "1"}
    answer(live, live.last_sent(TRADE), data={"orderId": "V1"}, header=header)
    live.run(2 * SECOND)
    count = len(live.sent(TRADE))
    for at in range(40):
        live.connector.place_order(order(ID + 1 + at), live.now_ns)
    assert len(live.sent(TRADE)) - count == 40


# --- amends -----------------------------------------------------------------------------------------------------------


def test_amend_that_changes_nothing_is_done(live: Any) -> None:
    for code, text in ((34040, "not modified"), (10001, "The order remains unchanged: order not modified")):
        live.connector.amend_order(amend(), live.now_ns)
        answer(live, live.last_sent(TRADE), code, text=text)
        (event,) = live.take()
        assert (event.exec_type, event.px_ticks, event.order_qty_lots) == (ExecType.REPLACED, 249_990, 20)


def test_amend_of_an_order_that_is_gone_asks_for_its_state(live: Any) -> None:
    live.connector.amend_order(amend(), live.now_ns)
    answer(live, live.last_sent(TRADE), 110001)
    (event,) = live.take()
    assert brief(event) == (ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, ID, 110001)


def test_refused_amend_leaves_the_order_as_it_was(live: Any) -> None:
    live.connector.amend_order(amend(), live.now_ns)
    answer(live, live.last_sent(TRADE), 110003)
    (event,) = live.take()
    assert brief(event)[0] is ExecType.REPLACE_REJECTED


def test_amend_that_no_order_event_shows_becomes_unknown(live: Any) -> None:
    live.connector.amend_order(amend(), live.now_ns)
    answer(live, live.last_sent(TRADE))
    live.run(3_100 * MS)
    (event,) = live.of(OrderReport)
    assert (event.exec_type, event.text) == (ExecType.OUTCOME_UNKNOWN, "amend not seen")


# --- cancel all, refusals ---------------------------------------------------------------------------------------------


def test_cancel_all_is_asked_until_the_venue_took_it(live: Any) -> None:
    live.connector.cancel_all(CancelAll(Venue.BYBIT, LINEAR), live.now_ns)
    request_id, method, target, _, body = live.only_request()
    assert (method, target) == ("POST", endpoints.CANCEL_ALL)
    assert orjson.loads(body) == {"category": "linear", "symbol": "BTCUSDT"}
    live.respond(request_id, {}, 0)
    live.run(SECOND)
    request_id, *_ = live.only_request()
    full = {"list": [{"orderId": str(at)} for at in range(500)], "success": "1"}
    live.respond(request_id, {"retCode": 0, "retMsg": "OK", "result": full, "time": 1})
    live.tick()
    request_id, *_ = live.only_request()  # 500 is all that one call takes
    live.respond(request_id, {"retCode": 0, "retMsg": "OK", "result": {"list": [], "success": "1"}, "time": 1})
    live.run(5 * SECOND)
    assert not [one for one in live.wire.requests if one[1] == "POST"]


def test_cancel_all_that_never_succeeds_is_announced(live: Any) -> None:
    live.connector.cancel_all(CancelAll(Venue.BYBIT, SPOT), live.now_ns)
    for _ in range(6):
        request_id, *_ = live.only_request()
        live.respond(request_id, {}, 503)
        live.run(5 * SECOND)
    assert [one.kind for one in live.of(VenueNotice)] == ["cancel_all_failed"]


@pytest.mark.parametrize("code", [10003, 10005, 10010])
def test_key_that_lost_its_rights_refuses_the_venue(live: Any, code: int) -> None:
    live.connector.place_order(order(), live.now_ns)
    answer(live, live.last_sent(TRADE), code)
    (refused,) = live.of(VenueRefused)
    assert refused.category == "key"


def test_symbol_that_stopped_trading_is_halted(live: Any) -> None:
    live.connector.place_order(order(), live.now_ns)
    answer(live, live.last_sent(TRADE), 110074)
    assert live.of(InstrumentStateChanged) == [InstrumentStateChanged(live.now_ns, LINEAR, InstrumentState.HALTED)]
    live.run(61 * SECOND)
    live.answer_requests()  # the venue says that it trades after all
    (event,) = live.of(InstrumentDefined)
    assert event.instrument.state is InstrumentState.TRADING


def test_orders_without_credentials_are_refused_by_us(make_world: Any) -> None:
    world = make_world().go_live()
    world.connector.place_order(order(), world.now_ns)
    (event,) = world.take()
    assert (event.exec_type, event.text) == (ExecType.REJECTED, "not sent: no credentials, or stopped")


def test_answers_of_no_known_request_are_counted(live: Any) -> None:
    for req_id in ("x", "19a-77", None, 5):
        live.frame(TRADE, {"reqId": req_id, "retCode": 0, "op": "order.create", "data": {}})
    assert live.take() == []
    assert live.connector.entry.unknown_answers == 4


WRONG = (None, "", "x", 7, -1, 1.5, [], {}, True)


def test_no_field_of_an_answer_raises_whatever_it_holds(live: Any) -> None:
    header = {"X-Bapi-Limit": "10", "X-Bapi-Limit-Status": "9", "X-Bapi-Limit-Reset-Timestamp": "1"}
    good = {
        "retCode": 0, "retMsg": "OK", "op": "order.create", "data": {"orderId": "V1"}, "retExtInfo": {},
        "header": header, "connId": "c3",
    }  # fmt: skip
    ident = ID
    for name in good:
        for wrong in WRONG:
            live.run(300 * MS)
            if not live.wire.up & {TRADE}:
                live.run(SECOND)
                live.connect(TRADE)
            ident += 1
            live.connector.place_order(order(ident), live.now_ns)
            request = live.last_sent(TRADE)
            live.frame(TRADE, {**good, "reqId": request.get("reqId"), name: wrong})
            live.take()
