"""The start: clock, key, account, instruments; what is refused, and what is asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from connectors.bybit import endpoints
from connectors.bybit.startup import key_problems
from engine.events import ClockOffset, FeeTier, InstrumentDefined, VenueNotice, VenueReady, VenueRefused
from engine.types import InstrumentState, Market
from engine.venue import Credentials, VenueSettings

MS, SECOND = 1_000_000, 1_000_000_000
UTC_MS = 1_763_800_000_000
LINEAR, SPOT = 0, 1
KEY = {
    "readOnly": 0, "permissions": {"ContractTrade": ["Order"], "Spot": ["SpotTrade"], "Wallet": []},
    "ips": ["203.0.113.7"], "deadlineDay": -1,
}  # fmt: skip
BOTH = (Market.SPOT, Market.LINEAR)


def problems(settings: dict[str, Any] | None = None, markets: Any = BOTH, **fields: Any) -> list[str]:
    return key_problems({**KEY, **fields}, VenueSettings(environment="live", **(settings or {})), markets)


def test_good_key_has_no_problems() -> None:
    assert problems() == []


@pytest.mark.parametrize("word", ["Withdraw", "AccountTransfer", "SubMemberTransfer"])
def test_key_that_may_move_money_is_refused(word: str) -> None:
    permissions = {**KEY["permissions"], "Wallet": [word]}  # type: ignore[dict-item]
    assert problems(permissions=permissions) == [f"permission {word} is on"]


@pytest.mark.parametrize(
    ("fields", "settings", "words"),
    [
        ({"readOnly": 1}, {}, "read-only"),
        ({"ips": []}, {}, "not bound"),
        ({"ips": ["*"]}, {}, "not bound"),
        ({"ips": [], "deadlineDay": 90}, {"allow_no_ip_restriction": True}, ""),
        ({"ips": [], "deadlineDay": 6}, {"allow_no_ip_restriction": True}, "expires in 6 days"),
        ({"deadlineDay": 3}, {}, "expires in 3 days"),
        ({"deadlineDay": -2}, {}, ""),
        ({"ips": ["*"], "deadlineDay": -1}, {"allow_no_ip_restriction": True}, ""),
        ({"permissions": {"Spot": ["SpotTrade"]}}, {}, "derivatives"),
        ({"permissions": {"Derivatives": ["DerivativesTrade"]}}, {}, "spot"),
        ({"permissions": {"Derivatives": ["DerivativesTrade"], "Spot": ["SpotTrade"]}}, {}, ""),
    ],
)
def test_key_is_looked_at(fields: dict[str, Any], settings: dict[str, Any], words: str) -> None:
    found = problems(settings, **fields)
    assert len(found) == bool(words)
    assert words in "".join(found)


def test_key_needs_no_permission_for_a_market_that_is_not_used() -> None:
    assert problems(markets=(Market.SPOT,), permissions={"Spot": ["SpotTrade"]}) == []


def test_recorded_key_is_refused(captures: Path) -> None:
    path = captures / "nautilus_trader/HEAD/crates/adapters/bybit/test_data/http_get_user_query_api.json"
    result = orjson.loads(path.read_bytes())["result"]
    found = key_problems(result, VenueSettings(environment="live"), BOTH)
    assert found == [
        "permission AccountTransfer is on", "permission SubMemberTransfer is on", "the key is read-only",
    ]  # fmt: skip


# --- the sequence -----------------------------------------------------------------------------------------------------


def test_nothing_is_signed_before_the_clock_is_measured(world: Any) -> None:
    world.connector.start(world.now_ns)
    for _ in range(5):
        assert [one[2] for one in world.wire.requests] == [endpoints.SERVER_TIME]
        world.now_ns += 20 * MS
        world.answer_requests()
    (event,) = world.take()
    assert isinstance(event, ClockOffset)
    assert event.rtt_ns == 20 * MS
    assert all(one[3]["X-BAPI-SIGN"] for one in world.wire.requests if "/account/" in one[2])


def test_clock_is_taken_from_the_quickest_round_trip(world: Any) -> None:
    world.connector.start(world.now_ns)
    ahead = 3 * SECOND  # the venue's clock, or ours behind
    for rtt_ms in (50, 10, 90, 40, 70):
        request_id, *_ = world.only_request("GET")
        world.now_ns += rtt_ms * MS
        slow_way_back = 0 if rtt_ms == 10 else 20 * MS
        at = UTC_MS * MS + world.now_ns - 5_000 * SECOND + ahead - rtt_ms * MS // 2 - slow_way_back
        world.respond(request_id, {"retCode": 0, "result": {"timeNano": str(at)}, "time": at // MS})
    (event,) = world.of(ClockOffset)
    assert (event.offset_ns, event.rtt_ns) == (ahead, 10 * MS)
    signed = next(one for one in world.wire.requests if one[3])
    assert int(signed[3]["X-BAPI-TIMESTAMP"]) == (UTC_MS * MS + world.now_ns - 5_000 * SECOND + ahead) // MS


def test_ready_comes_when_all_sockets_are_up(world: Any) -> None:
    world.start()
    assert [one.instrument.name for one in world.of(InstrumentDefined)] == [
        "BYBIT:BTC-USDT:PERPETUAL", "BYBIT:BTC-USDT:SPOT",
    ]  # fmt: skip
    assert world.of(FeeTier)[0] == FeeTier(world.now_ns, LINEAR, -50, 550)
    for channel in (endpoints.PUBLIC_LINEAR, endpoints.PUBLIC_SPOT, endpoints.TRADE):
        world.connect(channel)
        assert not world.of(VenueReady)
    world.connect(endpoints.PRIVATE)
    assert len(world.of(VenueReady)) == 1
    assert world.sent(endpoints.PRIVATE)[-1]["args"] == ["order", "execution", "position", "wallet"]


def test_ready_is_told_again_after_each_loss_of_the_private_stream(live: Any) -> None:
    live.disconnect(endpoints.PRIVATE)
    assert not live.of(VenueReady)
    live.run(SECOND)
    live.connect(endpoints.PRIVATE)
    assert len(live.of(VenueReady)) == 1
    live.disconnect(endpoints.TRADE)
    live.run(SECOND)
    live.connect(endpoints.TRADE)
    assert len(live.of(VenueReady)) == 1


def test_ready_does_not_wait_for_a_trade_socket_that_cannot_connect(world: Any) -> None:
    world.start()
    for channel in (endpoints.PUBLIC_LINEAR, endpoints.PUBLIC_SPOT, endpoints.PRIVATE):
        world.connect(channel)
    assert not world.of(VenueReady)
    world.disconnect(endpoints.TRADE, "refused")
    assert len(world.of(VenueReady)) == 1


def test_market_data_alone_needs_no_key(make_world: Any) -> None:
    world = make_world().go_live()
    assert {entry[1] for entry in world.wire.log if entry[0] == "connect"} == {
        endpoints.PUBLIC_LINEAR, endpoints.PUBLIC_SPOT, endpoints.PROBE_LINEAR, endpoints.PROBE_SPOT,
    }  # fmt: skip
    assert not [entry for entry in world.wire.log if entry[0] == "request" and entry[5]]


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_credentials_of_another_environment_are_refused_before_anything_is_sent(make_world: Any) -> None:
    world = make_world(credentials=Credentials("k", "s", "hmac", "live"))
    world.start()
    (event,) = world.take()
    assert (event.category, event.reason) == (
        "environment",
        "bybit: credentials are for 'live', settings for 'local'",
    )
    assert not world.wire.log


def test_key_of_an_unknown_type_is_refused(make_world: Any) -> None:
    world = make_world(credentials=Credentials("k", "s", "ed25519", "local"))
    world.start()
    (event,) = world.take()
    assert event.category == "key"


@pytest.mark.parametrize(
    ("path", "answer", "category"),
    [
        (endpoints.KEY_INFO, {"retCode": 10003, "retMsg": "API key is invalid."}, "key"),
        (endpoints.KEY_INFO, {"retCode": 33004, "retMsg": "Your api key has expired."}, "key"),
        (endpoints.KEY_INFO, {**KEY, "readOnly": 1}, "key"),
        (endpoints.ACCOUNT_INFO, {"marginMode": "REGULAR_MARGIN", "unifiedMarginStatus": 1}, "mode"),
        (endpoints.POSITIONS, {"list": [{"symbol": "BTCUSDT", "positionIdx": 1, "side": "", "size": "0"}]}, "mode"),
        (endpoints.INSTRUMENTS, {"list": []}, "instruments"),
        (endpoints.INSTRUMENTS, {"list": [{"symbol": "BTCUSDT", "status": "Trading"}]}, "instruments"),
    ],
)
def test_wrong_answers_refuse_the_venue(world: Any, path: str, answer: Any, category: str) -> None:
    world.answers[path] = answer
    world.start()
    assert category in [one.category for one in world.of(VenueRefused)]
    assert not any(entry[0] == "connect" for entry in world.wire.log)


def test_unreachable_venue_is_asked_for_ever(world: Any) -> None:
    world.answers[endpoints.ACCOUNT_INFO] = 0
    world.start()
    for _ in range(600):
        world.tick()
        world.answer_requests()
    assert not world.of(VenueRefused)
    assert not any(entry[0] == "connect" for entry in world.wire.log)
    world.answers[endpoints.ACCOUNT_INFO] = {"marginMode": "REGULAR_MARGIN", "unifiedMarginStatus": 5}
    for _ in range(300):
        world.tick()
        world.answer_requests()
    assert any(entry[0] == "connect" for entry in world.wire.log)


# --- while it runs ----------------------------------------------------------------------------------------------------


def test_venue_that_halts_an_instrument_is_believed(live: Any) -> None:
    row = {**live.linear_row, "status": "Delivering"}
    live.answers[endpoints.INSTRUMENTS] = lambda target: {
        "list": [row if "linear" in target else live.spot_row]
    }  # fmt: skip
    live.run(61 * SECOND)
    live.answer_requests()
    (event,) = live.of(InstrumentDefined)
    assert event.instrument.state is InstrumentState.HALTED


def test_other_tick_size_needs_a_restart(live: Any) -> None:
    row = {**live.linear_row, "priceFilter": {"tickSize": "0.5"}}
    live.answers[endpoints.INSTRUMENTS] = lambda target: {
        "list": [row if "linear" in target else live.spot_row]
    }  # fmt: skip
    live.run(61 * SECOND)
    live.answer_requests()
    (event,) = live.of(VenueRefused)
    assert event.category == "instruments"


def test_key_that_may_withdraw_since_today_is_refused(live: Any) -> None:
    live.answers[endpoints.KEY_INFO] = {**KEY, "permissions": {**KEY["permissions"], "Wallet": ["Withdraw"]}}  # type: ignore[dict-item]
    live.run(601 * SECOND)
    live.answer_requests()
    assert [one.category for one in live.of(VenueRefused)] == ["key"]


def test_fees_and_margin_mode_are_looked_at_again(live: Any) -> None:
    live.answers[endpoints.FEE_RATE] = {
        "list": [{"symbol": "BTCUSDT", "makerFeeRate": "0", "takerFeeRate": "0.0002"}]
    }  # fmt: skip
    live.answers[endpoints.ACCOUNT_INFO] = {"marginMode": "ISOLATED_MARGIN", "unifiedMarginStatus": 5}
    for _ in range(610):
        live.run(SECOND)
        live.answer_requests()
    assert [(one.instrument, one.maker_ppm, one.taker_ppm) for one in live.of(FeeTier)] == [
        (LINEAR, 0, 200), (SPOT, 0, 200),
    ]  # fmt: skip
    assert live.connector.account.margin_mode == "ISOLATED_MARGIN"


def test_bad_timestamp_measures_the_clock_anew(live: Any) -> None:
    live.run(2 * SECOND)
    live.connector.context.on_bad_clock(live.now_ns)
    assert [one[2] for one in live.wire.requests] == [endpoints.SERVER_TIME]
    live.connector.context.on_bad_clock(live.now_ns)
    assert len(live.wire.requests) == 1
    for _ in range(5):
        live.answer_requests()
    assert len(live.of(ClockOffset)) == 1


def test_ban_of_the_address_is_announced_and_silences_rest(live: Any) -> None:
    live.run(31 * SECOND)
    request_id, *_ = live.only_request("GET")
    live.respond(request_id, {}, 403)
    (notice,) = live.of(VenueNotice)
    assert (notice.kind, notice.until_ts_ns) == ("banned", live.now_ns + 600 * SECOND)
    live.run(300 * SECOND)
    assert not live.wire.requests
    live.run(301 * SECOND)
    assert live.wire.requests


# --- dead man's switch ------------------------------------------------------------------------------------------------


def test_dead_man_is_armed_where_the_account_has_it(world: Any) -> None:
    world.answers[endpoints.ACCOUNT_INFO] = {
        "marginMode": "REGULAR_MARGIN", "unifiedMarginStatus": 5, "dcpStatus": "ON",
    }  # fmt: skip
    world.start()
    posts = [(one[2], orjson.loads(one[4])) for one in world.wire.requests if one[1] == "POST"]
    assert posts == [
        (endpoints.DEAD_MAN, {"product": "DERIVATIVES", "timeWindow": 10}),
        (endpoints.DEAD_MAN, {"product": "SPOT", "timeWindow": 10}),
    ]
    world.answers[endpoints.DEAD_MAN] = {}
    world.answer_requests()
    world.connect(endpoints.PRIVATE)
    assert {"dcp.future", "dcp.spot"} <= set(world.sent(endpoints.PRIVATE)[-1]["args"])
    sent = len(world.sent(endpoints.PRIVATE))
    world.run(4 * SECOND)  # silence of the socket would fire it: pings come well within the window
    assert world.sent(endpoints.PRIVATE)[sent:] == [{"req_id": "ping", "op": "ping"}]


def test_dead_man_is_left_alone_where_the_account_has_none(live: Any) -> None:
    assert not [entry for entry in live.wire.log if entry[0] == "request" and entry[4] == endpoints.DEAD_MAN]


WRONG: tuple[Any, ...] = (None, "", "x", 7, -1, 1.5, [], {}, [7], {"list": [7]}, {"list": 7}, {"list": [{}]}, True)


@pytest.mark.parametrize(
    "path",
    [
        endpoints.SERVER_TIME, endpoints.INSTRUMENTS, endpoints.KEY_INFO, endpoints.ACCOUNT_INFO, endpoints.FEE_RATE,
        endpoints.POSITIONS,
    ],
)  # fmt: skip
def test_no_answer_of_the_start_raises_whatever_it_holds(make_world: Any, credentials: Any, path: str) -> None:
    for wrong in WRONG:
        world = make_world(credentials=credentials)
        world.answers[path] = {"retCode": 0, "retMsg": "OK", "result": wrong, "time": 1}
        world.start()
        world.run(2 * SECOND)
        world.answer_requests()
