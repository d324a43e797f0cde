"""Questions: what is asked, what of it is one answer, and what is never called complete."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from connectors.bybit import endpoints, queries
from engine.actions import (
    QueryBalances,
    QueryFills,
    QueryOpenOrders,
    QueryOrder,
    QueryPositions,
)
from engine.events import (
    Balance,
    Balances,
    Fills,
    OpenOrders,
    OrderReport,
    PositionReport,
    Positions,
)
from engine.types import ExecType, OrdStatus, Venue
from tests.connectors.bybit.bybit_rows import COIN, EXECUTION, ID, LINK, ORDER, recorded

MS, SECOND = 1_000_000, 1_000_000_000
UTC_MS = 1_763_800_000_000
LINEAR, SPOT = 0, 1


def ask_order(world: Any, order_id: str = "") -> list[Any]:
    world.connector.get_order(QueryOrder(Venue.BYBIT, LINEAR, ID, order_id), world.now_ns)
    while world.answer_requests():
        pass
    return world.take()


def test_order_is_looked_for_among_open_ones_first(live: Any) -> None:
    live.answers[endpoints.OPEN_ORDERS] = lambda target: {
        "list": [ORDER] if f"category=linear&symbol=BTCUSDT&orderLinkId={LINK}" in target else []
    }
    (event,) = ask_order(live)
    assert (event.exec_type, event.ord_status, event.order_id) == (ExecType.STATUS, OrdStatus.NEW, "V1")


def test_order_is_looked_for_in_the_history_then(live: Any) -> None:
    live.answers[endpoints.OPEN_ORDERS] = {"list": []}
    live.answers[endpoints.ORDER_HISTORY] = {
        "list": [{**ORDER, "orderStatus": "Cancelled", "rejectReason": "EC_PostOnlyWillTakeLiquidity"}]
    }
    (event,) = ask_order(live, "V1")
    assert (event.exec_type, event.ord_status) == (ExecType.STATUS, OrdStatus.REJECTED)


def test_order_that_is_nowhere_is_not_found(live: Any) -> None:
    live.answers[endpoints.OPEN_ORDERS] = {"list": [{**ORDER, "orderLinkId": "other"}]}
    live.answers[endpoints.ORDER_HISTORY] = {"list": []}
    (event,) = ask_order(live)
    assert (event.exec_type, event.cl_ord_id) == (ExecType.NOT_FOUND, ID)


def test_question_without_an_answer_is_no_evidence(live: Any) -> None:
    live.answers[endpoints.OPEN_ORDERS] = 502
    live.connector.get_order(QueryOrder(Venue.BYBIT, LINEAR, ID, ""), live.now_ns)
    for _ in range(60):
        live.answer_requests()
        live.tick()
    (event,) = live.of(OrderReport)
    assert event.exec_type is ExecType.OUTCOME_UNKNOWN


def test_open_orders_of_both_categories_and_all_pages_are_one_answer(live: Any) -> None:
    asked: list[str] = []

    def answer(target: str) -> dict[str, Any]:
        asked.append(target.partition("?")[2])
        if "category=spot" in target:
            return {"list": [{**ORDER, "category": "spot", "orderId": "S1", "orderLinkId": "x"}]}
        page = 2 if "cursor=" in target else 1
        row = {**ORDER, "orderId": f"L{page}"}
        del row["category"]
        return {"list": [row], "nextPageCursor": "a%3A1%2C2" if page == 1 else "", "category": "linear"}

    live.answers[endpoints.OPEN_ORDERS] = answer
    live.connector.get_open_orders(QueryOpenOrders(Venue.BYBIT, 9), live.now_ns)
    while live.answer_requests():
        pass
    (event,) = live.take()
    assert isinstance(event, OpenOrders)
    assert (event.request_id, event.is_ok) == (9, True)
    assert [(one.order_id, one.instrument, one.exec_type) for one in event.orders] == [
        ("L1", LINEAR, ExecType.STATUS), ("S1", SPOT, ExecType.STATUS), ("L2", LINEAR, ExecType.STATUS),
    ]  # fmt: skip
    assert asked == [
        "category=linear&settleCoin=USDT&openOnly=0&limit=50",
        "category=spot&openOnly=0&limit=50",
        "category=linear&settleCoin=USDT&openOnly=0&limit=50&cursor=a%3A1%2C2",
    ]


def test_partial_answer_is_not_called_complete(live: Any) -> None:
    live.answers[endpoints.OPEN_ORDERS] = lambda target: 500 if "spot" in target else {"list": [ORDER]}
    live.connector.get_open_orders(QueryOpenOrders(Venue.BYBIT, 9), live.now_ns)
    for _ in range(100):
        live.answer_requests()
        live.tick()
    (event,) = live.of(OpenOrders)
    assert not event.is_ok


def test_fills_are_fetched_with_overlap_in_windows_and_told_oldest_first(live: Any) -> None:
    rows = [{**EXECUTION, "execId": f"E{at}", "execTime": str(UTC_MS + at), "seq": at} for at in (3, 1, 2)]
    targets: list[str] = []

    def answer(target: str) -> dict[str, Any]:
        targets.append(target)
        return {"list": rows if len(targets) == 1 else []}

    live.answers[endpoints.EXECUTIONS] = answer
    since = UTC_MS - 8 * 86_400_000
    live.connector.get_fills(QueryFills(Venue.BYBIT, 3, LINEAR, since * MS), live.now_ns)
    live.answer_requests()
    (event,) = live.take()
    assert isinstance(event, Fills)
    assert [fill.exec_id for fill in event.fills] == ["E1", "E2", "E3"]
    assert len(targets) == 2
    assert f"startTime={since - 10_000}&" in targets[0]


def test_windows_cover_the_whole_span_without_a_hole() -> None:
    now = UTC_MS
    windows = queries.fill_windows(now - 40 * 86_400_000, now)
    assert windows[0][0] == now - 40 * 86_400_000 - 10_000
    assert windows[-1][1] >= now
    assert all(last - first <= 7 * 86_400_000 for first, last in windows)
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(windows))
    assert len(queries.fill_windows(0, now)) == 1


def test_balances_and_positions_are_asked_as_the_venue_wants(live: Any) -> None:
    live.answers[endpoints.WALLET] = {"list": [{"totalAvailableBalance": "5000", "coin": [COIN]}]}
    live.answers[endpoints.POSITIONS] = {
        "list": [{"symbol": "BTCUSDT", "positionIdx": 0, "side": "Sell", "size": "0.002", "updatedTime": "9"}]
    }
    live.connector.get_balance(QueryBalances(Venue.BYBIT, 4), live.now_ns)
    live.connector.get_positions(QueryPositions(Venue.BYBIT, 5), live.now_ns)
    targets = [one[2] for one in live.wire.requests]
    assert targets == [
        "/v5/account/wallet-balance?accountType=UNIFIED",
        "/v5/position/list?category=linear&settleCoin=USDT&limit=200",
    ]
    live.answer_requests()
    assert live.take() == [
        Balances(
            live.now_ns, Venue.BYBIT, 4,
            (Balance(live.now_ns, Venue.BYBIT, "USDT", 1_000 * 10**8, 900 * 10**8, UTC_MS * MS),),
        ),
        Positions(live.now_ns, Venue.BYBIT, 5, (PositionReport(live.now_ns, Venue.BYBIT, LINEAR, -2, 9 * MS),)),
    ]  # fmt: skip


def test_questions_without_credentials_are_answered_with_no(make_world: Any) -> None:
    world = make_world().go_live()
    world.connector.get_balance(QueryBalances(Venue.BYBIT, 4), world.now_ns)
    world.connector.get_open_orders(QueryOpenOrders(Venue.BYBIT, 5), world.now_ns)
    world.connector.get_order(QueryOrder(Venue.BYBIT, LINEAR, ID, ""), world.now_ns)
    balances, orders, order = world.take()
    assert (balances.is_ok, orders.is_ok, order.exec_type) == (False, False, ExecType.OUTCOME_UNKNOWN)


def test_recorded_rest_answers_are_understood(captures: Path, wide: Any) -> None:
    for path, name in (
        (endpoints.OPEN_ORDERS, "http_get_orders_realtime.json"),
        (endpoints.WALLET, "http_get_wallet_balance.json"),
        (endpoints.POSITIONS, "http_get_positions.json"),
        (endpoints.EXECUTIONS, "http_get_executions.json"),
    ):
        answer = recorded(captures, name)
        answer["result"]["nextPageCursor"] = ""
        wide.answers[path] = answer
    wide.connector.get_open_orders(QueryOpenOrders(Venue.BYBIT, 1), wide.now_ns)
    wide.connector.get_balance(QueryBalances(Venue.BYBIT, 2), wide.now_ns)
    wide.connector.get_positions(QueryPositions(Venue.BYBIT, 3), wide.now_ns)
    wide.connector.get_fills(QueryFills(Venue.BYBIT, 4, 0, UTC_MS * MS), wide.now_ns)
    while wide.answer_requests():
        pass
    orders, balances, positions, fills = wide.take()
    assert all(event.is_ok for event in (orders, balances, positions, fills))
    assert [one.order_id for one in orders.orders] == ["open-order-1", "open-order-2"] * 2
    assert {one.asset: one.total_atoms for one in balances.balances} == {"BTC": 0, "USDT": 100_050_000_000, "ETH": 0}
    assert [one.qty_lots for one in positions.positions] == [500, -5_000, 0]
    assert [(one.qty_lots, one.fee_atoms) for one in fills.fills] == [(100, 1_500_000), (500, 90_000_000)]
