"""The private sockets: WebSocket API (order entry; on spot also user data) and USD-M's user data stream.

An HMAC key subscribes spot's user data with one signed request; an Ed25519 key logs the socket on first, and its
order requests then need no signature of their own.
Source: binance-spot-api-docs web-socket-api.md "Authentication", "User Data Stream requests"; USD-M "WebSocket API
General Info", "User Data Streams: Connect"; read 2026-11-22.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from connectors.binance.account import ListenKey, UserEvents
from connectors.binance.auth import Auth
from connectors.binance.context import Context, MarketSide
from connectors.binance.endpoints import (
    API_PATH,
    SPOT_API,
    SPOT_API_SPARE,
    USDM_API,
    USDM_API_SPARE,
    USDM_PRIVATE,
    USDM_PRIVATE_SPARE,
)
from connectors.binance.errors import NOT_UNDERSTOOD, failure_of
from connectors.session import MINUTE, SECOND, ChannelPair, ChannelSession, SessionPolicy
from engine.events import ChannelState, VenueNotice, VenueRefused
from engine.types import ConnState, Market, Venue

OnAnswer = Callable[[Mapping[str, Any], int], bool]
OnState = Callable[[ConnState, int], None]

API_POLICY: Final = SessionPolicy(
    ping_interval_ns=SECOND, silence_ns=4 * SECOND, renewal_ns=23 * 60 * MINUTE, drain_ns=5 * SECOND
)
PRIVATE_POLICY: Final = SessionPolicy(
    ping_interval_ns=SECOND, silence_ns=4 * SECOND, renewal_ns=23 * 60 * MINUTE, drain_ns=5 * SECOND
)


class PrivateRole(ABC):
    """What both private sockets share: a pair, its reports, and events that are not understood."""

    def __init__(self, ctx: Context, side: MarketSide, policy: SessionPolicy, first: int, second: int) -> None:
        self._ctx = ctx
        self._side = side
        self.garbled = 0
        self.pair = ChannelPair(
            ChannelSession(first, ctx.wire, self, policy), ChannelSession(second, ctx.wire, self, policy)
        )
        self.sessions = {s.channel: s for s in (self.pair.active, self.pair.spare)}
        self.on_state: OnState = lambda state, now_ns: None
        self.on_doubt: Callable[[int], None] = lambda now_ns: None

    def on_connected(self, channel: int, now_ns: int) -> None:
        self.sessions[channel].on_connected(now_ns)

    def on_disconnected(self, channel: int, reason: str, now_ns: int) -> None:
        self.sessions[channel].on_disconnected(reason, now_ns)

    def on_frame(self, channel: int, payload: bytes, recv_ts_ns: int) -> None:
        self.sessions[channel].last_recv_ns = recv_ts_ns
        try:
            message = orjson.loads(payload)
            self.on_message(channel, message, recv_ts_ns)
        except NOT_UNDERSTOOD:
            # Something about our account was said and not understood: the core must ask instead.
            self.garbled += 1
            self.on_doubt(recv_ts_ns)

    def on_timer(self, now_ns: int) -> None:
        self.pair.on_timer(now_ns)
        self.report("", now_ns)

    def report(self, reason: str, now_ns: int) -> None:
        state = self.pair.take_change()
        if state is not None:
            self._ctx.emit(ChannelState(now_ns, Venue.BINANCE, self.pair.channel, state, reason))
            self.on_state(state, now_ns)

    def channel_changed(self, channel: int, state: ConnState, reason: str, now_ns: int) -> None:
        self.pair.advance(now_ns)
        self.report(reason, now_ns)

    def shut_down(self, channel: int, now_ns: int) -> None:
        """The venue announced that it closes this socket."""
        self._ctx.emit(VenueNotice(now_ns, Venue.BINANCE, "shutdown"))
        if channel == self.pair.active.channel:
            self.pair.renew(now_ns)

    @abstractmethod
    def on_message(self, channel: int, message: Any, recv_ts_ns: int) -> None: ...

    @abstractmethod
    def channel_url(self, channel: int) -> str: ...

    @abstractmethod
    def channel_login(self, channel: int, now_ns: int) -> bytes | None: ...

    @abstractmethod
    def channel_ping(self, channel: int, now_ns: int) -> bytes: ...

    def channel_subscribe(self, channel: int, request_id: int, topics: Sequence[str], is_subscribe: bool) -> bytes:
        raise AssertionError(f"channel {channel} has no topics")


class ApiRole(PrivateRole):
    """WebSocket API of one market."""

    def __init__(self, ctx: Context, side: MarketSide, auth: Auth, events: UserEvents | None) -> None:
        is_spot = side.market is Market.SPOT
        first, second = (SPOT_API, SPOT_API_SPARE) if is_spot else (USDM_API, USDM_API_SPARE)
        super().__init__(ctx, side, API_POLICY, first, second)
        self._auth = auth
        self._events = events  # spot: user data share this socket
        self._logins: dict[int, tuple[int, str]] = {}  # request id -> channel, method
        self._pings: dict[int, int] = {}
        self.on_answer: OnAnswer = lambda message, now_ns: False
        self.on_lost: Callable[[int, str, int], None] = lambda channel, reason, now_ns: None

    def on_message(self, channel: int, message: Any, recv_ts_ns: int) -> None:
        event = message.get("event")
        if event is not None:
            self._on_event(channel, event, recv_ts_ns)
            return
        request_id = message["id"]
        login = self._logins.pop(request_id, None)
        if login is not None:
            self._on_login(login[0], login[1], message, recv_ts_ns)
        elif request_id is None and message.get("status") == 401:
            self._refuse(failure_of(401, message.get("error")).text, recv_ts_ns)
        elif self._pings.pop(request_id, None) is None:
            self.on_answer(message, recv_ts_ns)

    def _on_event(self, channel: int, event: Any, recv_ts_ns: int) -> None:
        name = event["e"]
        if name == "serverShutdown":
            self.shut_down(channel, recv_ts_ns)
        elif name == "eventStreamTerminated":
            self.sessions[channel].reconnect("user data stream ended by the venue", recv_ts_ns)
        elif self._events is not None:
            self._events.on_event(event, recv_ts_ns)

    def _on_login(self, channel: int, method: str, message: Any, now_ns: int) -> None:
        session = self.sessions[channel]
        if message["status"] != 200:
            failure = failure_of(message["status"], message.get("error"))
            self._ctx.note_failure(self._side, failure)
            if failure.is_auth:
                self._refuse(f"{failure.code}: {failure.text}", now_ns)
            session.reconnect(f"{method}: {failure.code} {failure.text}", now_ns)
        elif method == "session.logon" and self._events is not None:
            request_id = self._login_id(channel, "userDataStream.subscribe")
            session.send(b'{"id":%d,"method":"userDataStream.subscribe","params":{}}' % request_id)
        else:
            session.logged_in(now_ns)

    def _refuse(self, reason: str, now_ns: int) -> None:
        self._ctx.emit(VenueRefused(now_ns, Venue.BINANCE, "key", reason))

    def _login_id(self, channel: int, method: str) -> int:
        request_id = self._ctx.next_id()
        self._logins[request_id] = (channel, method)
        return request_id

    def channel_changed(self, channel: int, state: ConnState, reason: str, now_ns: int) -> None:
        if state is ConnState.DOWN:
            self._logins = {key: value for key, value in self._logins.items() if value[0] != channel}
            self._pings = {key: value for key, value in self._pings.items() if value != channel}
            self.on_lost(channel, reason, now_ns)
        super().channel_changed(channel, state, reason, now_ns)
        if state is ConnState.UP:
            self._side.outbox.pump(now_ns)

    def channel_url(self, channel: int) -> str:
        urls = self._ctx.urls
        base = urls.spot_api if self._side.market is Market.SPOT else urls.usdm_api
        return base + API_PATH[self._side.market]

    def channel_login(self, channel: int, now_ns: int) -> bytes | None:
        if self._auth.is_session:
            method = "session.logon"
        elif self._events is not None:
            method = "userDataStream.subscribe.signature"
        else:
            return None
        return self._auth.logon(self._login_id(channel, method), method, self._ctx.utc_ms(self._side, now_ns))

    def channel_ping(self, channel: int, now_ns: int) -> bytes:
        request_id = self._ctx.next_id()
        self._pings[request_id] = channel
        return b'{"id":%d,"method":"ping"}' % request_id


class UserStreamRole(PrivateRole):
    """USD-M's user data stream."""

    def __init__(self, ctx: Context, side: MarketSide, events: UserEvents) -> None:
        super().__init__(ctx, side, PRIVATE_POLICY, USDM_PRIVATE, USDM_PRIVATE_SPARE)
        self._events = events
        self.listen_key = ListenKey(ctx, side, self._on_key)

    def open(self, now_ns: int) -> None:
        self.listen_key.ask(now_ns)

    def _on_key(self, now_ns: int) -> None:
        self.pair.open(now_ns)
        self.pair.active.retry_now(now_ns)

    def on_timer(self, now_ns: int) -> None:
        self.listen_key.on_timer(now_ns)
        super().on_timer(now_ns)

    def on_message(self, channel: int, message: Any, recv_ts_ns: int) -> None:
        event = message.get("data", message)
        name = event.get("e")
        if name is None:
            return  # answer to a liveness probe
        if name == "listenKeyExpired":
            self.sessions[channel].reconnect("listen key expired", recv_ts_ns)
            self.listen_key.expire(recv_ts_ns)
        elif name == "serverShutdown":
            self.shut_down(channel, recv_ts_ns)
        else:
            self._events.on_event(event, recv_ts_ns)

    def channel_url(self, channel: int) -> str:
        key = self.listen_key.key
        return f"{self._ctx.urls.usdm_stream}/private/ws/{key}" if key else ""

    def channel_login(self, channel: int, now_ns: int) -> bytes | None:
        return None

    def channel_ping(self, channel: int, now_ns: int) -> bytes:
        # Not LIST_SUBSCRIPTIONS, as market data asks: its answer names the listen key, and answers are journaled.
        return b'{"method":"GET_PROPERTY","params":["combined"],"id":%d}' % self._ctx.next_id()
