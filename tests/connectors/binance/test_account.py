"""User data of both markets: recorded and written frames become reports, fills, balances, positions, funding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from connectors.binance.endpoints import SPOT_API, USDM_PRIVATE
from engine.actions import QueryBalances
from engine.events import (
    Balance,
    ChannelState,
    Fill,
    FundingPaid,
    OrderReport,
    PositionReport,
    VenueNotice,
    VenueReady,
    VenueRefused,
)
from engine.types import ConnState, ExecType, Market, OrdStatus, Side, Venue
from engine.venue import InstrumentSpec
from tests.connectors.binance.binance_world import (
    OUR_ID,
    OUR_TEXT,
    PERP_INDEX,
    SPOT_INDEX,
    Binance,
    execution,
    order_update,
)
from tests.connectors.fake_wire import MS, SECOND

NAUTILUS = "nautilus_trader/HEAD/crates/adapters/binance/test_data"
TOLD_OF_ORDERS = {"executionReport", "ORDER_TRADE_UPDATE"}


@pytest.fixture
def venue() -> Binance:
    made = Binance().start()
    made.routes["GET /api/v3/account"] = {"balances": [{"asset": "USDT", "free": "100.0", "locked": "20.0"}]}
    made.routes["GET /fapi/v3/balance"] = [{"asset": "USDT", "balance": "50.5", "availableBalance": "40.25"}]
    made.connector.get_balance(QueryBalances(Venue.BINANCE, 1), made.world.now_ns)
    made.world.settle()
    made.events.clear()
    made.asked.clear()
    return made


def usdm(venue: Binance, event: dict[str, Any]) -> None:
    venue.world.frame(USDM_PRIVATE, orjson.dumps(event))


def spot(venue: Binance, event: dict[str, Any]) -> None:
    venue.world.frame(SPOT_API, orjson.dumps({"subscriptionId": 0, "event": event}))


def test_cancelled_spot_order_is_known_by_its_own_id_not_the_cancels(venue: Binance) -> None:
    venue.world.frame(SPOT_API, execution(c="91fe37ce9e69", C=OUR_TEXT, x="CANCELED", X="CANCELED", z="0.00400000"))
    (report,) = venue.of(OrderReport)
    assert (report.cl_ord_id, report.exec_type, report.cum_qty_lots) == (OUR_ID, ExecType.CANCELED, 400)


def test_foreign_order_is_told_without_an_id_of_ours(venue: Binance) -> None:
    venue.world.frame(SPOT_API, execution(c="web_123", i=99))
    (report,) = venue.of(OrderReport)
    assert (report.cl_ord_id, report.order_id) == (0, "99")


def test_late_event_without_our_id_is_known_by_its_number(venue: Binance) -> None:
    venue.world.frame(SPOT_API, execution())
    venue.world.frame(SPOT_API, execution(c="x", C="", x="TRADE", X="FILLED", l="0.01", z="0.01", L="25000", t=5))
    assert [report.cl_ord_id for report in venue.of(OrderReport)] == [OUR_ID, OUR_ID]
    assert venue.of(Fill)[0].cl_ord_id == OUR_ID


def test_self_trade_prevention_expires_and_never_fills(venue: Binance) -> None:
    venue.world.frame(
        SPOT_API,
        execution(x="TRADE_PREVENTION", X="EXPIRED_IN_MATCH", v=3, A="0.01", B="0.01", u=40, U=40, pl="0.01", pL="25"),
    )
    (report,) = venue.of(OrderReport)
    assert (report.exec_type, report.ord_status, report.text) == (
        ExecType.EXPIRED,
        OrdStatus.EXPIRED,
        "self-trade prevented",
    )
    assert venue.of(Fill) == []


def test_unknown_words_are_unknown_and_the_next_event_is_still_read(venue: Binance) -> None:
    venue.world.frame(SPOT_API, execution(x="TELEPORTED", X="ELSEWHERE", zz=None))
    (report,) = venue.take(OrderReport)
    assert (report.exec_type, report.ord_status) == (ExecType.STATUS, OrdStatus.UNKNOWN)
    venue.world.frame(SPOT_API, execution())
    assert venue.of(OrderReport)[0].exec_type is ExecType.NEW


@pytest.mark.parametrize(
    "payload",
    [
        b"{", b"[]", b"null", b"1", b'{"event":null}', b'{"event":{}}', b'{"event":{"e":"executionReport"}}',
        b'{"subscriptionId":0,"event":{"e":"executionReport","s":"BTCUSDT"}}',
        execution(q="abc"), execution(x="TRADE", t=5, l=None), execution(T="soon"), execution(z="0.000001"),
    ],
)  # fmt: skip
def test_private_frame_that_is_not_understood_asks_for_a_reconciliation(venue: Binance, payload: bytes) -> None:
    venue.world.frame(SPOT_API, payload)
    assert len(venue.of(VenueReady)) == 1
    venue.world.frame(SPOT_API, payload)
    assert len(venue.of(VenueReady)) <= 1


def test_fee_in_a_third_asset_and_a_rebate_keep_their_signs(venue: Binance) -> None:
    venue.world.frame(
        SPOT_API, execution(x="TRADE", X="FILLED", l="0.01", z="0.01", L="25000", t=5, n="0.00000001", N="BNB", m=True)
    )
    venue.world.frame(
        USDM_PRIVATE,
        order_update(x="TRADE", X="FILLED", l="0.010", z="0.010", L="25000", t=6, n="-0.025", N="USDT", m=True),
    )
    fees = [(fill.fee_atoms, fill.fee_asset, fill.is_maker) for fill in venue.of(Fill)]
    assert fees == [(1, "BNB", True), (-2_500_000, "USDT", True)]


def test_usdm_fill_without_a_fee_or_a_trade_id_has_a_steady_identity(venue: Binance) -> None:
    frame = order_update(
        c="autoclose-1", x="CALCULATED", X="FILLED", l="0.010", z="0.010", L="25000", t=0, f="IOC", S="SELL"
    )
    venue.world.frame(USDM_PRIVATE, frame)
    venue.world.frame(USDM_PRIVATE, frame)
    first, second = venue.of(Fill)
    assert first.exec_id == second.exec_id == "8886774-1763800000013-10"
    assert (first.cl_ord_id, first.side, first.fee_atoms, first.fee_asset) == (0, Side.SELL, 0, "")
    assert venue.of(OrderReport)[0].text == "autoclose-1"


def test_trade_lite_is_ignored_and_counted(venue: Binance) -> None:
    usdm(venue, {"e": "TRADE_LITE", "E": 1, "T": 1, "s": "BTCUSDT", "q": "0.010", "p": "0", "m": False, "c": OUR_TEXT,
                 "S": "BUY", "L": "25000", "l": "0.010", "t": 7, "i": 8886774})  # fmt: skip
    assert venue.events == []


def test_balances_of_both_wallets_are_one(venue: Binance) -> None:
    spot(venue, {"e": "outboundAccountPosition", "E": 2, "u": 1, "B": [{"a": "USDT", "f": "90.0", "l": "30.0"}]})
    (balance,) = venue.take(Balance)
    assert (balance.total_atoms, balance.available_atoms) == (17_050_000_000, 13_025_000_000)
    usdm(venue, {"e": "ACCOUNT_UPDATE", "E": 3, "T": 3, "a": {"m": "ORDER", "B": [
        {"a": "USDT", "wb": "49.5", "cw": "49.5", "bc": "0"}], "P": []}})  # fmt: skip
    (balance,) = venue.of(Balance)
    assert (balance.total_atoms, balance.available_atoms) == (16_950_000_000, 12_925_000_000)


def test_half_an_account_is_not_told() -> None:
    venue = Binance().start()
    spot(venue, {"e": "outboundAccountPosition", "E": 2, "u": 1, "B": [{"a": "USDT", "f": "90.0", "l": "30.0"}]})
    assert venue.of(Balance) == []


def test_positions_are_signed_and_a_hedge_mode_position_is_refused(venue: Binance) -> None:
    position = {"s": "BTCUSDT", "pa": "-0.010", "ep": "1", "bep": "1", "cr": "0", "up": "0", "mt": "cross", "iw": "0"}
    usdm(venue, {"e": "ACCOUNT_UPDATE", "E": 3, "T": 3, "a": {"m": "ORDER", "B": [], "P": [
        {**position, "ps": "BOTH"}, {**position, "ps": "LONG"}]}})  # fmt: skip
    assert [(report.instrument, report.qty_lots) for report in venue.of(PositionReport)] == [(PERP_INDEX, -10)]
    assert [event.category for event in venue.of(VenueRefused)] == ["mode"]


def test_funding_that_names_its_symbol_is_told_at_once(venue: Binance) -> None:
    usdm(venue, {"e": "ACCOUNT_UPDATE", "E": 3, "T": 1763800000000, "a": {"m": "FUNDING_FEE", "S": "BTCUSDT", "B": [
        {"a": "USDT", "wb": "50.4", "cw": "50.4", "bc": "-0.1"}]}})  # fmt: skip
    (paid,) = venue.of(FundingPaid)
    assert (paid.instrument, paid.amount_atoms, paid.asset) == (PERP_INDEX, -10_000_000, "USDT")
    assert paid.exec_id == "BTCUSDT-1763800000000"


def test_funding_without_a_symbol_is_looked_up(venue: Binance) -> None:
    venue.routes["GET /fapi/v1/income"] = [
        {"symbol": "BTCUSDT", "incomeType": "FUNDING_FEE", "income": "-0.1", "asset": "USDT", "time": 1763800000000,
         "tranId": 777},
        {"symbol": "OTHER", "incomeType": "FUNDING_FEE", "income": "-0.2", "asset": "USDT", "time": 1, "tranId": 778},
    ]  # fmt: skip
    usdm(venue, {"e": "ACCOUNT_UPDATE", "E": 3, "T": 1763800000000, "a": {"m": "FUNDING_FEE", "B": [
        {"a": "USDT", "wb": "50.4", "cw": "50.4", "bc": "-0.1"}]}})  # fmt: skip
    venue.world.settle()
    (paid,) = venue.of(FundingPaid)
    assert (paid.exec_id, paid.amount_atoms) == ("777", -10_000_000)


@pytest.mark.parametrize(
    "event",
    [{"e": "ACCOUNT_CONFIG_UPDATE", "E": 1, "T": 1, "ac": {"s": "BTCUSDT", "l": 25}},
     {"e": "ACCOUNT_CONFIG_UPDATE", "E": 1, "T": 1, "ai": {"j": True}}],
)  # fmt: skip
def test_leverage_or_margin_mode_changed_by_hand_is_refused(venue: Binance, event: dict[str, Any]) -> None:
    usdm(venue, event)
    assert [event.category for event in venue.of(VenueRefused)] == ["mode"]


def test_expired_listen_key_is_replaced_and_the_core_reconciles(venue: Binance) -> None:
    venue.routes["POST /fapi/v1/listenKey"] = {"listenKey": "LK2"}
    usdm(venue, {"e": "listenKeyExpired", "E": 1, "listenKey": "LK1"})
    venue.world.run(2 * SECOND)
    states = [event.state for event in venue.of(ChannelState) if event.channel == USDM_PRIVATE]
    assert states == [ConnState.DOWN, ConnState.CONNECTING, ConnState.UP]
    assert ("connect", USDM_PRIVATE, "ws://127.0.0.1:9001/private/ws/LK2") in venue.wire.log
    assert len(venue.of(VenueReady)) == 1


def test_listen_key_is_kept_alive_and_its_requests_are_secret(venue: Binance) -> None:
    venue.world.run(31 * 60 * SECOND, step_ns=500 * MS)
    puts = [asked for asked in venue.asked if asked.method == "PUT" and asked.path == "/fapi/v1/listenKey"]
    assert len(puts) == 1
    assert puts[0].is_secret and "signature" not in puts[0].query


def test_listen_key_that_is_gone_at_the_keep_alive_is_asked_for_again(venue: Binance) -> None:
    venue.routes["PUT /fapi/v1/listenKey"] = (400, {}, b'{"code":-1125,"msg":"This listenKey does not exist."}')
    venue.world.run(31 * 60 * SECOND, step_ns=500 * MS)
    assert [asked.method for asked in venue.requests_to("/fapi/v1/listenKey")][-2:] == ["PUT", "POST"]


def test_shutdown_notice_on_the_order_channel_moves_it_without_a_break(venue: Binance) -> None:
    venue.world.frame(SPOT_API, b'{"event":{"e":"serverShutdown","E":1}}')
    venue.world.run(8 * SECOND)
    assert [event.kind for event in venue.of(VenueNotice)] == ["shutdown"]
    assert venue.of(ChannelState) == [] and venue.of(VenueReady) == []
    assert SPOT_API not in venue.wire.connected


# --- recorded frames ---


def with_symbol(venue: Binance, market: Market, name: str) -> None:
    """Make the recorded symbol ours: a fine grid, so that every recorded number is on it."""
    side = venue.connector._ctx.sides[market]
    symbol = next(iter(side.symbols.values()))
    side.symbols[name] = symbol


@pytest.mark.parametrize(
    ("path", "exec_type", "status", "fill_lots"),
    [
        ("spot/user_data_json/execution_report_new.json", ExecType.NEW, OrdStatus.NEW, 0),
        ("spot/user_data_json/execution_report_trade.json", ExecType.TRADE, OrdStatus.FILLED, 100_000),
        ("spot/user_data_json/execution_report_canceled.json", ExecType.CANCELED, OrdStatus.CANCELED, 0),
        ("spot/user_data_json/execution_report_expired.json", ExecType.EXPIRED, OrdStatus.EXPIRED, 0),
        ("spot/user_data_json/execution_report_wrapped.json", None, None, None),
        ("spot/user_data_json/execution_report_stop_loss.json", None, None, None),
        ("futures/user_data_json/order_update_new.json", ExecType.NEW, OrdStatus.NEW, 0),
        ("futures/user_data_json/order_update_trade.json", ExecType.TRADE, OrdStatus.PARTIALLY_FILLED, 1),
        ("futures/user_data_json/order_update_trade_partial.json", None, None, None),
        ("futures/user_data_json/order_update_calculated.json", ExecType.TRADE, OrdStatus.FILLED, None),
        ("futures/user_data_json/order_update_calculated_pending.json", ExecType.TRADE, OrdStatus.NEW, 0),
        ("futures/user_data_json/order_update_adl.json", None, None, None),
        ("futures/user_data_json/order_update_settlement.json", None, None, None),
        ("futures/user_data_json/order_update_delivery.json", None, None, None),
        ("futures/user_data_json/order_update_insurance.json", None, None, None),
    ],
)
def test_recorded_order_events_are_read(
    captures: Path,
    venue: Binance,
    path: str,
    exec_type: ExecType | None,
    status: OrdStatus | None,
    fill_lots: int | None,
) -> None:
    frame = orjson.loads((captures / NAUTILUS / path).read_bytes())
    event = frame.get("event", frame)
    is_spot = event["e"] == "executionReport"
    with_symbol(venue, Market.SPOT if is_spot else Market.LINEAR, event["s"] if is_spot else event["o"]["s"])
    if is_spot:
        spot(venue, event)
    else:
        usdm(venue, event)
    (report,) = venue.of(OrderReport)
    assert report.instrument == (SPOT_INDEX if is_spot else PERP_INDEX)
    assert report.ord_status is not OrdStatus.UNKNOWN
    if exec_type is not None:
        assert (report.exec_type, report.ord_status) == (exec_type, status)
    if fill_lots is not None:
        assert sum(fill.qty_lots for fill in venue.of(Fill)) == fill_lots
    assert venue.of(VenueReady) == []


@pytest.mark.parametrize(
    "path",
    ["spot/user_data_json/account_position.json", "spot/user_data_json/account_position_wrapped.json",
     "spot/user_data_json/balance_update.json", "spot/user_data_json/list_status_wrapped.json",
     "futures/user_data_json/account_update.json", "futures/user_data_json/algo_update_new.json",
     "futures/user_data_json/trade_lite.json"],
)  # fmt: skip
def test_other_recorded_events_raise_no_doubt(captures: Path, venue: Binance, path: str) -> None:
    frame = orjson.loads((captures / NAUTILUS / path).read_bytes())
    if "futures" in path:
        usdm(venue, frame)
    else:
        spot(venue, frame.get("event", frame))
    assert venue.of(VenueReady) == []


def test_every_flipped_byte_of_a_report_ends_in_events_or_in_doubt(venue: Binance) -> None:
    payload = execution(x="TRADE", X="FILLED", l="0.01", z="0.01", L="25000", t=5, n="0.1", N="BNB")
    for at in range(len(payload)):
        flipped = payload[:at] + bytes([payload[at] ^ 0x15]) + payload[at + 1 :]
        venue.world.frame(SPOT_API, flipped)


def test_instrument_of_one_market_only_is_served() -> None:
    venue = Binance((InstrumentSpec(0, Market.LINEAR, "BTCUSDT"),)).start()
    assert len(venue.of(VenueReady)) == 1
