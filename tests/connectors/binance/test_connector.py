"""Start, readiness, refusals, definitions that change, stop."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from connectors.binance.connector import BinanceConnector
from connectors.binance.endpoints import SPOT_API, USDM_API, USDM_PRIVATE, urls_of
from engine.events import (
    BookInvalid,
    ClockOffset,
    FeeTier,
    InstrumentDefined,
    InstrumentStateChanged,
    OrderReport,
    VenueReady,
    VenueRefused,
)
from engine.types import ExecType, InstrumentState
from engine.venue import Credentials, VenueSettings
from tests.connectors.binance.binance_world import (
    KEY,
    OUR_ID,
    PERP_INDEX,
    RIGHTS,
    SPECS,
    SPOT_INDEX,
    SPOT_INFO,
    Binance,
    spot_result,
    usdm_result,
)
from tests.connectors.fake_wire import MS, SECOND


def test_ready_comes_once_and_last() -> None:
    venue = Binance().start(books=True)
    assert len(venue.of(VenueReady)) == 1
    kinds = [type(event).__name__ for event in venue.events]
    for earlier in ("InstrumentDefined", "ClockOffset", "FeeTier"):
        assert kinds.index(earlier) < kinds.index("VenueReady")
    assert [(tier.instrument, tier.maker_ppm, tier.taker_ppm) for tier in venue.of(FeeTier)] == [
        (SPOT_INDEX, 1_010, 2_020),
        (PERP_INDEX, 200, 400),
    ]


def test_without_credentials_there_is_market_data_and_nothing_private() -> None:
    venue = Binance(credentials=None).start(books=True)
    assert len(venue.of(VenueReady)) == 1
    assert {index for index, _ in venue.book_updates} == {SPOT_INDEX, PERP_INDEX}
    assert not {SPOT_API, USDM_API, USDM_PRIVATE} & venue.wire.connected
    venue.place()
    assert venue.of(OrderReport)[0].exec_type is ExecType.REJECTED


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"enableWithdrawals": True}, "enableWithdrawals"),
        ({"enableInternalTransfer": True}, "enableInternalTransfer"),
        ({"permitsUniversalTransfer": True}, "permitsUniversalTransfer"),
        ({"enableFutures": False}, "enableFutures"),
        ({"enableSpotAndMarginTrading": False}, "enableSpotAndMarginTrading"),
    ],
)
def test_key_that_may_do_too_much_or_too_little_is_refused(changes: dict[str, bool], word: str) -> None:
    venue = Binance()
    venue.routes["GET /sapi/v1/account/apiRestrictions"] = {**RIGHTS, **changes}
    venue.start()
    (refused,) = venue.of(VenueRefused)
    assert refused.category == "key" and word in refused.reason
    assert venue.of(VenueReady) == [] and SPOT_API not in venue.wire.connected


@pytest.mark.parametrize(("is_allowed", "count"), [(False, 1), (True, 0)])
def test_live_key_without_an_address_restriction_needs_permission(is_allowed: bool, count: int) -> None:
    key = Credentials(KEY.api_key, KEY.secret, environment="live")
    venue = Binance(credentials=key, environment="live", allow_no_ip_restriction=is_allowed)
    venue.routes["GET /sapi/v1/account/apiRestrictions"] = {**RIGHTS, "ipRestrict": False}
    venue.start()
    assert len(venue.of(VenueRefused)) == count


def test_key_of_another_environment_never_leaves_the_process() -> None:
    venue = Binance(credentials=Credentials(KEY.api_key, KEY.secret, environment="live"))
    venue.start()
    assert [event.category for event in venue.of(VenueRefused)] == ["environment"]
    assert venue.wire.log == []


def test_testnet_has_no_key_check() -> None:
    key = Credentials(KEY.api_key, KEY.secret, environment="testnet")
    venue = Binance(credentials=key, environment="testnet", urls={}).start()
    assert len(venue.of(VenueReady)) == 1
    assert venue.requests_to("/sapi/v1/account/apiRestrictions") == []


def test_hedge_mode_is_refused() -> None:
    venue = Binance()
    venue.routes["GET /fapi/v1/positionSide/dual"] = {"dualSidePosition": True}
    venue.start()
    assert [event.category for event in venue.of(VenueRefused)] == ["mode"]
    assert venue.of(VenueReady) == []


def test_margin_modes_are_read() -> None:
    venue = Binance().start()
    assert venue.connector.mode_check is not None
    assert venue.connector.mode_check.margin == {PERP_INDEX: ("CROSSED", 20)}


def test_unlisted_symbol_is_refused() -> None:
    venue = Binance()
    venue.routes["GET /fapi/v1/exchangeInfo"] = {"symbols": [], "rateLimits": []}
    venue.start()
    assert [event.category for event in venue.of(VenueRefused)] == ["instruments"]


def test_start_survives_a_venue_that_is_not_there_yet() -> None:
    venue = Binance()
    routes = dict(venue.routes)
    venue.routes.clear()
    venue.world.refuse_connects = True
    venue.routes.update({name: (503, {}, b"") for name in routes})
    venue.connector.start(venue.world.now_ns)
    venue.world.run(30 * SECOND)
    assert venue.of(VenueReady) == []
    venue.routes.update(routes)
    venue.world.refuse_connects = False
    venue.world.run(60 * SECOND)
    assert len(venue.of(VenueReady)) == 1


@pytest.mark.parametrize("channel", [SPOT_API, USDM_PRIVATE])
def test_each_loss_of_a_user_data_channel_leads_to_another_reconciliation(channel: int) -> None:
    venue = Binance().start()
    venue.events.clear()
    venue.world.drop(channel)
    assert venue.of(VenueReady) == []
    venue.world.run(3 * SECOND)
    assert len(venue.of(VenueReady)) == 1


def test_clock_is_measured_by_the_shortest_trip() -> None:
    venue = Binance()
    venue.skew_ns = 123 * MS
    venue.start()
    offsets = [event.offset_ns for event in venue.of(ClockOffset)]
    assert offsets and all(abs(offset - 123 * MS) <= MS for offset in offsets)


def test_clock_beyond_the_receive_window_is_refused_and_believed_again_later() -> None:
    venue = Binance()
    venue.skew_ns = 60 * SECOND
    venue.start()
    assert {event.category for event in venue.of(VenueRefused)} == {"clock"}
    assert venue.of(VenueReady) == []
    venue.skew_ns = 0
    venue.world.run(60 * SECOND)
    assert len(venue.of(VenueReady)) == 1


def test_stepped_clock_of_ours_does_not_move_the_venues() -> None:
    venue = Binance().start()
    before = venue.connector.utc_offset_ns
    venue.connector.on_utc_offset(before + 700 * MS, venue.world.now_ns)
    venue.place()
    sent_ms = venue.utc_ms(venue.world.now_ns - venue.world.rtt_ns)
    assert abs(venue.api_requests[-1][1]["params"]["timestamp"] - sent_ms) <= 1


def test_changed_tick_size_defines_the_instrument_and_its_book_again() -> None:
    venue = Binance().start(books=True)
    venue.events.clear()
    info: dict[str, Any] = copy.deepcopy(SPOT_INFO)
    info["symbols"][0]["filters"][0]["tickSize"] = "0.10"
    venue.routes["GET /api/v3/exchangeInfo"] = info
    venue.world.run(301 * SECOND, step_ns=500 * MS)
    assert [str(event.instrument.tick_size) for event in venue.of(InstrumentDefined)] == ["0.10"]
    assert "instrument changed" in [event.reason for event in venue.of(BookInvalid)]
    book = venue.connector.books[SPOT_INDEX]
    assert book.is_valid and book.best_bid_px == 250_000


def test_halted_symbol_is_told_as_a_state() -> None:
    venue = Binance().start()
    venue.events.clear()
    info: dict[str, Any] = copy.deepcopy(SPOT_INFO)
    info["symbols"][0]["status"] = "HALT"
    venue.routes["GET /api/v3/exchangeInfo"] = info
    venue.world.run(601 * SECOND, step_ns=500 * MS)
    assert [(event.instrument, event.state) for event in venue.of(InstrumentStateChanged)] == [
        (SPOT_INDEX, InstrumentState.HALTED)
    ]
    assert venue.of(InstrumentDefined) == []


def test_dead_mans_switch_is_kept_while_an_order_rests_and_switched_off_after() -> None:
    venue = Binance(dead_man_ms=9_000).start()
    venue.api_answers["order.place"] = usdm_result
    venue.place(PERP_INDEX)
    venue.world.run(10 * SECOND)
    times = [asked.query["countdownTime"] for asked in venue.requests_to("/fapi/v1/countdownCancelAll")]
    assert 3 <= len(times) <= 5 and set(times) == {"9000"}
    venue.connector.live.remove(OUR_ID)
    venue.world.run(10 * SECOND)
    times = [asked.query["countdownTime"] for asked in venue.requests_to("/fapi/v1/countdownCancelAll")]
    assert times[-1] == "0" and times.count("0") == 1


@pytest.mark.parametrize(("is_resting", "last"), [(True, "10000"), (False, "0")])
def test_stop_disarms_only_where_nothing_rests_and_closes_everything(is_resting: bool, last: str) -> None:
    venue = Binance().start(books=True)
    venue.api_answers["order.place"] = usdm_result
    venue.place(PERP_INDEX)
    if not is_resting:
        venue.connector.live.remove(OUR_ID)
    venue.connector.stop(venue.world.now_ns)
    venue.world.run(5 * SECOND)
    assert venue.requests_to("/fapi/v1/countdownCancelAll")[-1].query["countdownTime"] == last
    assert venue.wire.connected == set()
    connects = [entry for entry in venue.wire.log if entry[0] == "connect"]
    venue.world.run(60 * SECOND)
    assert [entry for entry in venue.wire.log if entry[0] == "connect"] == connects


def test_signer_that_is_off_needs_no_key_and_is_asked_for_after_construction() -> None:
    def log(credentials: Credentials, *, is_off: bool) -> list[tuple[Any, ...]]:
        venue = Binance(credentials=credentials)
        venue.connector.signer_off = is_off
        venue.start()
        venue.api_answers["order.place"] = spot_result
        venue.place()
        return venue.wire.log

    live, replayed = log(KEY, is_off=False), log(Credentials(KEY.api_key, "", environment="local"), is_off=True)
    assert len(live) == len(replayed)
    assert [[len(part) if isinstance(part, (str, bytes)) else part for part in entry] for entry in live] == [
        [len(part) if isinstance(part, (str, bytes)) else part for part in entry] for entry in replayed
    ]


def test_secret_and_signature_are_in_no_event_and_no_repr() -> None:
    venue = Binance().start(books=True)
    venue.place()
    text = repr(venue.events) + repr(venue.connector) + repr(venue.connector._ctx.auth)
    assert KEY.secret not in text and "signature" not in text


@pytest.mark.parametrize("environment", ["live", "testnet", "demo"])
def test_every_environment_has_all_its_addresses(environment: str) -> None:
    urls = urls_of(VenueSettings(environment=environment, urls={"usdm_stream": "wss://example.org/"}))
    assert urls.usdm_stream == "wss://example.org"
    assert urls.spot_rest.startswith("https://") and urls.spot_api.startswith("wss://")


@pytest.mark.parametrize(("environment", "urls"), [("local", {}), ("moon", {})])
def test_unusable_environment_is_refused(environment: str, urls: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="binance"):
        urls_of(VenueSettings(environment=environment, urls=urls))


def test_connector_module_imports_nothing_that_touches_the_world() -> None:
    assert BinanceConnector.__module__ == "connectors.binance.connector"
    assert [spec.index for spec in SPECS] == [SPOT_INDEX, PERP_INDEX]
