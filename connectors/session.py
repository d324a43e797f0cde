"""One WebSocket's life, and the queue in front of every wire: shared by all connectors.

Owns when to connect, log in, subscribe, ping, give up, and replace a socket before the venue cuts it; which waiting
message goes first; and which request still waits for its answer. Knows no venue's words: the owner of a session makes
every frame. Knows no clock and no random source: time arrives with each call, and jitter is a hash of a counter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import msgspec

from engine.types import ConnState
from engine.venue import Wire
from ext import acquire_all

if TYPE_CHECKING:
    from ext import Throttle

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
CLOSE_TIMEOUT_NS: Final = 5 * SECOND
_MASK64: Final = (1 << 64) - 1


def jitter(seed: int, counter: int, span: int) -> int:
    """A number in [0, span) that depends on nothing but its arguments (splitmix64)."""
    z = (seed * 0x9E3779B97F4A7C15 + (counter + 1) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return ((z ^ (z >> 31)) * span) >> 64


class Backoff:
    """Delays that double up to a cap, each cut by up to half so that many clients do not come back at once."""

    def __init__(self, seed: int, base_ns: int, cap_ns: int) -> None:
        assert 0 < base_ns <= cap_ns, f"base {base_ns}, cap {cap_ns}"
        self.seed = seed
        self.base_ns = base_ns
        self.cap_ns = cap_ns
        self.failures = 0  # since the last reset
        self._drawn = 0

    def next_ns(self) -> int:
        delay = min(self.cap_ns, self.base_ns << min(self.failures, 30))
        self.failures += 1
        self._drawn += 1
        return delay - jitter(self.seed, self._drawn, delay // 2 + 1)

    def reset(self) -> None:
        self.failures = 0


# --- one WebSocket ----------------------------------------------------------------------------------------------


class SessionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How one socket is kept. 0 switches a rule off."""

    connect_timeout_ns: int = 10 * SECOND
    ack_timeout_ns: int = 5 * SECOND  # log-in and subscription answers
    backoff_base_ns: int = 250 * MS
    backoff_cap_ns: int = 30 * SECOND
    backoff_reset_ns: int = 10 * SECOND  # UP for this long counts as recovered
    ping_interval_ns: int = 0  # application pings, made by the owner
    silence_ns: int = 0  # no frame at all for this long: close and connect again
    renewal_ns: int = 0  # ChannelPair opens the replacement at this age
    drain_ns: int = 3 * SECOND  # both sockets deliver for this long before the old one closes
    topics_per_request: int = 100
    request_gap_ns: int = 250 * MS  # between control frames (Binance spot cuts above 5 a second)


class SessionOwner(Protocol):
    """What a session asks of its connector."""

    def channel_url(self, channel: int) -> str:
        """Address to connect to; "" when it is not known yet (asked again after a backoff)."""

    def channel_login(self, channel: int, now_ns: int) -> bytes | None:
        """First frame of a new socket, or None when there is nothing to log in to. The owner calls
        `logged_in` on its answer, and may exchange more frames before that."""

    def channel_ping(self, channel: int, now_ns: int) -> bytes:
        """Frame of one application ping; only asked where the policy has a ping interval."""

    def channel_subscribe(self, channel: int, request_id: int, topics: Sequence[str], is_subscribe: bool) -> bytes:
        """Frame of one subscribe or unsubscribe request; the owner calls `on_ack(request_id, ...)` on its answer."""

    def channel_changed(self, channel: int, state: ConnState, reason: str, now_ns: int) -> None:
        """The session went to another state (never twice the same)."""


class _Request:
    __slots__ = ("deadline_ns", "is_subscribe", "topics")

    def __init__(self, topics: list[str], is_subscribe: bool, deadline_ns: int) -> None:
        self.topics = topics
        self.is_subscribe = is_subscribe
        self.deadline_ns = deadline_ns


class ChannelSession:
    """State machine of one socket: DOWN -> CONNECTING (connect, log in, subscribe) -> UP -> DOWN -> ...

    The connector forwards on_connected, on_disconnected and on_timer, and sets `last_recv_ns` on every frame.
    """

    def __init__(self, channel: int, wire: Wire, owner: SessionOwner, policy: SessionPolicy, seed: int = 0) -> None:
        self.channel = channel
        self.policy = policy
        self.state = ConnState.DOWN
        self.is_wanted = False
        self.is_connected = False  # the socket is open; log-in and subscriptions may still be under way
        self.is_logged_in = False
        self.connected_ns = 0
        self.up_ns = 0
        self.last_recv_ns = 0
        self.connect_count = 0
        self.topics: dict[str, bool] = {}  # wanted topic -> confirmed on this connection
        self._wire = wire
        self._owner = owner
        self._backoff = Backoff(seed * 1_000_003 + channel, policy.backoff_base_ns, policy.backoff_cap_ns)
        self._retry_at_ns = 0
        self._closing_until_ns = 0
        self._deadline_ns = 0  # of connecting and logging in
        self._ping_at_ns = 0
        self._next_request_id = 0
        self._requests: dict[int, _Request] = {}
        self._waiting: deque[_Request] = deque()
        self._send_at_ns = 0

    # --- wishes ---

    def open(self, now_ns: int) -> None:
        """Connect and stay connected."""
        if not self.is_wanted:
            self.is_wanted = True
            self._retry_at_ns = now_ns
            self.on_timer(now_ns)

    def close(self, now_ns: int, reason: str = "closed by us") -> None:
        """Close and stay closed."""
        self.is_wanted = False
        self._drop(reason, now_ns)

    def reconnect(self, reason: str, now_ns: int) -> None:
        """Close and connect again after the backoff: this socket is of no use any more."""
        self._drop(reason, now_ns)
        self._retry_later(now_ns)

    def retry_now(self, now_ns: int) -> None:
        """Do not wait for the backoff: what was missing is there (a listen key)."""
        self._retry_at_ns = min(self._retry_at_ns, now_ns)
        self.on_timer(now_ns)

    def subscribe(self, topics: Iterable[str], now_ns: int) -> None:
        new = [topic for topic in topics if topic not in self.topics]
        self.topics.update(dict.fromkeys(new, False))
        self._queue_requests(new, True, now_ns)

    def unsubscribe(self, topics: Iterable[str], now_ns: int) -> None:
        old = [topic for topic in topics if self.topics.pop(topic, None) is not None]
        self._queue_requests(old, False, now_ns)

    def resubscribe(self, topics: Iterable[str], now_ns: int) -> None:
        """Unsubscribe and subscribe again topics that are already wanted (a fresh snapshot, where the venue sends
        one on subscription)."""
        again = [topic for topic in topics if topic in self.topics]
        for topic in again:
            self.topics[topic] = False
        self._queue_requests(again, False, now_ns)
        self._queue_requests(again, True, now_ns)

    def send(self, payload: bytes | bytearray | memoryview) -> bool:
        return self.is_connected and self._wire.send(self.channel, payload)

    # --- inputs ---

    def on_connected(self, now_ns: int) -> None:
        if self.state is not ConnState.CONNECTING:
            self._wire.close(self.channel)  # given up while it was connecting
            return
        self.is_connected = True
        self.connected_ns = self.last_recv_ns = now_ns
        self._deadline_ns = now_ns + self.policy.ack_timeout_ns
        self._ping_at_ns = now_ns + self.policy.ping_interval_ns
        login = self._owner.channel_login(self.channel, now_ns)
        if login is None:
            self.logged_in(now_ns)
        else:
            self._wire.send(self.channel, login)

    def on_disconnected(self, reason: str, now_ns: int) -> None:
        was_known = self.state is not ConnState.DOWN
        self._closing_until_ns = 0
        self.is_connected = False
        self._forget()
        if was_known:
            self._change(ConnState.DOWN, reason, now_ns)
            if self.is_wanted:
                self._retry_later(now_ns)

    def logged_in(self, now_ns: int) -> None:
        """The venue accepted the log-in (or needs none): subscribe to everything wanted."""
        if not self.is_connected:
            return
        self.is_logged_in = True
        self._deadline_ns = 0
        self.topics = dict.fromkeys(self.topics, False)
        self._queue_requests(list(self.topics), True, now_ns)
        self._maybe_up(now_ns)

    def on_ack(self, request_id: int, is_ok: bool, now_ns: int, reason: str = "") -> Sequence[str]:
        """Answer to a subscribe or unsubscribe request; gives back its topics, () for an id that is not ours."""
        request = self._requests.pop(request_id, None)
        if request is None:
            return ()
        if not is_ok:
            self.reconnect(f"subscription refused: {reason}", now_ns)
            return request.topics
        if request.is_subscribe:
            for topic in request.topics:
                if topic in self.topics:
                    self.topics[topic] = True
        self._maybe_up(now_ns)
        return request.topics

    def on_timer(self, now_ns: int) -> None:
        if not self.is_wanted:
            return
        if self.state is ConnState.DOWN:
            # The old socket's end must not be taken for the new one's: wait for it, within reason.
            if now_ns >= self._retry_at_ns and now_ns >= self._closing_until_ns:
                self._connect(now_ns)
            return
        if self._deadline_ns and now_ns >= self._deadline_ns:
            self.reconnect("log-in timed out" if self.is_connected else "connect timed out", now_ns)
            return
        if not self.is_connected:
            return
        if self.policy.silence_ns and now_ns - self.last_recv_ns >= self.policy.silence_ns:
            self.reconnect(f"silent for {self.policy.silence_ns // MS} ms", now_ns)
            return
        if any(now_ns >= request.deadline_ns for request in self._requests.values()):
            self.reconnect("subscription not acknowledged", now_ns)
            return
        self._send_requests(now_ns)
        if self.policy.ping_interval_ns and now_ns >= self._ping_at_ns:
            self._ping_at_ns = now_ns + self.policy.ping_interval_ns
            self._wire.send(self.channel, self._owner.channel_ping(self.channel, now_ns))
        if self.state is ConnState.UP and now_ns - self.up_ns >= self.policy.backoff_reset_ns:
            self._backoff.reset()

    # --- inside ---

    def _connect(self, now_ns: int) -> None:
        url = self._owner.channel_url(self.channel)
        if not url:
            self._retry_later(now_ns)
            return
        self.connect_count += 1
        self._deadline_ns = now_ns + self.policy.connect_timeout_ns
        self._change(ConnState.CONNECTING, "", now_ns)
        self._wire.connect(self.channel, url)

    def _drop(self, reason: str, now_ns: int) -> None:
        if self.state is ConnState.DOWN:
            return
        self.is_connected = False
        self._forget()
        self._closing_until_ns = now_ns + CLOSE_TIMEOUT_NS
        self._wire.close(self.channel)
        self._change(ConnState.DOWN, reason, now_ns)

    def _forget(self) -> None:
        self.is_logged_in = False
        self._deadline_ns = 0
        self._requests.clear()
        self._waiting.clear()
        for topic in self.topics:
            self.topics[topic] = False

    def _retry_later(self, now_ns: int) -> None:
        self._retry_at_ns = now_ns + self._backoff.next_ns()
        self._wire.set_timer(self._retry_at_ns)

    def _change(self, state: ConnState, reason: str, now_ns: int) -> None:
        if state is self.state:
            return
        self.state = state
        if state is ConnState.UP:
            self.up_ns = now_ns
        self._owner.channel_changed(self.channel, state, reason, now_ns)

    def _maybe_up(self, now_ns: int) -> None:
        is_ready = self.is_logged_in and not self._requests and not self._waiting
        if is_ready and self.state is ConnState.CONNECTING:
            self._change(ConnState.UP, "", now_ns)

    def _queue_requests(self, topics: Sequence[str], is_subscribe: bool, now_ns: int) -> None:
        if not self.is_logged_in:
            return  # everything wanted is subscribed after the log-in
        step = self.policy.topics_per_request
        for first in range(0, len(topics), step):
            self._waiting.append(_Request(list(topics[first : first + step]), is_subscribe, 0))
        self._send_requests(now_ns)

    def _send_requests(self, now_ns: int) -> None:
        while self._waiting and now_ns >= self._send_at_ns:
            request = self._waiting.popleft()
            self._next_request_id += 1
            request.deadline_ns = now_ns + self.policy.ack_timeout_ns
            self._requests[self._next_request_id] = request
            self._send_at_ns = now_ns + self.policy.request_gap_ns
            frame = self._owner.channel_subscribe(
                self.channel, self._next_request_id, request.topics, request.is_subscribe
            )
            self._wire.send(self.channel, frame)
        if self._waiting:
            self._wire.set_timer(self._send_at_ns)


class ChannelPair:
    """Two sockets of one role: `active` serves, the spare replaces it before the venue's time limit or on notice.

    Both deliver frames while they overlap; the owner tells by `active` which one counts where duplicates matter.
    """

    def __init__(self, first: ChannelSession, second: ChannelSession) -> None:
        self.channel = first.channel  # names the role, whichever socket serves it
        self.active = first
        self.spare = second
        self._reported = ConnState.DOWN
        self._is_renewing = False
        self._retire_at_ns = 0

    def of(self, channel: int) -> ChannelSession | None:
        if self.active.channel == channel:
            return self.active
        return self.spare if self.spare.channel == channel else None

    @property
    def state(self) -> ConnState:
        return self.active.state

    def take_change(self) -> ConnState | None:
        """The state of the role where it is another than at the last call: a replacement is none."""
        if self.active.state is self._reported:
            return None
        self._reported = self.active.state
        return self._reported

    def open(self, now_ns: int) -> None:
        self.active.open(now_ns)

    def close(self, now_ns: int) -> None:
        self._is_renewing = False
        self.active.close(now_ns)
        self.spare.close(now_ns)

    def subscribe(self, topics: Sequence[str], now_ns: int) -> None:
        self.active.subscribe(topics, now_ns)
        self.spare.subscribe(topics, now_ns)

    def unsubscribe(self, topics: Sequence[str], now_ns: int) -> None:
        self.active.unsubscribe(topics, now_ns)
        self.spare.unsubscribe(topics, now_ns)

    def renew(self, now_ns: int) -> None:
        """Open the replacement now (age, or the venue's notice that it will close this socket)."""
        if not self._is_renewing and self.active.is_wanted:
            self._is_renewing = True
            self._retire_at_ns = 0
            self.spare.open(now_ns)

    def on_timer(self, now_ns: int) -> None:
        self.active.on_timer(now_ns)
        self.spare.on_timer(now_ns)
        self.advance(now_ns)

    def advance(self, now_ns: int) -> None:
        """Swap and retire where it is time; cheap, and safe to call after every state change."""
        active = self.active
        renewal_ns = active.policy.renewal_ns
        if renewal_ns and active.state is ConnState.UP and now_ns - active.connected_ns >= renewal_ns:
            self.renew(now_ns)
        if not self._is_renewing:
            return
        if not self._retire_at_ns:
            if self.spare.state is ConnState.UP:
                self.active, self.spare = self.spare, self.active
                self._retire_at_ns = now_ns + active.policy.drain_ns
                self.active._wire.set_timer(self._retire_at_ns)
        elif now_ns >= self._retire_at_ns:
            self._is_renewing = False
            self.spare.close(now_ns, "replaced")


# --- the queue in front of the wire ---


class Priority(IntEnum):
    """Order of the queues; a smaller one goes first."""

    CANCEL = 0
    HEDGE = 1
    REDUCE = 2
    NEW = 3
    QUERY = 4
    BULK = 5


class Outgoing:
    """One message that waits for its budgets and its channel.

    `transmit(now_ns)` makes and sends the bytes at the last moment (signatures carry the time) and says False when
    the channel cannot take them; `expire(now_ns)` is called instead, once, when the deadline passes first.
    `weights[i]` is taken from `throttles[i]` when it was sent; a weight of 0 still obeys that throttle's freeze.
    """

    __slots__ = ("deadline_ns", "expire", "priority", "throttles", "transmit", "weights")

    def __init__(
        self,
        priority: Priority,
        throttles: Sequence[Throttle],
        weights: Sequence[int],
        transmit: Callable[[int], bool],
        expire: Callable[[int], None] | None = None,
        deadline_ns: int = 0,
    ) -> None:
        assert len(throttles) == len(weights), f"{len(throttles)} throttles, {len(weights)} weights"
        assert (expire is None) == (deadline_ns == 0), "a deadline and what happens at it come together"
        self.priority = int(priority)  # an int is half as dear to hand to C as an IntEnum
        self.throttles = throttles
        self.weights = weights
        self.transmit = transmit
        self.expire = expire
        self.deadline_ns = deadline_ns


class Outbox:
    """Priority queues over shared throttles. A message that fits is sent within `submit`; the rest waits, in order.

    A head that waits for a throttle keeps later messages off that throttle, so a cancel is never overtaken by what
    would use up its tokens; a head that waits for its channel holds up nobody else.
    """

    def __init__(self, wire: Wire) -> None:
        self.waiting = 0
        self.expired = 0
        self._wire = wire
        self._queues: tuple[deque[Outgoing], ...] = tuple(deque() for _ in Priority)

    def acquire(self, throttles: Sequence[Throttle], weights: Sequence[int], priority: int, now_ns: int) -> bool:
        """Take the budget of a message that need not wait, without making an Outgoing of it: nothing waits, and it
        fits. The caller sends it now. False takes nothing: submit it."""
        return not self.waiting and not acquire_all(throttles, weights, priority, now_ns)

    def submit(self, item: Outgoing, now_ns: int) -> None:
        if self.waiting:
            self._queues[item.priority].append(item)
            self.waiting += 1
            self.pump(now_ns)
        elif not self._try_send(item, now_ns, []):
            self._queues[item.priority].append(item)
            self.waiting += 1

    def pump(self, now_ns: int) -> None:
        """Send what fits, drop what is late. Called on every timer and when a channel comes up."""
        if not self.waiting:
            return
        self._expire(now_ns)
        blocked: list[Throttle] = []
        for queue in self._queues:
            for _ in range(len(queue)):
                item = queue.popleft()
                if self._try_send(item, now_ns, blocked):
                    self.waiting -= 1
                else:
                    queue.append(item)  # keeps the order: every item is sent or appended exactly once

    def clear(self, from_priority: Priority, now_ns: int) -> None:
        """Let everything of this priority and below expire now (the connector stops)."""
        for queue in self._queues[from_priority:]:
            items = list(queue)
            queue.clear()
            self.waiting -= len(items)
            for item in items:
                if item.expire is not None:
                    item.expire(now_ns)

    def _try_send(self, item: Outgoing, now_ns: int, blocked: list[Throttle]) -> bool:
        throttles, weights, priority = item.throttles, item.weights, item.priority
        if blocked and any(throttle is one for throttle in throttles for one in blocked):
            return False
        wait_ns = 0
        for at, throttle in enumerate(throttles):
            wait_ns = max(wait_ns, throttle.peek(weights[at], priority, now_ns))
        if wait_ns:
            blocked.extend(throttles)
            self._wire.set_timer(now_ns + min(wait_ns, MINUTE))
            return False
        if not item.transmit(now_ns):
            return False
        acquire_all(throttles, weights, priority, now_ns)
        return True

    def _expire(self, now_ns: int) -> None:
        for queue in self._queues:
            for _ in range(len(queue)):
                item = queue.popleft()
                if item.expire is not None and now_ns >= item.deadline_ns:
                    self.waiting -= 1
                    self.expired += 1
                    item.expire(now_ns)
                else:
                    queue.append(item)


# --- requests that wait for their answer ---

Context = TypeVar("Context")


class PendingRequests(Generic[Context]):
    """Request id -> what was asked, until the answer, the deadline or the end of its channel."""

    def __init__(self) -> None:
        self._pending: dict[int, tuple[Context, int, int]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, request_id: int, context: Context, deadline_ns: int, channel: int = 0) -> None:
        assert request_id not in self._pending, f"request id {request_id} twice"
        self._pending[request_id] = (context, deadline_ns, channel)

    def pop(self, request_id: int) -> Context | None:
        """None for an id that is not waiting: late after its timeout, repeated, or never ours."""
        entry = self._pending.pop(request_id, None)
        return None if entry is None else entry[0]

    def take_expired(self, now_ns: int) -> list[Context]:
        """Everything past its deadline."""
        late = [request_id for request_id, entry in self._pending.items() if now_ns >= entry[1]]
        return [self._pending.pop(request_id)[0] for request_id in late]

    def take_channel(self, channel: int) -> list[Context]:
        """Everything that was sent on a channel: its answers will not come."""
        lost = [request_id for request_id, entry in self._pending.items() if entry[2] == channel]
        return [self._pending.pop(request_id)[0] for request_id in lost]

    def has_channel(self, channel: int) -> bool:
        return any(entry[2] == channel for entry in self._pending.values())
