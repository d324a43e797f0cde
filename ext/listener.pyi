"""The WebSocket listener of the hot path. See ext/listener.pyx."""

from typing import Any, Protocol, Self

from picows import WSListener
from typing_extensions import disjoint_base

FRAME_KIND: int

class _Handler(Protocol):
    """Who a listener talks to. Called on the loop's thread; `on_frame` is looked up once, at construction."""

    def on_connected(self, channel: int, recv_ts_ns: int) -> None: ...
    def on_frame(self, channel: int, payload: bytes, recv_ts_ns: int) -> None: ...
    def on_disconnected(self, channel: int, reason: str, recv_ts_ns: int) -> None: ...
    def on_listener_error(self, channel: int, error: BaseException) -> None: ...
    def on_journal_error(self, channel: int, code: int) -> None: ...

@disjoint_base
class Listener(WSListener):
    """One client connection of one channel.

    `ring`: an `ext.ring.Ring`, or a callable `(kind, source, ts_ns, payload) -> seq`, or None (nothing is journaled).
    `redact`: secrets that the venue may echo; each is overwritten with `x` before the frame is journaled or delivered.
    Connect with `enable_auto_pong=False`: pings are answered here, so that every read of the socket is seen.
    """

    def __new__(
        cls,
        handler: _Handler,
        channel: int,
        ring: Any = None,
        *,
        redact: tuple[bytes, ...] = (),
        max_message_bytes: int = 16_777_216,
    ) -> Self: ...
    def send(self, payload: bytes | bytearray | memoryview) -> bool:
        """Send one text message. False: not connected, closing, or the peer does not read; nothing was sent."""
    def close(self, reason: str = "closed by us") -> None:
        """Close politely; `on_disconnected` follows with this reason."""
    def abort(self) -> None:
        """Drop the connection at once; `on_disconnected` follows."""
    def detach(self) -> None:
        """Never call the handler again."""
    @property
    def channel(self) -> int: ...
    @property
    def is_connected(self) -> bool: ...
    @property
    def frame_count(self) -> int:
        """Whole messages delivered."""
    @property
    def ping_count(self) -> int: ...
    @property
    def redacted_count(self) -> int: ...
    @property
    def refused_sends(self) -> int: ...
    @property
    def sent_count(self) -> int: ...
    @property
    def journal_failures(self) -> int: ...

def monotonic_ns() -> int:
    """CLOCK_MONOTONIC, as stamped on frames."""
