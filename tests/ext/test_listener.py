"""The listener against a real picows server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import picows
import pytest
import uvloop
from picows import WSListener, WSMsgType, WSTransport

from ext.listener import FRAME_KIND, Listener, monotonic_ns
from ext.ring import FULL, Ring, parse

CHANNEL = 0x0103


class Recorder:
    """A handler that writes down what it is told, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.stamps: list[int] = []
        self.error_on: bytes | None = None
        self.changed = asyncio.Event()

    def _add(self, *call: Any) -> None:
        self.calls.append(call)
        self.changed.set()

    def on_connected(self, channel: int, recv_ts_ns: int) -> None:
        self._add("connected", channel)

    def on_frame(self, channel: int, payload: bytes, recv_ts_ns: int) -> None:
        self.stamps.append(recv_ts_ns)
        self._add("frame", channel, payload)
        if payload == self.error_on:
            raise RuntimeError("handler failed")

    def on_disconnected(self, channel: int, reason: str, recv_ts_ns: int) -> None:
        self._add("disconnected", channel, reason)

    def on_listener_error(self, channel: int, error: BaseException) -> None:
        self._add("error", channel, str(error))

    def on_journal_error(self, channel: int, code: int) -> None:
        self._add("journal", channel, code)

    @property
    def frames(self) -> list[bytes]:
        return [call[2] for call in self.calls if call[0] == "frame"]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Peer(WSListener):
    """The server's end of the one connection."""

    def __init__(self) -> None:
        self.transport: WSTransport
        self.received: list[tuple[WSMsgType, bytes]] = []
        self.changed = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: Any) -> None:
        self.received.append((WSMsgType(frame.msg_type), frame.get_payload_as_bytes()))
        self.changed.set()
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.received) < count:
                self.changed.clear()
                await self.changed.wait()


Scenario = Callable[[Recorder, Peer, Listener], Awaitable[None]]


def play(scenario: Scenario, ring: Any = None, **options: Any) -> Recorder:
    """Run one connection under uvloop; whatever happens after the scenario is not part of it."""

    async def main() -> Recorder:
        peer, recorder = Peer(), Recorder()
        server = await picows.ws_create_server(lambda _: peer, "127.0.0.1", 0, enable_auto_pong=False)
        port = server.sockets[0].getsockname()[1]
        listener = Listener(recorder, CHANNEL, ring, **options)
        await picows.ws_connect(lambda: listener, f"ws://127.0.0.1:{port}/", enable_auto_pong=False)
        try:
            await scenario(recorder, peer, listener)
        finally:
            listener.detach()
            listener.abort()
            server.close()
            await asyncio.sleep(0)
        return recorder

    return uvloop.run(main())


def test_text_message_is_stamped_journaled_and_delivered(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring", 1 << 16)

    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        before = monotonic_ns()
        peer.transport.send(WSMsgType.TEXT, b'{"a":1}')
        await recorder.until(lambda: recorder.frames)
        assert recorder.calls == [("connected", CHANNEL), ("frame", CHANNEL, b'{"a":1}')]
        assert before <= recorder.stamps[0] <= monotonic_ns()
        assert listener.frame_count == 1

    recorder = play(scenario, ring)
    records = parse(ring.drain())
    assert [(kind, source, ts_ns, payload) for _, ts_ns, kind, source, payload in records] == [
        (FRAME_KIND, CHANNEL, recorder.stamps[0], b'{"a":1}')
    ]
    ring.close()


def test_journal_has_the_message_before_the_handler() -> None:
    order: list[str] = []

    def append(kind: int, source: int, ts_ns: int, payload: bytes) -> int:
        order.append(f"journal {payload.decode()}")
        return 1

    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        recorder_add = recorder._add
        recorder._add = lambda *call: (order.append(f"handler {call[2].decode()}"), recorder_add(*call))  # type: ignore
        for text in (b"1", b"2"):
            peer.transport.send(WSMsgType.TEXT, text)
        await recorder.until(lambda: len(recorder.frames) == 2)

    play(scenario, append)
    assert order == ["journal 1", "handler 1", "journal 2", "handler 2"]


def test_messages_of_one_read_share_their_stamp() -> None:
    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        peer.transport.underlying_transport.write(b"\x81\x01a\x89\x00\x81\x01b\x81\x01c\x89\x00")
        await recorder.until(lambda: len(recorder.frames) == 3)
        assert len(set(recorder.stamps)) == 1
        await peer.until(2)
        peer.transport.send(WSMsgType.TEXT, b"later")
        await recorder.until(lambda: len(recorder.frames) == 4)
        assert recorder.stamps[3] > recorder.stamps[2]

    play(scenario)


@pytest.mark.parametrize("sizes", [(1, 1), (0, 5, 0), (10_000, 1, 50_000), (1,) * 40])
def test_fragments_are_put_together_around_control_frames(sizes: tuple[int, ...]) -> None:
    parts = [bytes([65 + index % 26]) * size for index, size in enumerate(sizes)]

    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        for _ in range(2):
            for index, part in enumerate(parts):
                kind = WSMsgType.CONTINUATION if index else WSMsgType.TEXT
                peer.transport.send(kind, part, fin=index == len(parts) - 1)
                peer.transport.send_ping(b"between")
        await recorder.until(lambda: len(recorder.frames) == 2)
        assert recorder.frames == [b"".join(parts)] * 2
        assert listener.ping_count >= 2 * len(parts) - 1

    play(scenario)


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"\x80\x01a", "closed by us: 1002 continuation of no message"),
        (b"\x01\x01a\x81\x01b", "closed by us: 1002 new message inside a fragmented one"),
        (b"\xc1\x01a", "closed by us: 1002 reserved bits set, but no extension was agreed"),
        (b"\x81\x7e\x01\x2c" + b"a" * 300, "closed by us: 1009 message of 300 bytes, limit 200"),
        (b"\x01\x64" + b"a" * 100 + b"\x80\x65" + b"a" * 101, "closed by us: 1009 fragments of more than 200 bytes"),
    ],
)
def test_broken_protocol_ends_the_connection_and_says_why(wire: bytes, reason: str) -> None:
    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        peer.transport.underlying_transport.write(wire + b"\x81\x01z")
        await recorder.until(lambda: recorder.calls[-1][0] == "disconnected")
        assert recorder.calls == [("connected", CHANNEL), ("disconnected", CHANNEL, reason)]
        assert not listener.is_connected

    play(scenario, max_message_bytes=200)


def test_ping_is_answered_with_its_payload() -> None:
    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        peer.transport.send_ping(b"1763800000000")
        await peer.until(1)
        assert peer.received == [(WSMsgType.PONG, b"1763800000000")]
        assert listener.ping_count == 1

    play(scenario)


def test_error_of_the_handler_is_reported_and_the_connection_lives() -> None:
    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        recorder.error_on = b"bad"
        for text in (b"bad", b"good"):
            peer.transport.send(WSMsgType.TEXT, text)
        await recorder.until(lambda: recorder.frames == [b"bad", b"good"])
        assert ("error", CHANNEL, "handler failed") in recorder.calls
        assert listener.is_connected

    play(scenario)


def test_message_that_cannot_be_journaled_is_delivered_and_reported(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring", 1 << 16)

    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        for _ in range(20):
            peer.transport.send(WSMsgType.TEXT, b"x" * 10_000)
        await recorder.until(lambda: len(recorder.frames) == 20)
        assert ("journal", CHANNEL, FULL) in recorder.calls
        assert listener.journal_failures == sum(call[0] == "journal" for call in recorder.calls) > 0

    play(scenario, ring)
    ring.close()


def test_secret_is_overwritten_before_journal_and_delivery() -> None:
    journaled: list[bytes] = []

    def append(kind: int, source: int, ts_ns: int, payload: bytes) -> int:
        journaled.append(payload)
        return 1

    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        peer.transport.send(WSMsgType.TEXT, b'{"k":"hush","s":"deadbeef","t":"hushhush hus"}')
        await recorder.until(lambda: recorder.frames)
        assert recorder.frames == journaled == [b'{"k":"xxxx","s":"xxxxxxxx","t":"xxxxxxxx hus"}']
        assert listener.redacted_count == 4

    play(scenario, append, redact=(b"hush", b"deadbeef"))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 4000, 65_535, 65_536, 300_000])
@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_sent_message_arrives_as_it_was_and_the_source_is_untouched(size: int, form: Any) -> None:
    text = bytes(i * 31 & 255 for i in range(size))

    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        source = form(text)
        assert listener.send(source)
        assert bytes(source) == text
        assert listener.send(b"end")
        await peer.until(2)
        assert peer.received == [(WSMsgType.TEXT, text), (WSMsgType.TEXT, b"end")]
        assert listener.sent_count == 2

    play(scenario)


def test_send_is_refused_before_and_after_the_connection() -> None:
    assert not Listener(Recorder(), CHANNEL).send(b"early")

    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        listener.close()
        assert not listener.send(b"closing")
        await recorder.until(lambda: recorder.calls[-1][0] == "disconnected")
        assert recorder.calls[-1] == ("disconnected", CHANNEL, "closed by us")
        assert not listener.send(b"late")
        assert listener.refused_sends == 2
        listener.close()
        listener.abort()

    play(scenario)


def test_send_is_refused_while_the_peer_does_not_read() -> None:
    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        peer.transport.underlying_transport.pause_reading()
        sent = 0
        while sent < 1000 and listener.send(b"x" * 65_536):
            sent += 1
        assert 0 < sent < 1000
        peer.transport.underlying_transport.resume_reading()
        await peer.until(sent)
        async with asyncio.timeout(5):
            while not listener.send(b"again"):
                await asyncio.sleep(0.001)

    play(scenario)


@pytest.mark.parametrize(
    ("close", "reason"),
    [
        (lambda t: (t.send_close(picows.WSCloseCode.GOING_AWAY, b"maintenance"), t.disconnect()), "1001 maintenance"),
        (lambda t: (t.send_close(picows.WSCloseCode.OK), t.disconnect()), "1000"),
    ],
)
def test_close_of_the_venue_is_told_with_its_code(close: Callable[[WSTransport], None], reason: str) -> None:
    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        close(peer.transport)
        await recorder.until(lambda: recorder.calls[-1][0] == "disconnected")
        assert recorder.calls[-1] == ("disconnected", CHANNEL, f"closed by venue: {reason}")

    play(scenario)


def test_lost_connection_is_told_once() -> None:
    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        peer.transport.disconnect(False)
        await recorder.until(lambda: recorder.calls[-1][0] == "disconnected")
        await asyncio.sleep(0.01)
        assert recorder.calls == [("connected", CHANNEL), ("disconnected", CHANNEL, "connection lost")]

    play(scenario)


def test_detached_listener_calls_nobody() -> None:
    async def scenario(recorder: Recorder, peer: Peer, listener: Listener) -> None:
        listener.detach()
        peer.transport.send(WSMsgType.TEXT, b"unheard")
        peer.transport.send_close()
        peer.transport.disconnect()
        await asyncio.sleep(0.02)
        assert recorder.calls == [("connected", CHANNEL)]

    play(scenario)


@pytest.mark.parametrize("redact", [(b"",), ("text",)])
def test_redaction_that_would_match_everything_or_nothing_is_refused(redact: Any) -> None:
    with pytest.raises(ValueError, match="redact"):
        Listener(Recorder(), CHANNEL, redact=redact)
