"""Questions: paging, failures, legs of replaced orders, orders of an earlier run."""

from __future__ import annotations

from typing import Any

import pytest

from engine.actions import QueryBalances, QueryFills, QueryOpenOrders, QueryOrder, QueryPositions
from engine.events import Balances, Fills, OpenOrders, OrderReport, Positions
from engine.types import ExecType, OrdStatus, Side, Venue
from tests.connectors.binance.binance_world import OUR_ID, OUR_TEXT, PERP_INDEX, SPOT_INDEX, Binance
from tests.connectors.fake_wire import MS, SECOND, Asked

MISSING = (400, {}, b'{"code":-2013,"msg":"Order does not exist."}')


@pytest.fixture
def venue() -> Binance:
    made = Binance().start()
    made.events.clear()
    made.asked.clear()
    return made


def row(number: int, client_id: str, status: str, executed: str = "0", **changes: Any) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT", "orderId": number, "clientOrderId": client_id, "price": "25000.00", "origQty": "0.01",
        "executedQty": executed, "status": status, "timeInForce": "GTC", "type": "LIMIT", "side": "SELL",
        "updateTime": 1763800000000, **changes,
    }  # fmt: skip


def trade(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT", "id": number, "orderId": 28, "price": "25000.00", "qty": "0.001", "commission": "0.025",
        "commissionAsset": "USDT", "time": 1763800000000 + number, "isBuyer": True, "isMaker": False, **changes,
    }  # fmt: skip


def ask_order(venue: Binance, order_id: str = "", instrument: int = SPOT_INDEX) -> OrderReport:
    venue.connector.get_order(QueryOrder(Venue.BINANCE, instrument, OUR_ID, order_id), venue.world.now_ns)
    venue.world.run(10 * SECOND)
    (report,) = venue.take(OrderReport)
    return report


def by_client_id(rows: dict[str, Any]) -> Any:
    return lambda asked, now_ns: rows.get(asked.query["origClientOrderId"], MISSING)


def test_order_query_tells_where_it_stands(venue: Binance) -> None:
    venue.routes["GET /fapi/v1/order"] = row(5, OUR_TEXT, "PARTIALLY_FILLED", "0.004")
    report = ask_order(venue, instrument=PERP_INDEX)
    assert (report.exec_type, report.ord_status, report.cum_qty_lots) == (
        ExecType.STATUS,
        OrdStatus.PARTIALLY_FILLED,
        4,
    )
    assert (report.side, report.cl_ord_id, report.order_id) == (Side.SELL, OUR_ID, "5")


@pytest.mark.parametrize(
    ("answer", "exec_type", "count"),
    [
        (MISSING, ExecType.NOT_FOUND, 1),
        ((500, {}, b""), ExecType.OUTCOME_UNKNOWN, 4),
        ((0, {}, b"timeout"), ExecType.OUTCOME_UNKNOWN, 4),
        ((200, {}, b"<html>"), ExecType.OUTCOME_UNKNOWN, 1),
        ({"orderId": 1}, ExecType.OUTCOME_UNKNOWN, 1),
    ],
)
def test_order_query_without_a_usable_answer_proves_nothing(
    venue: Binance, answer: Any, exec_type: ExecType, count: int
) -> None:
    venue.routes["GET /api/v3/order"] = lambda asked, now_ns: answer
    assert ask_order(venue).exec_type is exec_type
    assert len(venue.requests_to("/api/v3/order")) == count


def test_order_of_an_earlier_run_is_followed_to_its_newest_leg(venue: Binance) -> None:
    venue.routes["GET /api/v3/order"] = by_client_id(
        {
            OUR_TEXT: row(28, "x1", "CANCELED", "0.002"),
            f"{OUR_TEXT}-1": row(29, "x2", "CANCELED", "0.001", origQty="0.008"),
            f"{OUR_TEXT}-2": row(30, f"{OUR_TEXT}-2", "NEW", origQty="0.007"),
        }
    )
    report = ask_order(venue, "28")
    assert (report.ord_status, report.order_id) == (OrdStatus.NEW, "30")
    assert (report.cum_qty_lots, report.order_qty_lots) == (300, 1_000)
    assert venue.connector.live.orders[OUR_ID].leg == 2


def test_cancelled_order_of_an_earlier_run_without_a_successor_is_cancelled(venue: Binance) -> None:
    venue.routes["GET /api/v3/order"] = by_client_id({OUR_TEXT: row(28, "x1", "CANCELED", "0.002")})
    report = ask_order(venue, "28")
    assert (report.ord_status, report.cum_qty_lots) == (OrdStatus.CANCELED, 200)


def test_open_orders_of_both_markets_are_one_answer_and_ours_are_taken_in(venue: Binance) -> None:
    venue.routes["GET /api/v3/openOrders"] = [row(28, OUR_TEXT, "NEW", type="LIMIT_MAKER"), row(29, "web_1", "NEW")]
    venue.routes["GET /fapi/v1/openOrders"] = []
    venue.connector.get_open_orders(QueryOpenOrders(Venue.BINANCE, 7), venue.world.now_ns)
    venue.world.settle()
    (answer,) = venue.of(OpenOrders)
    assert (answer.request_id, answer.is_ok) == (7, True)
    assert [(order.cl_ord_id, order.exec_type) for order in answer.orders] == [
        (OUR_ID, ExecType.STATUS),
        (0, ExecType.STATUS),
    ]
    assert venue.connector.live.orders[OUR_ID].post_only
    assert venue.connector.live.resting == {SPOT_INDEX: 1}


@pytest.mark.parametrize("bad", [(0, {}, b"timeout"), [{"orderId": 1}], {"code": 1}])
def test_part_of_the_open_orders_is_never_the_whole(venue: Binance, bad: Any) -> None:
    venue.routes["GET /api/v3/openOrders"] = [row(28, OUR_TEXT, "NEW")]
    venue.routes["GET /fapi/v1/openOrders"] = lambda asked, now_ns: bad
    venue.connector.get_open_orders(QueryOpenOrders(Venue.BINANCE, 7), venue.world.now_ns)
    venue.world.run(15 * SECOND)
    assert [answer.is_ok for answer in venue.of(OpenOrders)] == [False]


def fills(venue: Binance, since_ns: int, instrument: int = SPOT_INDEX) -> Fills:
    venue.connector.get_fills(QueryFills(Venue.BINANCE, 9, instrument, since_ns), venue.world.now_ns)
    venue.world.run(5 * SECOND)
    (answer,) = venue.take(Fills)
    return answer


def test_fills_are_paged_by_identity_once_found(venue: Binance) -> None:
    everything = [trade(number) for number in range(1, 2_501)]

    def route(asked: Asked, now_ns: int) -> Any:
        first = int(asked.query.get("fromId", 1))
        return [one for one in everything if one["id"] >= first][:1_000]

    venue.routes["GET /api/v3/myTrades"] = route
    answer = fills(venue, 1763800000000 * MS)
    assert answer.is_ok
    assert [int(fill.exec_id) for fill in answer.fills] == list(range(1, 2_501))
    assert [asked.query.get("fromId") for asked in venue.requests_to("/api/v3/myTrades")] == [None, "1001", "2001"]
    assert (answer.fills[0].side, answer.fills[0].fee_atoms, answer.fills[0].qty_lots) == (Side.BUY, 2_500_000, 100)


def test_empty_windows_are_walked_up_to_now(venue: Binance) -> None:
    venue.routes["GET /api/v3/myTrades"] = []
    answer = fills(venue, (1763800000000 - 50 * 3_600_000) * MS)
    assert (answer.is_ok, answer.fills) == (True, ())
    starts = [int(asked.query["startTime"]) for asked in venue.requests_to("/api/v3/myTrades")]
    assert len(starts) == 3
    assert starts[0] == 1763800000000 - 50 * 3_600_000 - 5_000


def test_usdm_fills_name_their_side_and_maker_otherwise(venue: Binance) -> None:
    plain = {key: value for key, value in trade(3).items() if key not in ("isBuyer", "isMaker")}
    rows = [{**plain, "side": "SELL", "maker": True, "buyer": False}]
    venue.routes["GET /fapi/v1/userTrades"] = lambda asked, now_ns: [] if "fromId" in asked.query else rows
    (fill,) = fills(venue, 1763800000000 * MS, PERP_INDEX).fills
    assert (fill.side, fill.is_maker, fill.qty_lots) == (Side.SELL, True, 1)


@pytest.mark.parametrize("bad", [(0, {}, b""), [{"id": 1}], [trade(1, qty="0.0000001")]])
def test_fills_that_could_not_all_be_read_say_so(venue: Binance, bad: Any) -> None:
    venue.routes["GET /api/v3/myTrades"] = lambda asked, now_ns: bad
    venue.connector.get_fills(QueryFills(Venue.BINANCE, 9, SPOT_INDEX, 0), venue.world.now_ns)
    venue.world.run(15 * SECOND)
    assert [answer.is_ok for answer in venue.of(Fills)] == [False]


def test_balances_need_both_wallets(venue: Binance) -> None:
    venue.routes["GET /api/v3/account"] = {"balances": [{"asset": "BTC", "free": "1.5", "locked": "0.5"}]}
    venue.routes["GET /fapi/v3/balance"] = lambda asked, now_ns: (500, {}, b"")
    venue.connector.get_balance(QueryBalances(Venue.BINANCE, 1), venue.world.now_ns)
    venue.world.run(15 * SECOND)
    assert [answer.is_ok for answer in venue.take(Balances)] == [False]
    venue.routes["GET /fapi/v3/balance"] = [{"asset": "USDT", "balance": "7", "availableBalance": "6"}]
    venue.connector.get_balance(QueryBalances(Venue.BINANCE, 2), venue.world.now_ns)
    venue.world.run(SECOND)
    (answer,) = venue.of(Balances)
    assert answer.is_ok
    assert {(row.asset, row.total_atoms, row.available_atoms) for row in answer.balances} == {
        ("BTC", 200_000_000, 150_000_000),
        ("USDT", 700_000_000, 600_000_000),
    }


def test_positions_are_read_in_signed_lots(venue: Binance) -> None:
    venue.routes["GET /fapi/v3/positionRisk"] = [
        {"symbol": "BTCUSDT", "positionSide": "BOTH", "positionAmt": "-0.012", "updateTime": 1763800000000},
        {"symbol": "ELSEUSDT", "positionSide": "BOTH", "positionAmt": "5", "updateTime": 1},
    ]
    venue.connector.get_positions(QueryPositions(Venue.BINANCE, 1), venue.world.now_ns)
    venue.world.settle()
    (answer,) = venue.of(Positions)
    assert [(one.instrument, one.qty_lots) for one in answer.positions] == [(PERP_INDEX, -12)]
