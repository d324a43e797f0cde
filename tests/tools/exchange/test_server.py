"""The exchange as a process: its command line, its port, its sockets, and the control API over them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tools.exchange.server import frame_bytes

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "test-token"
KEY, SECRET = "demo-key-bybit-0001", "demo-secret-bybit-0001"


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "tools.exchange", *args]


@contextlib.contextmanager
def exchange(*args: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A running exchange and its port; stopped by SIGTERM."""
    process = subprocess.Popen(
        command("--port", "0", "--control-token", TOKEN, *args), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["pid"] == process.pid
        yield process, ready["port"]
    finally:
        if process.poll() is None:
            process.terminate()
        assert process.wait(10) == 0


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with exchange("--seed", "3") as (_, number):
        yield number


@pytest.fixture(autouse=True)
def _without_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "port" in request.fixturenames:
        control(request.getfixturevalue("port"), "clear", {})


def control(port: int, name: str, body: Any = None, token: str = TOKEN) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/control/{name}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-Control-Token": token},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def get(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return json.load(answer)


def signature(text: str) -> str:
    return hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()


def post_bybit(port: int, path: str, body: dict[str, Any]) -> Any:
    stamp, text = str(time.time_ns() // 1_000_000), json.dumps(body)
    headers = {"X-BAPI-API-KEY": KEY, "X-BAPI-TIMESTAMP": stamp, "X-BAPI-RECV-WINDOW": "5000"}
    headers["X-BAPI-SIGN"] = signature(f"{stamp}{KEY}5000{text}")
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=text.encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def on_socket(port: int, path: str, act: Callable[[aiohttp.ClientWebSocketResponse], Awaitable[Any]]) -> Any:
    """Run `act` on one WebSocket connection."""

    async def run() -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{port}{path}", autoping=False) as ws,
        ):
            return await act(ws)

    return asyncio.run(asyncio.wait_for(run(), 15))


async def subscribe(ws: aiohttp.ClientWebSocketResponse, *topics: str) -> None:
    await ws.send_json({"op": "subscribe", "args": list(topics)})
    assert (await ws.receive_json())["success"] is True


# --- the process ----------------------------------------------------------------------------------------------------


def test_stops_cleanly_on_sigterm_with_sockets_open(tmp_path: Path) -> None:
    with exchange("--ready-file", str(tmp_path / "ready")) as (process, number):
        assert json.loads((tmp_path / "ready").read_text()) == {"port": number, "pid": process.pid}

        async def stop_and_see(ws: aiohttp.ClientWebSocketResponse) -> Any:
            await subscribe(ws, "orderbook.50.BTCUSDT")
            process.send_signal(signal.SIGTERM)
            while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            return message.data

        assert on_socket(number, "/v5/public/linear", stop_and_see) == 1001
        assert process.wait(5) == 0


def test_runs_for_as_long_as_it_is_told() -> None:
    begin = time.monotonic()
    done = subprocess.run(
        command("--port", "0", "--for", "0.3"), cwd=ROOT, capture_output=True, timeout=15, check=False
    )
    assert done.returncode == 0
    assert 0.3 <= time.monotonic() - begin < 10


def test_port_in_use_is_one_line_and_exit_69() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        number = holder.getsockname()[1]
        done = subprocess.run(
            command("--port", str(number)), cwd=ROOT, capture_output=True, text=True, timeout=15, check=False
        )
    assert done.returncode == 69
    assert done.stderr.count("\n") == 1
    assert f"127.0.0.1:{number}" in done.stderr and "in use" in done.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [("sed = 1\n", "sed"), ("seed = 'x'\n", "seed"), ("[synthetic]\nlevels = 'many'\n", "levels"), ("= 1", "TOML")],
)
def test_wrong_config_is_named_and_exit_78(tmp_path: Path, text: str, shown: str) -> None:
    path = tmp_path / "exchange.toml"
    path.write_text(text)
    done = subprocess.run(
        command("--config", str(path)), cwd=ROOT, capture_output=True, text=True, timeout=15, check=False
    )
    assert done.returncode == 78
    assert str(path) in done.stderr and shown in done.stderr


@pytest.mark.parametrize(
    ("args", "code"),
    [(["--faults", "nonsense"], 78), (["--market", "playback"], 78), (["--market", "nonsense"], 64)],
)
def test_wrong_arguments_have_their_exit_codes(args: list[str], code: int) -> None:
    done = subprocess.run(command(*args), cwd=ROOT, capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == code
    assert "nonsense" in done.stderr or "recording" in done.stderr


# --- one port -------------------------------------------------------------------------------------------------------


def test_one_port_serves_both_venues(port: int) -> None:
    now_ms = time.time() * 1000
    assert abs(get(port, "/api/v3/time")["serverTime"] - now_ms) < 5000
    assert abs(get(port, "/fapi/v1/time")["serverTime"] - now_ms) < 5000
    assert abs(get(port, "/v5/market/time")["time"] - now_ms) < 5000
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(port, "/nowhere")


def test_book_stream_is_alive_on_both_venues(port: int) -> None:
    async def count(ws: aiohttp.ClientWebSocketResponse) -> int:
        frames = 0
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            frames += (await ws.receive()).type is aiohttp.WSMsgType.TEXT
        return frames

    async def bybit(ws: aiohttp.ClientWebSocketResponse) -> int:
        await subscribe(ws, "orderbook.50.BTCUSDT")
        return await count(ws)

    assert on_socket(port, "/v5/public/linear", bybit) >= 15
    assert on_socket(port, "/ws/btcusdt@depth@100ms", count) >= 7


def test_wrong_path_is_refused_at_the_handshake(port: int) -> None:
    async def nothing(ws: aiohttp.ClientWebSocketResponse) -> None:
        raise AssertionError("the handshake succeeded")

    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        on_socket(port, "/v5/public/nonsense", nothing)
    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (5, b"\x81\x05"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (70_000, b"\x81\x7f" + (70_000).to_bytes(8, "big")),
    ],
)
def test_frame_header_has_the_length_of_its_size_class(size: int, header: bytes) -> None:
    assert frame_bytes(1, b"x" * size) == header + b"x" * size


# --- control --------------------------------------------------------------------------------------------------------


def test_control_wants_its_token(port: int) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        control(port, "state", token="guess")


def test_state_tells_orders_fills_positions_and_balances(port: int) -> None:
    order = {"category": "linear", "symbol": "ETHUSDT", "side": "Sell", "orderType": "Market", "qty": "0.5"}
    placed = post_bybit(port, "/v5/order/create", order | {"orderLinkId": "state-1"})
    assert placed["retCode"] == 0, placed
    state = control(port, "state?account=demo&venue=bybit")["accounts"]["demo"]["bybit"]
    row = next(row for row in state["orders"] if row["client_id"] == "state-1")
    assert (row["status"], row["cum_qty"], row["is_open"]) == ("FILLED", "0.50", False)
    fills = [fill for fill in state["fills"] if fill["client_id"] == "state-1"]
    assert sum(float(fill["qty"]) for fill in fills) == pytest.approx(0.5)
    assert state["positions"]["linear:ETHUSDT"]["qty"] == "-0.50"
    assert float(state["balances"]["unified"]["USDT"]["free"]) < 5_000_000
    assert state["open_orders"] == []
    assert control(port, "check") == {"ok": True, "problems": []}


def test_wrong_commands_are_told_what_is_wrong(port: int) -> None:
    for name, body in (
        ("fault", {"kind": "nonsense"}),
        ("fault", {"kind": "drop", "unknown_field": 1}),
        ("fault", {"preset": "nonsense"}),
        ("market", {"shock": "DOGE", "bps": 1}),
        ("market", {"venue": "bybit", "symbol": "NOPE", "state": "HALTED"}),
        ("state?account=nobody", None),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            control(port, name, body)
        assert refused.value.code == 400
        assert json.load(refused.value)["error"]


def test_market_can_be_paused_and_shocked(port: int) -> None:
    control(port, "market", {"pause": True})
    before = control(port, "books?depth=3")["books"]
    time.sleep(0.15)
    assert control(port, "books?depth=3")["books"] == before
    control(port, "market", {"pause": False, "shock": "BTC", "bps": 100})
    deadline = time.monotonic() + 5
    key = "binance.linear.BTCUSDT"
    while time.monotonic() < deadline:
        moved = float(control(port, "books?depth=1")["books"][key]["bids"][0][0]) / float(before[key]["bids"][0][0])
        if moved > 1.007:
            break
    assert moved > 1.007
    control(port, "market", {"shock": "BTC", "bps": -99})


# --- faults on real sockets -----------------------------------------------------------------------------------------


def test_disconnect_cuts_the_socket(port: int) -> None:
    async def cut(ws: aiohttp.ClientWebSocketResponse) -> Any:
        await subscribe(ws, "orderbook.50.BTCUSDT")
        await asyncio.to_thread(control, port, "fault", {"kind": "disconnect", "venue": "bybit"})
        while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
        return message.type, ws.close_code

    kind, code = on_socket(port, "/v5/public/linear", cut)
    assert kind is not aiohttp.WSMsgType.TEXT and code == 1006
    assert control(port, "faults")["counts"]["disconnect"] >= 1


def test_disconnect_with_a_code_closes_politely(port: int) -> None:
    async def close(ws: aiohttp.ClientWebSocketResponse) -> Any:
        await asyncio.to_thread(control, port, "fault", {"kind": "disconnect", "close_code": 1012})
        return (await ws.receive()).data

    assert on_socket(port, "/v5/public/linear", close) == 1012


async def quiet_for(ws: aiohttp.ClientWebSocketResponse, seconds: float) -> list[aiohttp.WSMessage]:
    """Everything that arrives in that time."""
    seen = []
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(TimeoutError):
            seen.append(await ws.receive(left))
    return seen


def test_stalled_socket_is_silent_but_answers_pings_and_recovers(port: int) -> None:
    async def stall(ws: aiohttp.ClientWebSocketResponse) -> tuple[set[aiohttp.WSMsgType], int]:
        await subscribe(ws, "orderbook.50.BTCUSDT")
        await asyncio.to_thread(control, port, "fault", {"kind": "stall", "for_ms": 700})
        await quiet_for(ws, 0.1)
        await ws.ping(b"x")
        during = {message.type for message in await quiet_for(ws, 0.3)}
        await asyncio.sleep(0.8)
        return during, len(await quiet_for(ws, 0.5))

    during, after = on_socket(port, "/v5/public/linear", stall)
    assert during == {aiohttp.WSMsgType.PONG}
    assert after > 5


def test_half_open_socket_answers_nothing_and_stays_open(port: int) -> None:
    async def half(ws: aiohttp.ClientWebSocketResponse) -> tuple[int, bool, int]:
        await subscribe(ws, "orderbook.50.BTCUSDT")
        await asyncio.to_thread(control, port, "fault", {"kind": "half_open"})
        await quiet_for(ws, 0.1)
        await ws.ping(b"x")
        during = len(await quiet_for(ws, 0.3))
        was_closed = ws.closed
        await asyncio.to_thread(control, port, "clear", {})
        return during, was_closed, len(await quiet_for(ws, 0.4))

    during, was_closed, after = on_socket(port, "/v5/public/linear", half)
    assert (during, was_closed) == (0, False)
    assert after > 5


def test_dropped_book_frame_is_a_gap_that_a_client_sees(port: int) -> None:
    async def gap(ws: aiohttp.ClientWebSocketResponse) -> list[int]:
        await subscribe(ws, "orderbook.50.BTCUSDT")
        await ws.receive_json()
        await asyncio.to_thread(control, port, "fault", {"kind": "drop", "frame": "book", "skip": 2})
        frames = [message.json() for message in await quiet_for(ws, 0.6)]
        return [frame["data"]["u"] for frame in frames]

    numbers = on_socket(port, "/v5/public/linear", gap)
    breaks = [after - before for before, after in pairwise(numbers)]
    assert breaks.count(2) == 1 and set(breaks) == {1, 2}


def test_half_the_frames_doubled_are_counted(port: int) -> None:
    async def doubled(ws: aiohttp.ClientWebSocketResponse) -> list[int]:
        await subscribe(ws, "orderbook.50.ETHUSDT")
        await ws.receive_json()
        fault = {"kind": "duplicate", "frame": "book", "probability": 0.5, "count": 0}
        await asyncio.to_thread(control, port, "fault", fault)
        return [message.json()["data"]["u"] for message in await quiet_for(ws, 1.0)]

    numbers = on_socket(port, "/v5/public/linear", doubled)
    assert len(numbers) - len(set(numbers)) == pytest.approx(control(port, "faults")["counts"]["duplicate.book"], abs=2)
    assert len(numbers) > len(set(numbers))


def test_unknown_outcome_over_http_leaves_the_order_at_the_venue(port: int) -> None:
    control(port, "fault", {"kind": "unknown_done", "venue": "bybit"})
    order = {"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01"}
    price = float(control(port, "books?depth=1")["books"]["bybit.linear.BTCUSDT"]["bids"][0][0]) * 0.95
    answer = post_bybit(port, "/v5/order/create", order | {"price": f"{price:.1f}", "orderLinkId": "unknown-1"})
    assert answer["retCode"] == 10016
    state = control(port, "state?account=demo&venue=bybit")["accounts"]["demo"]["bybit"]
    assert [row["client_id"] for row in state["open_orders"]] == ["unknown-1"]
    body = {"category": "linear", "symbol": "BTCUSDT"}
    assert post_bybit(port, "/v5/order/cancel-all", body)["retCode"] == 0


def test_lost_answer_over_http_is_a_cut_connection(port: int) -> None:
    control(port, "fault", {"kind": "answer_lost", "venue": "bybit", "op": "cancel"})
    with pytest.raises((urllib.error.URLError, ConnectionError, OSError)):
        post_bybit(port, "/v5/order/cancel-all", {"category": "linear", "symbol": "BTCUSDT"})


def test_presets_run_beside_trading() -> None:
    with exchange("--faults", "disconnects,duplicates,late-fills,unknowns,squeeze") as (_, number):
        assert len(control(number, "faults")["faults"]) >= 5
        assert get(number, "/v5/market/time")["retCode"] == 0
