"""The Bybit connector: puts the parts together and keeps them alive. See README.md beside this file.

Owns the sockets and the order of the start: clock, key, account, instruments; then log in and subscribe; then
`VenueReady`, which is told again after each loss of the private stream, because nothing of what was missed is sent
again. Knows no clock and no socket: time arrives with each call, the world is behind `Wire`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from connectors.bybit.account import Account
from connectors.bybit.auth import Auth
from connectors.bybit.context import Context
from connectors.bybit.endpoints import (
    PRIVATE,
    PROBE_CHANNEL,
    PROBES,
    PUBLIC_CHANNEL,
    PUBLIC_LINEAR,
    PUBLIC_SPOT,
    TRADE,
)
from connectors.bybit.market import MarketData
from connectors.bybit.queries import Queries
from connectors.bybit.startup import StartUp
from connectors.bybit.trading import OrderEntry, decode
from connectors.session import MS, SECOND, ChannelSession, Priority, SessionPolicy
from engine.actions import (
    AmendOrder,
    CancelAll,
    CancelOrder,
    PlaceOrder,
    QueryBalances,
    QueryFills,
    QueryOpenOrders,
    QueryOrder,
    QueryPositions,
)
from engine.errors import CredentialError
from engine.events import ChannelState, VenueLost, VenueReady, VenueRefused
from engine.instrument import Instrument
from engine.types import ConnState, Market, Venue
from engine.venue import Credentials, Emit, ExchangeConnector, InstrumentSpec, VenueSettings, Wire

MARKET_CHANNELS: Final = (PUBLIC_LINEAR, PUBLIC_SPOT, *PROBES)
PING_NS: Final = 20 * SECOND  # what the venue asks for
SILENCE_PINGS: Final = 2  # unanswered pings until a socket counts as dead
PRIVATE_TOPICS: Final = ("order", "execution", "position", "wallet")


class BybitConnector(ExchangeConnector):
    venue = Venue.BYBIT

    def __init__(
        self,
        settings: VenueSettings,
        credentials: Credentials | None,
        instruments: Sequence[InstrumentSpec],
        wire: Wire,
        emit: Emit,
        utc_offset_ns: int = 0,
    ) -> None:
        self.utc_offset_ns = utc_offset_ns
        self._credentials = credentials
        self._settings = settings
        self.context = Context(settings, wire, emit)
        self.context.utc_offset_ns = utc_offset_ns
        self._sessions = self._make_sessions(settings, credentials, instruments, wire)
        public = {ch: one for ch, one in self._sessions.items() if ch in MARKET_CHANNELS}
        self.market = MarketData(self.context, public)
        self.entry = OrderEntry(self.context, self._sessions.get(TRADE))
        self.account = Account(self.context, self.entry)
        self.queries = Queries(self.context, self.account, self.entry)
        self._start_up = StartUp(self.context, self.account, instruments, self._define, self._go_live)
        self.books = self.market.books
        self.instruments = self.context.instruments
        self._is_ready = False
        self._is_stopped = False
        self._wanted_trades: list[int] = []
        self.control_refusals = 0

    def _make_sessions(
        self,
        settings: VenueSettings,
        credentials: Credentials | None,
        specs: Sequence[InstrumentSpec],
        wire: Wire,
    ) -> dict[int, ChannelSession]:
        # The dead man's switch also fires when we go silent for its window: ping well within it.
        dead_man_ns = settings.dead_man_ms * MS
        private_ping_ns = min(PING_NS, max(SECOND, dead_man_ns // 3)) if dead_man_ns else PING_NS
        sessions: dict[int, ChannelSession] = {}
        for market in dict.fromkeys(spec.market for spec in specs):
            topics = 10 if market is Market.SPOT else 100  # Bybit spot takes no more in one request
            for channel in (PUBLIC_CHANNEL[market], PROBE_CHANNEL[market]):
                sessions[channel] = ChannelSession(channel, wire, self, _policy(PING_NS, topics))
        if credentials is not None:
            sessions[PRIVATE] = ChannelSession(PRIVATE, wire, self, _policy(private_ping_ns, 100))
            if self.context.endpoints.ws_trade:
                sessions[TRADE] = ChannelSession(TRADE, wire, self, _policy(private_ping_ns, 100))
        return sessions

    # --- life ---

    def start(self, now_ns: int) -> None:
        credentials = self._credentials
        if credentials is not None:
            if credentials.environment != self._settings.environment:
                text = f"credentials are for {credentials.environment!r}, settings for {self._settings.environment!r}"
                self.context.emit(VenueRefused(now_ns, Venue.BYBIT, "environment", f"bybit: {text}"))
                return
            try:
                self.context.auth = Auth(credentials, self._settings.recv_window_ms, is_off=self.signer_off)
            except CredentialError as error:
                self.context.emit(VenueRefused(now_ns, Venue.BYBIT, "key", str(error)))
                return
        self._start_up.start(now_ns)

    def stop(self, now_ns: int) -> None:
        """The venue's own switch cannot be disarmed; with nothing resting it has nothing to cancel."""
        self._is_stopped = True
        self._is_ready = False
        self.context.auth = None  # nothing that is asked from here on may reach the venue
        for session in self._sessions.values():
            session.close(now_ns, "stopped")
        self.context.outbox.clear(Priority.CANCEL, now_ns)
        self.context.rest.drop_all()

    def _define(self, instrument: Instrument, now_ns: int) -> None:
        self.context.define(instrument)
        self.market.define(instrument)

    def _go_live(self, now_ns: int) -> None:
        self.entry.start(now_ns)
        for index in self.instruments:
            self.market.subscribe_book(index, now_ns)
        for index in self._wanted_trades:
            self.market.subscribe_trades(index, now_ns)
        private = self._sessions.get(PRIVATE)
        if private is not None:
            private.subscribe(PRIVATE_TOPICS, now_ns)
            self._start_up.arm_dead_man(lambda topic, at_ns: private.subscribe([topic], at_ns), now_ns)
        for session in self._sessions.values():
            session.open(now_ns)

    def _maybe_ready(self, now_ns: int) -> None:
        """The private stream is live and so are prices; orders go by REST while the trade socket is not."""
        if self._is_ready or not self._start_up.is_done or self._start_up.is_refused:
            return
        for channel, session in self._sessions.items():
            is_spared = channel in PROBES or (channel == TRADE and session.state is not ConnState.CONNECTING)
            if session.state is not ConnState.UP and not is_spared:
                return
        self._is_ready = True
        self.context.emit(VenueReady(now_ns, Venue.BYBIT))

    # --- orders ---

    def place_order(self, action: PlaceOrder, now_ns: int) -> None:
        self.entry.place_one(action, now_ns)

    def place_orders(self, actions: Sequence[PlaceOrder], now_ns: int) -> None:
        self.entry.place(actions, now_ns)

    def cancel_order(self, action: CancelOrder, now_ns: int) -> None:
        self.entry.cancel_one(action, now_ns)

    def cancel_orders(self, actions: Sequence[CancelOrder], now_ns: int) -> None:
        self.entry.cancel(actions, now_ns)

    def amend_order(self, action: AmendOrder, now_ns: int) -> None:
        self.entry.amend(action, now_ns)

    def cancel_all(self, action: CancelAll, now_ns: int) -> None:
        self.entry.cancel_all(action, now_ns)

    # --- questions ---

    def get_order(self, action: QueryOrder, now_ns: int) -> None:
        self.queries.get_order(action, now_ns)

    def get_open_orders(self, action: QueryOpenOrders, now_ns: int) -> None:
        self.queries.get_open_orders(action, now_ns)

    def get_fills(self, action: QueryFills, now_ns: int) -> None:
        self.queries.get_fills(action, now_ns)

    def get_balance(self, action: QueryBalances, now_ns: int) -> None:
        self.queries.get_balance(action, now_ns)

    def get_positions(self, action: QueryPositions, now_ns: int) -> None:
        self.queries.get_positions(action, now_ns)

    # --- market data ---

    def subscribe_order_book(self, instrument: int, now_ns: int) -> None:
        if instrument in self.books:  # before its definition: the start subscribes to every book
            self.market.subscribe_book(instrument, now_ns)

    def subscribe_trades(self, instrument: int, now_ns: int) -> None:
        if instrument not in self._wanted_trades:
            self._wanted_trades.append(instrument)
        if instrument in self.books:
            self.market.subscribe_trades(instrument, now_ns)

    def unsubscribe(self, instrument: int, now_ns: int) -> None:
        if instrument in self._wanted_trades:
            self._wanted_trades.remove(instrument)
        if instrument in self.books:
            self.market.unsubscribe(instrument, now_ns)

    # --- inputs ---

    def on_frame(self, channel: int, payload: bytes, recv_ts_ns: int) -> None:
        session = self._sessions[channel]
        session.last_recv_ns = recv_ts_ns
        if channel in MARKET_CHANNELS:
            message = self.market.on_frame(channel, payload, recv_ts_ns)
            if message is not None:
                self._on_control(session, message, recv_ts_ns)
            return
        message = decode(payload)
        if message is None:
            # It may have been a fill: start anew, and let the reconciliation find out.
            session.reconnect("frame was not understood", recv_ts_ns)
        elif channel == PRIVATE and "topic" in message:
            self.account.on_message(message, recv_ts_ns)
        elif channel == TRADE and str(message.get("op")).startswith("order."):
            self.entry.on_message(message, recv_ts_ns)
        else:
            self._on_control(session, message, recv_ts_ns)

    def on_response(
        self, request_id: int, status: int, headers: Mapping[str, str], body: bytes, recv_ts_ns: int
    ) -> None:
        self.context.rest.on_response(request_id, status, headers, body, recv_ts_ns)

    def on_connected(self, channel: int, recv_ts_ns: int) -> None:
        self._sessions[channel].on_connected(recv_ts_ns)

    def on_disconnected(self, channel: int, reason: str, recv_ts_ns: int) -> None:
        self._sessions[channel].on_disconnected(reason, recv_ts_ns)

    def on_timer(self, now_ns: int) -> None:
        if self._is_stopped:
            return
        for session in self._sessions.values():
            session.on_timer(now_ns)
        self.context.rest.on_timer(now_ns)
        self.context.outbox.pump(now_ns)
        self.entry.on_timer(now_ns)
        self.market.on_timer(now_ns)
        self._start_up.on_timer(now_ns)

    def on_utc_offset(self, utc_offset_ns: int, recv_ts_ns: int) -> None:
        self.utc_offset_ns = self.context.utc_offset_ns = utc_offset_ns

    # --- what the sessions ask (SessionOwner) ---

    def channel_url(self, channel: int) -> str:
        endpoints = self.context.endpoints
        if channel == PRIVATE:
            return endpoints.ws_private
        return endpoints.ws_trade if channel == TRADE else endpoints.ws_public[channel]

    def channel_login(self, channel: int, now_ns: int) -> bytes | None:
        if channel not in (PRIVATE, TRADE):
            return None
        assert self.context.auth is not None, "a private socket without credentials"
        return self.context.auth.login(self.context.utc_ms(now_ns))

    def channel_ping(self, channel: int, now_ns: int) -> bytes:
        return b'{"req_id":"ping","op":"ping"}'

    def channel_subscribe(self, channel: int, request_id: int, topics: Sequence[str], is_subscribe: bool) -> bytes:
        op = "subscribe" if is_subscribe else "unsubscribe"
        args = ",".join(f'"{topic}"' for topic in topics)
        return f'{{"req_id":"{request_id}","op":"{op}","args":[{args}]}}'.encode()

    def channel_changed(self, channel: int, state: ConnState, reason: str, now_ns: int) -> None:
        if state is ConnState.DOWN:
            if channel == PRIVATE:
                self._lose(f"private stream lost: {reason}", now_ns)
            elif channel == TRADE:
                self.entry.on_down(now_ns)
            else:
                self.market.on_down(channel, reason, now_ns)
        self.context.emit(ChannelState(now_ns, Venue.BYBIT, channel, state, reason))
        if state is ConnState.UP:
            if channel in MARKET_CHANNELS:
                self.market.on_up(channel, now_ns)
            self.context.outbox.pump(now_ns)
        if state is not ConnState.CONNECTING:
            self._maybe_ready(now_ns)

    def _lose(self, reason: str, now_ns: int) -> None:
        if self._is_ready:
            self._is_ready = False
            self.context.emit(VenueLost(now_ns, Venue.BYBIT, reason))

    def _on_control(self, session: ChannelSession, message: Mapping[str, Any], now_ns: int) -> None:
        """Answers to log-in, subscriptions and pings: three dialects, one for each kind of socket."""
        op = message.get("op")
        text = str(message.get("ret_msg") or message.get("retMsg") or "")
        is_ok = message.get("success") is True or message.get("retCode") == 0
        if op == "auth":
            if is_ok:
                session.logged_in(now_ns)
            else:
                session.reconnect(f"log-in refused: {message.get('retCode', '')} {text}", now_ns)
        elif op in ("subscribe", "unsubscribe"):
            req_id = message.get("req_id")
            number = int(req_id) if isinstance(req_id, str) and req_id.isdecimal() else 0
            session.on_ack(number, is_ok or "already subscribed" in text, now_ns, text)
        elif op not in ("ping", "pong"):
            self.control_refusals += 1


def _policy(ping_ns: int, topics_per_request: int) -> SessionPolicy:
    return SessionPolicy(
        ping_interval_ns=ping_ns,
        silence_ns=SILENCE_PINGS * ping_ns + 5 * SECOND,
        topics_per_request=topics_per_request,
        request_gap_ns=0,
    )
