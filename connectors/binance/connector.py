"""The Binance connector: spot and USD-M as one venue. Puts the parts together and decides when the venue is ready.

Order of the start: environment; instruments and clock of each market; then, with credentials, the key's permissions,
position mode and fees; then the private channels. VenueReady follows when every private channel is live, and again
after each time one was lost: what it would have said meanwhile, only the core's reconciliation can find out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from connectors.binance.account import UserEvents, Wallets
from connectors.binance.auth import Auth
from connectors.binance.channels import ApiRole, PrivateRole, UserStreamRole
from connectors.binance.context import Context, MarketSide
from connectors.binance.deadman import DeadMan
from connectors.binance.endpoints import urls_of
from connectors.binance.live import Live
from connectors.binance.market import MarketData
from connectors.binance.queries import Queries
from connectors.binance.startup import Definitions, KeyCheck, ModeCheck, VenueClock, ask_fees
from connectors.binance.symbols import Symbol
from connectors.binance.trading import Trading
from connectors.session import SECOND, Priority
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
from engine.events import BookInvalid, InstrumentDefined, OrderReport, VenueLost, VenueReady, VenueRefused
from engine.types import ConnState, ExecType, Market, OrdStatus, Venue
from engine.venue import Credentials, Emit, ExchangeConnector, InstrumentSpec, VenueSettings, Wire

DOUBT_NS: Final = 5 * SECOND  # at most one new reconciliation in this time for messages that were not understood


class BinanceConnector(ExchangeConnector):
    venue = Venue.BINANCE

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
        self._specs = list(instruments)
        self._credentials = credentials
        auth = None
        if credentials is not None:
            auth = Auth(credentials, settings.recv_window_ms, lambda: self.signer_off)
        self._ctx = ctx = Context(settings, urls_of(settings), auth, wire, emit, utc_offset_ns)
        for market in (Market.SPOT, Market.LINEAR):
            if any(spec.market is market for spec in instruments):
                url = ctx.urls.spot_rest if market is Market.SPOT else ctx.urls.usdm_rest
                ctx.sides[market] = MarketSide(market, url, wire)
        assert ctx.sides, "binance: no instrument is configured"
        self.instruments = ctx.instruments
        self.books = {}
        self.live = Live()
        self.wallets = Wallets(ctx)
        self.market_data = {market: MarketData(ctx, side) for market, side in ctx.sides.items()}
        self.clocks = {
            market: VenueClock(ctx, side, self._on_step, self._on_clock_lost) for market, side in ctx.sides.items()
        }
        self._definitions = {market: self._definitions_of(side) for market, side in ctx.sides.items()}
        self._wanted_books: dict[int, None] = {}
        self._wanted_trades: dict[int, None] = {}
        self._is_started = False
        self._is_checking = False
        self._is_ready = False
        self._doubt_ns = 0
        self._roles: list[PrivateRole] = []
        self._trading: dict[Market, Trading] = {}
        self._market_of_channel: dict[int, MarketData] = {
            session.channel: data
            for data in self.market_data.values()
            for pair in data.pairs
            for session in (pair.active, pair.spare)
        }
        self._role_of_channel: dict[int, PrivateRole] = {}
        self.dead_man: DeadMan | None = None
        self._key_check: KeyCheck | None = None
        self.mode_check: ModeCheck | None = None
        self._user_stream: UserStreamRole | None = None
        self._queries = Queries(ctx, self.live, self.wallets, self._emit_report)
        if auth is not None:
            self._build_private(auth)

    def _definitions_of(self, side: MarketSide) -> Definitions:
        specs = [spec for spec in self._specs if spec.market is side.market]
        return Definitions(self._ctx, side, specs, self._on_symbol, self._on_step)

    def _build_private(self, auth: Auth) -> None:
        ctx = self._ctx
        self._key_check = KeyCheck(ctx, self._on_step)
        for market, side in ctx.sides.items():
            events = UserEvents(ctx, side, self.live, self.wallets, self._emit_report)
            api = ApiRole(ctx, side, auth, events if market is Market.SPOT else None)
            trading = self._trading[market] = Trading(ctx, side, auth, self.live, api.pair)
            api.on_answer = trading.on_answer
            api.on_lost = trading.on_channel_lost
            self._roles.append(api)
            if market is Market.LINEAR:
                self.mode_check = ModeCheck(ctx, side, self._on_step)
                self.dead_man = DeadMan(ctx, side, self.live)
                trading.on_rested = self.dead_man.on_rested
                self._user_stream = UserStreamRole(ctx, side, events)
                self._roles.append(self._user_stream)
        for role in self._roles:
            role.on_state = self._on_private_state
            role.on_doubt = self._on_doubt
            for channel in role.sessions:
                self._role_of_channel[channel] = role

    # --- life ---

    def start(self, now_ns: int) -> None:
        settings, credentials = self._ctx.settings, self._credentials
        if credentials is not None and credentials.environment != settings.environment:
            reason = f"key is for {credentials.environment!r}, connection for {settings.environment!r}"
            self._ctx.emit(VenueRefused(now_ns, Venue.BINANCE, "environment", reason))
            return
        self._is_started = True
        for market in self._ctx.sides:
            self._definitions[market].ask(now_ns)
            self.clocks[market].measure(now_ns)

    def stop(self, now_ns: int) -> None:
        if self._ctx.is_stopping or not self._is_started:
            return
        for side in self._ctx.sides.values():
            side.outbox.clear(Priority.HEDGE, now_ns)
        if self.dead_man is not None:
            self.dead_man.stop(now_ns)
        self._ctx.is_stopping = True
        for data in self.market_data.values():
            data.close(now_ns)
        for role in self._roles:
            role.pair.close(now_ns)

    def _on_step(self, now_ns: int) -> None:
        """Something that the start waits for is known now."""
        if self._ctx.is_stopping:
            return
        if not all(definitions.is_complete for definitions in self._definitions.values()):
            return
        for data in self.market_data.values():
            data.open(now_ns)
        if not all(clock.is_measured for clock in self.clocks.values()):
            return
        if self._key_check is None:
            self._maybe_ready(now_ns)
        elif not self._is_checking:
            self._is_checking = True
            self._key_check.ask(now_ns)
            if self.mode_check is not None:
                self.mode_check.ask(now_ns)
            ask_fees(self._ctx, lambda is_ok, now_ns: None, now_ns)
        elif self._key_check.is_passed and (self.mode_check is None or self.mode_check.is_passed):
            for role in self._roles:
                if role is not self._user_stream:
                    role.pair.open(now_ns)
            if self._user_stream is not None and not self._user_stream.listen_key.key:
                self._user_stream.open(now_ns)
            self._maybe_ready(now_ns)

    def _on_clock_lost(self) -> None:
        self._is_ready = False  # VenueReady follows when the clock can be believed again

    def _lose(self, reason: str, now_ns: int) -> None:
        if self._is_ready:
            self._is_ready = False
            self._ctx.emit(VenueLost(now_ns, Venue.BINANCE, reason))

    def _maybe_ready(self, now_ns: int) -> None:
        is_timed = all(clock.is_measured for clock in self.clocks.values())
        if not self._is_ready and is_timed and all(role.pair.state is ConnState.UP for role in self._roles):
            self._is_ready = True
            self._ctx.emit(VenueReady(now_ns, Venue.BINANCE))

    def _on_private_state(self, state: ConnState, now_ns: int) -> None:
        if state is ConnState.UP:
            self._maybe_ready(now_ns)
        else:
            self._lose("private stream or order entry lost", now_ns)

    def _on_doubt(self, now_ns: int) -> None:
        if self._is_ready and now_ns >= self._doubt_ns:
            self._doubt_ns = now_ns + DOUBT_NS
            self._ctx.emit(VenueReady(now_ns, Venue.BINANCE))

    def _on_symbol(self, symbol: Symbol, now_ns: int) -> None:
        """An instrument is defined, or defined differently."""
        instrument = symbol.instrument
        index = instrument.index
        data = self.market_data[instrument.market]
        known = self._ctx.instruments.get(index)
        side = self._ctx.sides[instrument.market]
        if known is not None and replace(known, state=instrument.state) == instrument:
            self._ctx.set_state(side.by_index[index], instrument.state, now_ns)
            return
        self._ctx.instruments[index] = instrument
        side.add(symbol)
        if known is not None:
            self._ctx.emit(BookInvalid(now_ns, index, "instrument changed"))
        self.books[index] = data.define(symbol)
        self._ctx.emit(InstrumentDefined(now_ns, instrument))
        if index in self._wanted_books:
            data.subscribe_book(index, now_ns)
        if index in self._wanted_trades:
            data.subscribe_trades(index, now_ns)

    def _emit_report(self, report: OrderReport, leg_cum_lots: int, now_ns: int) -> None:
        market = self._ctx.instruments[report.instrument].market
        self._trading[market].emit_report(report, leg_cum_lots, now_ns)

    # --- orders ---

    def place_order(self, action: PlaceOrder, now_ns: int) -> None:
        trading = self._trading_of(action.instrument)
        if trading is None:
            self._ctx.emit(
                OrderReport(
                    now_ns,
                    Venue.BINANCE,
                    action.instrument,
                    action.cl_ord_id,
                    "",
                    ExecType.REJECTED,
                    OrdStatus.REJECTED,
                    text="no credentials",
                )
            )
            return
        trading.place(action, now_ns)

    def cancel_order(self, action: CancelOrder, now_ns: int) -> None:
        trading = self._trading_of(action.instrument)
        if trading is not None:
            trading.cancel(action, now_ns)

    def amend_order(self, action: AmendOrder, now_ns: int) -> None:
        trading = self._trading_of(action.instrument)
        if trading is not None:
            trading.amend(action, now_ns)

    def cancel_all(self, action: CancelAll, now_ns: int) -> None:
        trading = self._trading_of(action.instrument)
        if trading is not None:
            trading.cancel_all(action, now_ns)

    def _trading_of(self, instrument: int) -> Trading | None:
        return self._trading.get(self._ctx.instruments[instrument].market)

    # --- questions ---

    def get_order(self, action: QueryOrder, now_ns: int) -> None:
        self._queries.get_order(action, now_ns)

    def get_open_orders(self, action: QueryOpenOrders, now_ns: int) -> None:
        self._queries.get_open_orders(action, now_ns)

    def get_fills(self, action: QueryFills, now_ns: int) -> None:
        self._queries.get_fills(action, now_ns)

    def get_balance(self, action: QueryBalances, now_ns: int) -> None:
        self._queries.get_balance(action, now_ns)

    def get_positions(self, action: QueryPositions, now_ns: int) -> None:
        self._queries.get_positions(action, now_ns)

    # --- market data ---

    def subscribe_order_book(self, instrument: int, now_ns: int) -> None:
        self._wanted_books[instrument] = None
        if instrument in self.instruments:
            self.market_data[self.instruments[instrument].market].subscribe_book(instrument, now_ns)

    def subscribe_trades(self, instrument: int, now_ns: int) -> None:
        self._wanted_trades[instrument] = None
        if instrument in self.instruments:
            self.market_data[self.instruments[instrument].market].subscribe_trades(instrument, now_ns)

    def unsubscribe(self, instrument: int, now_ns: int) -> None:
        self._wanted_books.pop(instrument, None)
        self._wanted_trades.pop(instrument, None)
        if instrument in self.instruments:
            self.market_data[self.instruments[instrument].market].unsubscribe(instrument, now_ns)

    # --- inputs ---

    def on_frame(self, channel: int, payload: bytes, recv_ts_ns: int) -> None:
        data = self._market_of_channel.get(channel)
        if data is not None:
            data.on_frame(channel, payload, recv_ts_ns)
        else:
            self._role_of_channel[channel].on_frame(channel, payload, recv_ts_ns)

    def on_response(
        self, request_id: int, status: int, headers: Mapping[str, str], body: bytes, recv_ts_ns: int
    ) -> None:
        self._ctx.rest.on_response(request_id, status, headers, body, recv_ts_ns)

    def on_connected(self, channel: int, recv_ts_ns: int) -> None:
        owner = self._market_of_channel.get(channel) or self._role_of_channel[channel]
        owner.on_connected(channel, recv_ts_ns)

    def on_disconnected(self, channel: int, reason: str, recv_ts_ns: int) -> None:
        owner = self._market_of_channel.get(channel) or self._role_of_channel[channel]
        owner.on_disconnected(channel, reason, recv_ts_ns)

    def on_timer(self, now_ns: int) -> None:
        ctx = self._ctx
        if not self._is_started:
            return
        for trading in self._trading.values():
            trading.on_timer(now_ns)
        for side in ctx.sides.values():
            side.outbox.pump(now_ns)
        ctx.rest.on_timer(now_ns)
        if ctx.is_stopping:
            return
        for data in self.market_data.values():
            data.on_timer(now_ns)
        for role in self._roles:
            role.on_timer(now_ns)
        self._on_slow_timer(now_ns)

    def _on_slow_timer(self, now_ns: int) -> None:
        while self._ctx.clock_suspects:
            self.clocks[self._ctx.clock_suspects.pop()].measure(now_ns)
        for market in self._ctx.sides:
            self.clocks[market].on_timer(now_ns)
            self._definitions[market].on_timer(now_ns)
        if self._key_check is not None:
            self._key_check.on_timer(now_ns)
        if self.mode_check is not None:
            self.mode_check.on_timer(now_ns)
        if self.dead_man is not None:
            self.dead_man.on_timer(now_ns)

    def on_utc_offset(self, utc_offset_ns: int, recv_ts_ns: int) -> None:
        # The venue's clock did not move: what ours gained, the offset to it loses.
        moved_ns = utc_offset_ns - self.utc_offset_ns
        self.utc_offset_ns = self._ctx.utc_offset_ns = utc_offset_ns
        for side in self._ctx.sides.values():
            if self.clocks[side.market].is_measured:
                side.offset_ns -= moved_ns
