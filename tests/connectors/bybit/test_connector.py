"""The connector as a whole: sockets, control frames, purity, and the same bytes for the same inputs."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from connectors.bybit import endpoints
from connectors.bybit.endpoints import PRIVATE, PUBLIC_LINEAR, TRADE, endpoints_of
from connectors.registry import CONNECTORS
from engine.actions import AmendOrder, CancelAll, CancelOrder, PlaceOrder, QueryFills, QueryOpenOrders, QueryOrder
from engine.errors import ConfigError
from engine.events import ChannelState, OrderReport
from engine.ids import cl_ord_id
from engine.types import ConnState, ExecType, OrdType, Side, TimeInForce, Venue
from engine.venue import VenueSettings

MS, SECOND = 1_000_000, 1_000_000_000
ID = cl_ord_id(1, 2, 3, 4)
SOURCES = Path(endpoints.__file__).parent


def test_registry_knows_the_connector(live: Any) -> None:
    assert isinstance(live.connector, CONNECTORS[Venue.BYBIT])


def test_channels_carry_the_venue() -> None:
    assert {channel >> 8 for channel in endpoints.CHANNEL_NAMES} == {Venue.BYBIT}


@pytest.mark.parametrize(
    ("environment", "http", "private", "trade", "linear"),
    [
        ("live", "https://api.bybit.com", "wss://stream.bybit.com/v5/private", "wss://stream.bybit.com/v5/trade",
         "wss://stream.bybit.com/v5/public/linear"),
        ("testnet", "https://api-testnet.bybit.com", "wss://stream-testnet.bybit.com/v5/private",
         "wss://stream-testnet.bybit.com/v5/trade", "wss://stream-testnet.bybit.com/v5/public/linear"),
        ("demo", "https://api-demo.bybit.com", "wss://stream-demo.bybit.com/v5/private", "",
         "wss://stream.bybit.com/v5/public/linear"),
    ],
)  # fmt: skip
def test_addresses_of_each_environment(environment: str, http: str, private: str, trade: str, linear: str) -> None:
    found = endpoints_of(VenueSettings(environment=environment))
    assert (found.http, found.ws_private, found.ws_trade, found.ws_public[PUBLIC_LINEAR]) == (
        http, private, trade, linear,
    )  # fmt: skip


def test_local_environment_needs_addresses() -> None:
    with pytest.raises(ConfigError) as caught:
        endpoints_of(VenueSettings(environment="local"))
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "venues.bybit.urls.base_http", "venues.bybit.urls.base_ws",
    ]  # fmt: skip


def test_pings_go_out_and_every_pong_is_understood(live: Any) -> None:
    for _ in range(21):
        live.run(SECOND)
        live.snapshot(PUBLIC_LINEAR)  # a book that is fed
    for channel in (PRIVATE, TRADE, PUBLIC_LINEAR):
        assert {"req_id": "ping", "op": "ping"} in live.sent(channel)
    live.take()
    live.frame(PRIVATE, {"req_id": "ping", "op": "pong", "args": ["1763800000123"], "conn_id": "c1"})
    live.frame(TRADE, {"retCode": 0, "retMsg": "OK", "op": "pong", "data": ["1763800000123"], "connId": "c1"})
    pong = {"success": True, "ret_msg": "pong", "conn_id": "c1", "req_id": "ping", "op": "ping"}
    live.frame(PUBLIC_LINEAR, pong)
    assert live.take() == []
    assert live.connector.control_refusals == 0


def test_socket_without_any_frame_is_replaced(live: Any) -> None:
    live.run(30 * SECOND)
    states = [one for one in live.of(ChannelState) if one.channel == PRIVATE]
    assert states[0].state is ConnState.DOWN
    assert states[0].reason.startswith("silent for")


def test_refused_login_is_tried_again_later(world: Any) -> None:
    world.start()
    world.wire.up.add(PRIVATE)
    world.connector.on_connected(PRIVATE, world.now_ns)
    world.frame(PRIVATE, {"success": False, "ret_msg": "Params Error", "op": "auth"})
    down = world.of(ChannelState)[-1]
    assert (down.state, down.reason) == (ConnState.DOWN, "log-in refused:  Params Error")
    world.disconnect(PRIVATE)
    world.take()
    world.run(SECOND)
    assert [one.state for one in world.of(ChannelState) if one.channel == PRIVATE] == [ConnState.CONNECTING]


@pytest.mark.parametrize(
    "reply",
    [
        {"op": "auth", "success": True, "retCode": 0, "retMsg": "", "connId": "cejreaspqfm9se7usbrg-2xh"},
        {"success": True, "ret_msg": "", "op": "auth", "conn_id": "c2"},
        {"retCode": 0, "retMsg": "OK", "op": "auth", "connId": "c3"},
    ],
)
def test_both_shapes_of_a_login_answer(world: Any, reply: dict[str, Any]) -> None:
    world.start()
    world.wire.up.add(PRIVATE)
    world.connector.on_connected(PRIVATE, world.now_ns)
    world.frame(PRIVATE, reply)
    assert world.last_sent(PRIVATE)["op"] == "subscribe"


def test_private_frame_that_is_no_json_may_have_been_a_fill(live: Any) -> None:
    live.frame(PRIVATE, b'{"topic":"execution","data":[{"exec')
    assert ("close", PRIVATE) in live.wire.log


def test_stop_closes_everything_and_stays_down(live: Any) -> None:
    for at in range(20):
        live.connector.place_order(limit(ID + at), live.now_ns)
    live.connector.stop(live.now_ns)
    assert not live.wire.up
    refused = [one for one in live.of(OrderReport) if one.exec_type is ExecType.REJECTED]
    assert refused  # those that had not been sent
    live.take()
    live.run(60 * SECOND)
    assert live.take() == []
    before = len(live.wire.log)
    live.connector.place_order(limit(ID + 50), live.now_ns)
    live.connector.cancel_all(CancelAll(Venue.BYBIT, 0), live.now_ns)
    assert len(live.wire.log) == before
    assert [one.exec_type for one in live.take()] == [ExecType.REJECTED]


def limit(ident: int) -> PlaceOrder:
    return PlaceOrder(Venue.BYBIT, 0, ident, Side.BUY, OrdType.LIMIT, 250_000, 10, TimeInForce.IOC)


def drive(world: Any) -> list[Any]:
    """A busy minute: orders, answers, limits, losses."""
    world.go_live()
    connector = world.connector
    for at in range(12):
        connector.place_order(limit(ID + at), world.now_ns)
        world.tick(7 * MS)
    connector.place_orders([limit(ID + 50 + at) for at in range(5)], world.now_ns)
    connector.cancel_order(CancelOrder(Venue.BYBIT, 0, ID, ""), world.now_ns)
    connector.amend_order(AmendOrder(Venue.BYBIT, 0, ID + 1, "V1", Side.BUY, 249_990, 20), world.now_ns)
    world.delta(102)
    world.run(SECOND)
    world.disconnect(TRADE)
    connector.place_order(limit(ID + 99), world.now_ns)
    connector.cancel_all(CancelAll(Venue.BYBIT, 1), world.now_ns)
    connector.get_order(QueryOrder(Venue.BYBIT, 0, ID, ""), world.now_ns)
    connector.get_open_orders(QueryOpenOrders(Venue.BYBIT, 1), world.now_ns)
    connector.get_fills(QueryFills(Venue.BYBIT, 2, 0, 0), world.now_ns)
    world.run(30 * SECOND)
    world.disconnect(PRIVATE)
    world.run(30 * SECOND)
    return [world.wire.log, world.wire.timers, world.events]


def test_same_inputs_give_the_same_bytes(make_world: Any, credentials: Any) -> None:
    first, second = (drive(make_world(credentials=credentials)) for _ in range(2))
    assert first == second
    assert len(first[0]) > 60


def test_replay_without_keys_sends_as_many_bytes(make_world: Any, credentials: Any) -> None:
    signed = make_world(credentials=credentials)
    off = make_world(credentials=credentials)
    off.connector.signer_off = True
    logs = drive(signed)[0], drive(off)[0]
    assert [entry[:2] for entry in logs[0]] == [entry[:2] for entry in logs[1]]
    assert [[len(str(part)) for part in entry] for entry in logs[0]] == [
        [len(str(part)) for part in entry] for entry in logs[1]
    ]
    assert logs[0] != logs[1]


def test_connector_imports_only_what_it_may() -> None:
    engine = ("types", "instrument", "events", "actions", "venue", "errors", "ids")
    allowed = {f"engine.{name}" for name in engine} | {
        "__future__", "collections.abc", "decimal", "enum", "typing", "urllib.parse", "msgspec", "orjson", "ext",
        "ext.encode", "ext.scan", "ext.sequence", "ext.throttle", "ext.decode_bybit", "connectors.session",
        "connectors.rest", "connectors.keys", "connectors.bybit",
    }  # fmt: skip
    for path in sorted(SOURCES.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name in allowed or name.startswith("connectors.bybit."), f"{path.name}: {name}"


def test_secrets_are_in_no_event_and_no_repr(live: Any) -> None:
    shown = repr(live.events) + repr(live.connector) + repr(vars(live.connector.context)) + repr(live.connector.entry)
    assert "demo-secret-bybit-0001" not in shown
