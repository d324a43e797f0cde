"""The shell with a pipeline that writes down what it is told, against servers on loopback in another thread."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import picows
import pytest
from picows import WSListener, WSMsgType, WSTransport

from engine import records
from engine.control import ControlError, send_command
from engine.loop import EngineLoop, measure_utc_offset
from engine.loop_settings import LoopSettings
from engine.loop_wire import LoopWire
from engine.notify import Notifier
from engine.records import RecordKind
from ext.ring import Ring, parse

CHANNEL = 0x0101
OTHER = 0x0302
REQUEST = 1 << 40 | 7
MS = 1_000_000
SECOND = 1_000_000_000


class Venue(threading.Thread):
    """A WebSocket and an HTTP server on one loop of their own."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(daemon=True)
        self.tls = tls
        self.is_up = threading.Event()
        self.loop: asyncio.AbstractEventLoop
        self.ws_url = ""
        self.http_url = ""
        self.received: list[bytes] = []

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.stop = asyncio.Event()
        ws = await picows.ws_create_server(self._listener, "127.0.0.1", 0, ssl=self.tls)
        web = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.ws_url = f"ws://127.0.0.1:{ws.sockets[0].getsockname()[1]}"
        self.http_url = f"http://127.0.0.1:{web.sockets[0].getsockname()[1]}"
        self.is_up.set()
        await self.stop.wait()
        ws.close()
        web.close()

    def _listener(self, request: Any) -> WSListener | picows.WSUpgradeResponseWithListener:
        if request.path == b"/limited" or request.path == "/limited":
            response = picows.WSUpgradeResponse.create_error_response(429, b"", {"Retry-After": "7"})
            return picows.WSUpgradeResponseWithListener(response, None)
        return VenueEnd(self)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b'HTTP/1.1 200 OK\r\nSet-Cookie: s=1\r\nContent-Length: 11\r\n\r\n{"key":"lk"}'[:-1])
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


class VenueEnd(WSListener):
    """Echoes; `drop` cuts the connection."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue

    def on_ws_frame(self, transport: WSTransport, frame: Any) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            transport.disconnect()
            return
        payload = frame.get_payload_as_bytes()
        self.venue.received.append(payload)
        if payload == b"drop":
            transport.disconnect(False)
        else:
            transport.send(WSMsgType.TEXT, payload)


@pytest.fixture(scope="module")
def venue() -> Iterator[Venue]:
    venue = Venue()
    venue.start()
    assert venue.is_up.wait(5)
    yield venue
    venue.loop.call_soon_threadsafe(venue.stop.set)
    venue.join(5)


class FakeJournal:
    """Keeps records in order; the ring it shows is its own append."""

    def __init__(self) -> None:
        self.records: list[tuple[int, int, int, bytes]] = []
        self.failed = ""
        self.free_fraction = 1.0
        self.answer = 1

    def append(self, kind: int, source: int, ts_ns: int, payload: bytes) -> int:
        self.records.append((kind, source, ts_ns, payload))
        return self.answer

    def of(self, kind: int) -> list[tuple[int, int, int, bytes]]:
        return [record for record in self.records if record[0] == kind]


class FakePipeline:
    """Each input checks that its record is the last one in the journal, then runs the script for it."""

    def __init__(self, journal: FakeJournal, wire: LoopWire, script: Callable[[FakePipeline, str, Any], None]) -> None:
        self.journal = journal
        self.wire = wire
        self.script = script
        self.calls: list[tuple[Any, ...]] = []
        self.is_stopped = False
        self.stop_at_once = True
        self.bugs: list[str] = []

    def _take(self, name: str, kind: int | None, source: int, ts_ns: int, *rest: Any) -> None:
        if kind is not None:
            assert self.journal.records[-1][:3] == (kind, source, ts_ns), f"{name} before its record"
        if name != "timer":
            self.calls.append((name, *rest))
        self.script(self, name, rest)

    def start(self, ts_ns: int) -> None:
        self._take("start", None, 0, ts_ns)

    def on_frame(self, channel: int, payload: bytes, ts_ns: int) -> None:
        self._take("frame", RecordKind.FRAME, channel, ts_ns, channel, payload)

    def on_response(self, request_id: int, status: int, headers: Mapping[str, str], body: bytes, ts_ns: int) -> None:
        self._take("response", RecordKind.RESPONSE, request_id >> 40, ts_ns, request_id, status, dict(headers), body)

    def on_connected(self, channel: int, ts_ns: int) -> None:
        self._take("connected", RecordKind.CONNECTED, channel, ts_ns, channel)

    def on_disconnected(self, channel: int, reason: str, ts_ns: int) -> None:
        self._take("disconnected", RecordKind.DISCONNECTED, channel, ts_ns, channel, reason)

    def on_timer(self, ts_ns: int) -> None:
        self._take("timer", RecordKind.TIMER, 0, ts_ns, ts_ns)

    def on_command(self, name: str, args: dict[str, str], operator: str, ts_ns: int) -> None:
        self._take("command", RecordKind.COMMAND, 0, ts_ns, name, args, operator)
        self.is_stopped = self.is_stopped or (name == "stop" and self.stop_at_once)

    def on_utc_offset(self, utc_offset_ns: int, ts_ns: int) -> None:
        self._take("offset", RecordKind.UTC_OFFSET, 0, ts_ns, utc_offset_ns)

    def stop(self) -> None:
        self.is_stopped = True


Script = Callable[[FakePipeline, str, Any], None]


def play(
    script: Script, settings: LoopSettings | None = None, journal: FakeJournal | None = None, **options: Any
) -> tuple[FakePipeline, EngineLoop, int]:
    journal = FakeJournal() if journal is None else journal
    wire = LoopWire(redact={CHANNEL: (b"hush",)})
    pipeline = FakePipeline(journal, wire, script)
    options.setdefault("notifier", Notifier({}))
    run_start = options.pop("run_start", b"")
    stop_after_s = options.pop("stop_after_s", 5.0)
    loop = EngineLoop(pipeline, journal, settings or LoopSettings(timer_ms=5), wire, **options)
    return pipeline, loop, loop.run(run_start, stop_after_s)


@pytest.mark.parametrize("is_spinning", [False, True])
def test_channel_lives_from_connect_to_close(venue: Venue, is_spinning: bool) -> None:
    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        if name == "start":
            assert not pipeline.wire.send(CHANNEL, b"early")
            pipeline.wire.connect(CHANNEL, venue.ws_url + "/ws")
        elif name == "connected":
            assert pipeline.wire.send(CHANNEL, b"one")
            assert pipeline.wire.send(CHANNEL, bytearray(b"two hush"))
        elif name == "frame" and rest[1].startswith(b"two"):
            pipeline.wire.close(CHANNEL)
            assert not pipeline.wire.send(CHANNEL, b"late")
        elif name == "disconnected":
            pipeline.stop()

    pipeline, loop, code = play(script, LoopSettings(timer_ms=5, spin=is_spinning), run_start=b"config")
    assert code == 0
    assert [call for call in pipeline.calls if call[0] != "offset"] == [
        ("start",),
        ("connected", CHANNEL),
        ("frame", CHANNEL, b"one"),
        ("frame", CHANNEL, b"two xxxx"),
        ("disconnected", CHANNEL, "closed by us"),
    ]
    kinds = [record[0] for record in pipeline.journal.records if record[0] != RecordKind.TIMER]
    assert kinds[:2] == [RecordKind.RUN_START, RecordKind.UTC_OFFSET]
    assert kinds[-1] == RecordKind.RUN_STOP
    assert loop.status()["frames"] == 2


def test_lost_connection_counts_as_connected_until_it_is_told(venue: Venue) -> None:
    answers: list[bool] = []

    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        if name == "start":
            pipeline.wire.connect(CHANNEL, venue.ws_url + "/ws")
        elif name == "connected":
            pipeline.wire.send(CHANNEL, b"drop")
        elif name == "timer":
            # From the time the peer is gone until the tape says so, a replay would still say True.
            is_told = any(call[0] == "disconnected" for call in pipeline.calls)
            is_known = any(call[0] == "connected" for call in pipeline.calls)
            answers.append(pipeline.wire.send(CHANNEL, b"more") == (is_known and not is_told))
        elif name == "disconnected":
            assert not pipeline.wire.send(CHANNEL, b"after")
            pipeline.stop()

    pipeline, _, code = play(script, LoopSettings(timer_ms=1))
    assert code == 0
    assert all(answers)
    assert pipeline.calls[-1] == ("disconnected", CHANNEL, "connection lost")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("{ws}/limited", "handshake status 429, retry-after 7"),
        ("ws://127.0.0.1:1/listenKey-secret", "cannot connect: Connection refused"),
        ("{http}/listenKey-secret", "handshake status 200"),
        ("nonsense", "cannot connect: "),
    ],
)
def test_failed_connect_is_told_without_its_address(venue: Venue, url: str, reason: str) -> None:
    url = url.format(ws=venue.ws_url, http=venue.http_url.replace("http", "ws"))

    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        if name == "start":
            pipeline.wire.connect(OTHER, url)
        elif name == "disconnected":
            pipeline.stop()

    pipeline, _, _ = play(script)
    name, channel, said = pipeline.calls[-1]
    assert (name, channel) == ("disconnected", OTHER)
    assert said.startswith(reason)
    assert "secret" not in said


def test_close_while_connecting_ends_the_attempt_once() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()

        def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
            if name == "start":
                pipeline.wire.connect(CHANNEL, f"ws://127.0.0.1:{deaf.getsockname()[1]}/")
            elif name == "timer" and len(pipeline.journal.of(RecordKind.TIMER)) == 3:
                pipeline.wire.close(CHANNEL)
            elif name == "timer" and len(pipeline.journal.of(RecordKind.TIMER)) == 8:
                pipeline.stop()

        pipeline, _, code = play(script)
    assert code == 0
    ends = [call for call in pipeline.calls if call[0] == "disconnected"]
    assert ends == [("disconnected", CHANNEL, "closed by us")]


def test_second_connect_takes_the_place_of_the_first(venue: Venue) -> None:
    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        if name == "start":
            pipeline.wire.connect(CHANNEL, venue.ws_url + "/a")
        elif name == "connected" and len(pipeline.calls) < 4:
            pipeline.wire.connect(CHANNEL, venue.ws_url + "/b")
        elif name == "connected":
            pipeline.wire.send(CHANNEL, b"hello")
        elif name == "frame":
            pipeline.stop()

    pipeline, _, _ = play(script)
    assert [call[0] for call in pipeline.calls if call[0] != "offset"] == ["start", "connected", "connected", "frame"]


@pytest.mark.parametrize("is_trusted", [True, False])
def test_secure_channel_verifies_the_venue(
    make_certificate: Callable[[str], tuple[Path, Path]], is_trusted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = make_certificate("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    venue = Venue(context)
    venue.start()
    assert venue.is_up.wait(5)

    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        if name == "start":
            pipeline.wire.connect(CHANNEL, venue.ws_url.replace("ws://127.0.0.1", "wss://localhost"))
        elif name == "connected":
            pipeline.wire.send(CHANNEL, b"over tls")
        elif name in ("frame", "disconnected"):
            pipeline.stop()

    # aiofastnet 1.2.0 logs a failed server-side handshake in a form that Python 3.11's logging cannot print.
    logging.raiseExceptions = False
    try:
        pipeline, _, _ = play(script, ca_file=str(certificate) if is_trusted else "")
    finally:
        venue.loop.call_soon_threadsafe(venue.stop.set)
        venue.join(5)
        logging.raiseExceptions = True
    if is_trusted:
        assert pipeline.calls[-1] == ("frame", CHANNEL, b"over tls")
    else:
        assert pipeline.calls[-1][2].startswith("certificate refused: self")


def test_answer_is_journaled_before_it_is_delivered_and_secrets_stay_out(venue: Venue) -> None:
    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        if name == "start":
            pipeline.wire.request(REQUEST, "POST", venue.http_url, "/key", {"X-MBX-APIKEY": "k"}, is_secret=True)
        elif name == "response" and rest[0] == REQUEST:
            pipeline.wire.request(REQUEST + 1, "GET", venue.http_url, "/depth", {})
        elif name == "response" and rest[0] == REQUEST + 1:
            pipeline.wire.request(REQUEST + 2, "GET", "http://127.0.0.1:1", "/", {}, is_secret=True)
        elif name == "response":
            pipeline.stop()

    pipeline, loop, _ = play(script)
    body = b'{"key":"lk"'
    headers = {"content-length": "11"}
    refused = b"not sent: cannot connect: Connection refused"
    assert [call[1:] for call in pipeline.calls if call[0] == "response"] == [
        (REQUEST, 200, headers, body),
        (REQUEST + 1, 200, headers, body),
        (REQUEST + 2, 0, {}, refused),
    ]
    recorded = [records.decode_response(record[3]) for record in pipeline.journal.of(RecordKind.RESPONSE)]
    assert [answer.body for answer in recorded] == [b'{"redacted":true}', body, refused]
    assert [record[1] for record in pipeline.journal.of(RecordKind.RESPONSE)] == [1, 1, 1]
    assert (loop.response_count, loop.request_failures) == (3, 1)


def test_secret_that_an_answer_echoes_is_overwritten() -> None:
    wire = LoopWire(redact={CHANNEL: (b"hush",), CHANNEL + 1: (b"hush", b"key-1")})
    assert wire.redacted(1, b'{"apiKey":"key-1","s":"hush"}') == b'{"apiKey":"xxxxx","s":"xxxx"}'
    assert wire.redacted(3, b"key-1") == b"key-1"


def test_timer_comes_at_least_as_often_as_set_and_never_early() -> None:
    asked: list[int] = []
    seen: list[int] = []

    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        if name == "start":
            now = time.monotonic_ns()
            for at_ms in (12, 3, 3, 47, 30):
                asked.append(now + at_ms * MS)
                pipeline.wire.set_timer(asked[-1])
        elif name == "timer":
            seen.append(rest[0])
            if len(seen) > 8:
                pipeline.stop()

    play(script, LoopSettings(timer_ms=50))
    for at_ns in asked:
        assert any(0 <= now - at_ns < 40 * MS for now in seen), f"nothing soon after {at_ns}"
    assert all(later - earlier < 150 * MS for earlier, later in itertools.pairwise(seen))


def test_offset_to_utc_is_measured_and_told() -> None:
    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        if name == "offset":
            assert abs(rest[0] - (time.time_ns() - time.monotonic_ns())) < 50 * MS
            pipeline.stop()

    pipeline, _, _ = play(script)
    assert records.decode_int(pipeline.journal.of(RecordKind.UTC_OFFSET)[0][3]) == pipeline.calls[-1][1]
    assert abs(measure_utc_offset() - (time.time_ns() - time.monotonic_ns())) < 50 * MS


def test_first_signal_stops_in_order() -> None:
    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        if name == "start":
            os.kill(os.getpid(), signal.SIGTERM)

    pipeline, loop, code = play(script)
    assert code == 0
    assert pipeline.calls[-1] == ("command", "stop", {}, "signal")
    assert loop.stop_reason == "signal"


def test_second_signal_ends_at_once() -> None:
    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        pipeline.stop_at_once = False
        if name == "start" or name == "command":
            os.kill(os.getpid(), signal.SIGINT)

    started = time.monotonic()
    assert play(script)[2] == 130
    assert time.monotonic() - started < 2


def test_pipeline_that_does_not_stop_is_left_at_the_deadline() -> None:
    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        pipeline.stop_at_once = False

    pipeline, _, code = play(script, stop_after_s=0.01, stop_timeout_ns=30 * MS)
    assert code == 1
    assert [call for call in pipeline.calls if call[0] == "command"] == [("command", "stop", {}, "timer")]


@pytest.mark.parametrize("where", ["frame", "connected", "timer", "response", "start"])
def test_exception_of_the_pipeline_kills_and_stops(venue: Venue, where: str, caplog: pytest.LogCaptureFixture) -> None:
    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        if name == "start":
            pipeline.wire.connect(CHANNEL, venue.ws_url + "/ws")
            pipeline.wire.request(REQUEST, "GET", venue.http_url, "/", {})
        elif name == "connected":
            pipeline.wire.send(CHANNEL, b"x")
        if name == where and not any(call[:2] == ("command", "kill") for call in pipeline.calls):
            raise AssertionError("leaves -1")

    with caplog.at_level(logging.ERROR):
        pipeline, loop, code = play(script)
    assert code == 1
    commands = [call[1:] for call in pipeline.calls if call[0] == "command"]
    assert commands == [("kill", {"reason": "AssertionError: leaves -1"}, "engine"), ("stop", {}, "fault")]
    assert loop.fault_count == 1


def test_journal_in_trouble_reduces_once_until_it_recovers() -> None:
    journal = FakeJournal()

    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        if name != "timer":
            return
        count = len(journal.of(RecordKind.TIMER))
        journal.free_fraction = {1: 0.9, 2: 0.2, 3: 0.4, 4: 0.2, 5: 0.6, 6: 0.1}.get(count, 0.9)
        journal.failed = "no space left" if count == 8 else ""
        if count == 10:
            pipeline.stop()

    pipeline, _, _ = play(script, journal=journal)
    assert [call[1:] for call in pipeline.calls if call[0] == "command"] == [
        ("reduce_only", {"reason": "the journal's ring is 80 % full"}, "engine"),
        ("reduce_only", {"reason": "the journal's ring is 90 % full"}, "engine"),
        ("reduce_only", {"reason": "the journal has failed: no space left"}, "engine"),
    ]


def test_record_that_is_refused_reduces_and_the_input_is_still_delivered() -> None:
    journal = FakeJournal()

    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        if name == "start":
            journal.answer = -1
        elif name == "timer" and len(journal.of(RecordKind.TIMER)) == 3:
            pipeline.stop()

    pipeline, loop, _ = play(script, journal=journal)
    commands = [call[1:] for call in pipeline.calls if call[0] == "command"]
    assert commands == [("reduce_only", {"reason": "the journal refused a record"}, "engine")]
    assert loop.journal_failures >= 4


def test_real_ring_holds_frames_in_order_with_all_other_inputs(venue: Venue, tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring", 1 << 16)

    class RingJournal(FakeJournal):
        def __init__(self) -> None:
            super().__init__()
            self.ring = ring

        def append(self, kind: int, source: int, ts_ns: int, payload: bytes) -> int:
            super().append(kind, source, ts_ns, payload)
            return ring.append(kind, source, ts_ns, payload)

    class Loose(FakePipeline):
        def on_frame(self, channel: int, payload: bytes, ts_ns: int) -> None:
            self._take("frame", None, channel, ts_ns, channel, payload)

    def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
        if name == "start":
            pipeline.wire.connect(CHANNEL, venue.ws_url + "/ws")
        elif name == "connected":
            pipeline.wire.send(CHANNEL, b"1")
        elif name == "frame" and rest[1] == b"20":
            pipeline.wire.close(CHANNEL)
        elif name == "frame":
            pipeline.wire.send(CHANNEL, b"%d" % (int(rest[1]) + 1))
        elif name == "disconnected":
            pipeline.stop()

    wire = LoopWire()
    pipeline = Loose(RingJournal(), wire, script)
    assert EngineLoop(pipeline, pipeline.journal, LoopSettings(), wire, notifier=Notifier({})).run() == 0
    kinds = [(kind, payload) for _, _, kind, _, payload in parse(ring.drain()) if kind != RecordKind.TIMER]
    assert kinds == [
        (RecordKind.UTC_OFFSET, kinds[0][1]),
        (RecordKind.CONNECTED, b""),
        *[(RecordKind.FRAME, b"%d" % number) for number in range(1, 21)],
        (RecordKind.DISCONNECTED, b"closed by us"),
        (RecordKind.RUN_STOP, records.encode_int(0)),
    ]
    ring.close()


def test_manager_hears_ready_watchdog_and_stopping(tmp_path: Path) -> None:
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.setblocking(False)

        def listen(now_ns: int = 0) -> None:
            # Its queue holds but a few messages, so it is read as they come.
            with contextlib.suppress(BlockingIOError):
                while True:
                    heard.append(manager.recv(1000).decode())

        def script(pipeline: FakePipeline, name: str, rest: Any) -> None:
            if name == "timer" and heard.count("WATCHDOG=1") >= 3:
                os.kill(os.getpid(), signal.SIGTERM)

        environ = {"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "30000", "WATCHDOG_PID": str(os.getpid())}
        play(script, notifier=Notifier(environ), on_tick=listen)
        listen()
    assert "READY=1\nSTATUS=trading" in heard
    assert heard.count("WATCHDOG=1") >= 3
    assert heard[-1] == "STOPPING=1\nSTATUS=stopping: signal"


def test_notifier_outside_a_unit_does_nothing() -> None:
    notifier = Notifier({})
    assert not notifier.send("READY=1")
    assert notifier.watchdog_ns == 0
    assert Notifier({"WATCHDOG_USEC": "1000"}).watchdog_ns == 0
    gone = Notifier({"NOTIFY_SOCKET": "@nobody-listens", "WATCHDOG_USEC": "x"})
    assert not gone.send("READY=1")
    assert gone.watchdog_ns == 0
    gone.close()
    other = Notifier({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
    assert other.watchdog_ns == 0
    other.close()


def test_commands_of_the_control_socket_reach_the_pipeline(tmp_path: Path) -> None:
    path = tmp_path / "control"
    results: list[Any] = []

    def client() -> None:
        while not results:  # not there, or bound and not listening yet
            with contextlib.suppress(ControlError):
                results.append(send_command(path, "status"))
            time.sleep(0.002)
        results.append(send_command(path, "cancel_all", {"venue": "BYBIT"}))
        results.append(send_command(path, "stop"))

    thread = threading.Thread(target=client)
    thread.start()
    pipeline, _, code = play(lambda *_: None, control_path=path, stop_after_s=20.0)
    thread.join(5)
    assert code == 0
    operator = f"uid {os.getuid()} pid {os.getpid()}"
    assert [call[1:] for call in pipeline.calls if call[0] == "command"] == [
        ("cancel_all", {"venue": "BYBIT"}, operator),
        ("stop", {}, operator),
    ]
    assert [result["is_stopping"] for result in results] == [False, False, True]
    assert not path.exists()


def test_key_in_an_address_is_a_secret_of_its_channel() -> None:
    from engine.loop_wire import secrets_of

    key = "57e2910b85192002b4d0689932bad3bfc9b6b8ffc5e45b491c9b2b3fb05648c9"
    assert secrets_of(f"wss://host.example/private/ws/{key}") == (key.encode(),)
    assert secrets_of(f"wss://host.example/private/ws?listenKey={key}&events=x") == (key.encode(),)
    assert secrets_of("wss://stream.binance.com:443/stream?streams=btcusdt@depth@100ms") == ()
