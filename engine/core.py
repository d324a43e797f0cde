"""Turn one event into actions. Owns the state and calls risk, router, legs and strategies in that order. Knows no
clock and no socket: time arrives in `event.recv_ts_ns`, so a journal replays to the same actions.

`process` is the one door. Every decision and every fact is a ledger record, written before its action leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine import events
from engine import ledger as records
from engine.actions import Action, CancelAll, QueryFills
from engine.capital import Capital
from engine.config import EngineConfig
from engine.health import VenueHealth
from engine.instrument import Instrument, atoms_from_text
from engine.legs import LegExecutor, LegPlan
from engine.order_flow import OrderFlow
from engine.orders import Order
from engine.reconcile import FILL_OVERLAP_NS, Phase, Reconciler
from engine.risk import Risk
from engine.router import OrderRouter
from engine.stages import Stage, Stages
from engine.state import State
from engine.strategies import KINDS
from engine.strategy import Strategy
from engine.types import NO_PX, InstrumentState, Side, TimeInForce, Venue
from ext import Book

Sink = Callable[[records.LedgerRecord], None]
LOSS_CHECK_NS = 200_000_000
DECIDED, RISK = int(Stage.DECIDED), int(Stage.RISK)


class Context:
    """One strategy's view of the core (engine/strategy.py, StrategyContext)."""

    def __init__(self, core: Core, strategy: int) -> None:
        self._core = core
        self._strategy = strategy
        self.portfolio = core.state.portfolio
        self.router = core.router
        self.instruments: Mapping[int, Instrument] = core.instruments
        self.books: Mapping[int, Book] = core.books

    @property
    def now_ns(self) -> int:
        return self._core.now_ns

    def place(
        self, instrument: int, side: Side, px_ticks: int, qty_lots: int, time_in_force: TimeInForce = TimeInForce.GTC,
        *, post_only: bool = False, reduce_only: bool = False,
    ) -> int:  # fmt: skip
        core = self._core
        core.mark_decided()
        if not core.may_place(self._strategy, instrument, side, px_ticks, qty_lots, reduce_only):
            return 0
        return core.flow.send(
            self._strategy, instrument, side, px_ticks, qty_lots, time_in_force,
            post_only=post_only, reduce_only=reduce_only,
        )  # fmt: skip

    def cancel(self, cl_ord_id: int) -> bool:
        order = self._core.state.orders.get(cl_ord_id)
        return order is not None and self._core.flow.cancel(order)

    def amend(self, cl_ord_id: int, px_ticks: int, qty_lots: int) -> bool:
        order = self._core.state.orders.get(cl_ord_id)
        return order is not None and self._core.flow.amend(order, px_ticks, qty_lots)

    def execute(self, buy: int, sell: int, qty_atoms: int, bound_ppm: int, *, is_sequential: bool = False) -> int:
        self._core.mark_decided()
        return self._core.legs.start(self._strategy, buy, sell, qty_atoms, bound_ppm, is_sequential=is_sequential)

    def is_open(self, instrument: int) -> bool:
        return self._core.is_open(instrument)


class Core:
    def __init__(
        self, config: EngineConfig, epoch: int, sink: Sink, stages: Stages, state: State | None = None
    ) -> None:
        self.config = config
        self.state = state or State()
        self.now_ns = 0
        self.utc_offset_ns = 0
        self.history_start_ns = 0
        self._sink = sink
        self._stages = stages
        self._actions: list[Action] = []
        self._deferred: list[Callable[[], None]] = []
        self._request_counter = 0
        self._next_loss_check_ns = 0
        self.instruments: dict[int, Instrument] = {}
        self.books: dict[int, Book] = {}
        self.risk = Risk(config, self.state.portfolio)
        self.capital = Capital(config, self.risk.gate, self.state.moved_atoms)
        self.health = {venue: VenueHealth(venue) for venue in config.venue_list()}
        self._health_of: dict[int, VenueHealth] = {}  # of instruments that may be traded
        self.router = OrderRouter(self.health, self.state.portfolio)
        self.legs = LegExecutor(self)
        self.flow = OrderFlow(self, config.engine.instance, epoch, config.engine.unknown_window_ms * 1_000_000)
        self.reconcilers = {venue: Reconciler(self, venue) for venue in config.venue_list()}
        self.strategies: list[Strategy] = [
            KINDS[row.kind](Context(self, at), row.params) for at, row in enumerate(config.strategies)
        ]
        self.stopped_strategies: set[int] = set()
        self.listeners: dict[int, list[Strategy]] = {}
        self.is_started = False
        self.stop_deadline_ns = 0
        self.stop_asked = False
        self.is_stopped = False
        self.is_reduce_only = False
        self.fatal = ""
        self.anomaly_counts: dict[str, int] = {}
        self.gap_count = 0
        self.risk.gate.is_killed = self.state.is_killed
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.BookUpdate: self._on_book,
            events.BookInvalid: self._on_book_invalid,
            events.TradePrint: self._on_trade,
            events.MarkPrice: self._on_mark,
            events.InstrumentDefined: self._on_instrument,
            events.InstrumentStateChanged: self._on_instrument_state,
            events.FeeTier: self._on_fee_tier,
            events.ChannelState: self._on_channel,
            events.VenueReady: self._on_venue_ready,
            events.VenueLost: self._on_venue_lost,
            events.VenueRefused: self._on_venue_refused,
            events.VenueNotice: self._on_venue_notice,
            events.ClockOffset: self._ignore,
            events.OrderReport: self.on_order_report,
            events.Fill: self.on_fill,
            events.Balance: self.on_balance,
            events.PositionReport: self._ignore,  # compared by reconciliation; fills move positions
            events.FundingPaid: self._on_funding,
            events.OpenOrders: self._on_open_orders,
            events.Fills: self._on_fills,
            events.Balances: self._on_balances,
            events.Positions: self._on_positions,
            events.Timer: self._on_timer,
            events.Command: self._on_command,
        }

    def process(self, event: events.AnyEvent) -> list[Action]:
        """The one door. The answer is only valid until the next call."""
        self.now_ns = event.recv_ts_ns
        if self._actions:
            self._actions = []
        self._handlers[type(event)](event)
        return self._actions

    def on_utc_offset(self, utc_offset_ns: int, now_ns: int) -> None:
        self.utc_offset_ns = utc_offset_ns
        if not self.history_start_ns:
            self.history_start_ns = now_ns + utc_offset_ns - FILL_OVERLAP_NS

    # What the parts of the core ask of each other.
    def book(self, record: records.LedgerRecord) -> None:
        """Fold one record and write it down. The only way that anything becomes true."""
        self.state.apply(record)
        self._sink(record)

    def act(self, action: Action) -> None:
        self._actions.append(action)

    def defer(self, work: Callable[[], None]) -> None:
        """Do this after the actions of this event have left, and before the next event."""
        self._deferred.append(work)

    def finish(self) -> None:
        """Called by the pipeline when the actions of an event have been carried out."""
        if self._deferred:
            waiting, self._deferred = self._deferred, []
            for work in waiting:
                work()

    def next_request_id(self) -> int:
        self._request_counter += 1
        return self._request_counter

    def next_plan_id(self) -> int:
        return self.state.plan_counter + 1

    def send_query(self, action: Action, what: str, request_id: int, instrument: int, cl_ord_id: int = 0) -> None:
        self.book(records.QuerySent(action.venue, what, request_id, instrument, cl_ord_id))
        self.act(action)

    def query_order(self, order: Order, why: str) -> None:
        self.flow.query(order, why)

    def ask_fills(self, order: Order) -> None:
        since = self.now_ns + self.utc_offset_ns - FILL_OVERLAP_NS
        request_id = self.next_request_id()
        query = QueryFills(order.venue, request_id, order.instrument, since)
        self.send_query(query, "missing fills", request_id, order.instrument, order.cl_ord_id)

    def is_ours(self, cl_ord_id: int) -> bool:
        return self.flow.is_ours(cl_ord_id)

    def is_open(self, instrument: int, *, is_hedge: bool = False) -> bool:
        """May orders go to this instrument now? While stopping only hedges of plans under way may."""
        health = self._health_of.get(instrument)
        return (
            health is not None
            and health.is_gate_open
            and self.now_ns >= health.blocked_until_ns
            and (is_hedge or not self.stop_deadline_ns)
        )

    def may_place(
        self, strategy: int, index: int, side: Side, px_ticks: int, qty_lots: int, reduce_only: bool = False
    ) -> bool:
        if strategy in self.stopped_strategies:
            return False
        is_allowed = self.flow.may_place(strategy, index, side, px_ticks, qty_lots, reduce_only)
        self._stages.mark(RISK)
        return is_allowed

    def place_leg(
        self, plan: LegPlan, index: int, side: Side, px: int, lots: int, tif: TimeInForce, *, is_hedge: bool
    ) -> int:
        """An order of a plan. First legs were checked together with their twin; a hedge is checked here."""
        if is_hedge and not self.flow.may_place(plan.strategy, index, side, px, lots, False, is_hedge=True):
            return 0
        return self.flow.send(plan.strategy, index, side, px, lots, tif, is_hedge=is_hedge, plan_id=plan.plan_id)

    def mark_decided(self) -> None:
        self._stages.mark(DECIDED)

    def book_route(self, plan: LegPlan) -> None:
        for side, chosen in ((Side.BUY, plan.buy), (Side.SELL, plan.sell)):
            base = self.instruments[chosen].base
            indexes = [i for i, x in self.instruments.items() if x.base == base]
            rows = tuple(c.row() for c in self.router.score(indexes, side, plan.qty_atoms, self.now_ns))
            self.book(records.RouteDecided(plan.plan_id, side, plan.qty_atoms, chosen, rows))

    def book_leg(self, plan: LegPlan, text: str) -> None:
        self.book(records.LegChanged(plan.plan_id, plan.state.value, plan.residual_atoms, text))

    def book_correction(self, record: records.Correction) -> None:
        self.book(record)
        if record.what == "position":
            self.risk.set_position(record.instrument)

    def note_anomaly(self, what: str, cl_ord_id: int, text: str) -> None:
        self.anomaly_counts[what] = self.anomaly_counts.get(what, 0) + 1
        self.book(records.Anomaly(what, cl_ord_id, text))

    def tell_order(self, order: Order) -> None:
        if order.strategy < len(self.strategies):
            self.strategies[order.strategy].on_order(order)

    def tell_plan(self, plan: LegPlan) -> None:
        self.strategies[plan.strategy].on_plan(plan)
        if plan.state.value == "failed":
            self.stop_strategy(plan.strategy, f"plan {plan.plan_id}: {plan.text}")

    def stop_strategy(self, strategy: int, why: str) -> None:
        """Until an operator resumes it."""
        if strategy not in self.stopped_strategies:
            self.stopped_strategies.add(strategy)
            self.note_anomaly("strategy stopped", 0, f"{self.config.strategies[strategy].name}: {why}")

    def open_gate(self, venue: Venue) -> None:
        health = self.health[venue]
        if not health.is_gate_open and not health.refusal:
            health.is_gate_open = True
            self.book(records.VenueGate(venue, True, "reconciled"))

    def close_gate(self, venue: Venue, why: str) -> None:
        health = self.health[venue]
        if health.is_gate_open:
            health.is_gate_open = False
            self.book(records.VenueGate(venue, False, why))

    def mid_ticks(self) -> dict[int, int]:
        return {
            index: (book.best_bid_px + book.best_ask_px) // 2
            for index, book in self.books.items()
            if book.best_bid_px != NO_PX and book.best_ask_px != NO_PX
        }

    # Market data.
    def _on_book(self, event: events.BookUpdate) -> None:
        index = event.instrument
        if index not in self.books:
            self.books[index] = self.router.books[index] = event.book
            self.risk.bind(index, event.book)
        for strategy in self.listeners.get(index, ()):
            strategy.on_book(event)

    def _on_book_invalid(self, event: events.BookInvalid) -> None:
        self.gap_count += 1

    def _on_trade(self, event: events.TradePrint) -> None:
        for strategy in self.listeners.get(event.instrument, ()):
            strategy.on_trade(event)

    def _on_mark(self, event: events.MarkPrice) -> None:
        if event.instrument in self.instruments:
            self.risk.gate.set_mark(event.instrument, event.px_ticks, event.recv_ts_ns)
        for strategy in self.listeners.get(event.instrument, ()):
            strategy.on_mark(event)

    def _ignore(self, event: events.Event) -> None:
        """Recorded on the tape; nothing follows from it here."""

    # Reference data and venues.
    def _on_instrument(self, event: events.InstrumentDefined) -> None:
        instrument = event.instrument
        known = self.instruments.get(instrument.index)
        self.book(records.InstrumentNoted(instrument))
        if known == instrument:
            return
        why = self.risk.define(instrument)
        if why:
            self.health[instrument.venue].refusal = f"{instrument.name}: {why}"
            return
        self.instruments[instrument.index] = instrument
        if self.config.engine.trading != "off":
            self._health_of[instrument.index] = self.health[instrument.venue]
        settings = self.config.venues[instrument.venue.name.lower()]
        limit = atoms_from_text(self.config.instruments[instrument.index].max_position)
        self.router.define(
            instrument,
            settings.taker_fee_ppm.get(instrument.market.name.lower(), 1_000),
            limit // instrument.base_atoms_per_lot,
        )
        if known is None:
            self._restore_exposure(instrument)
        if len(self.instruments) == len(self.config.instruments) and not self.is_started:
            self._start_strategies()

    def _restore_exposure(self, instrument: Instrument) -> None:
        """After a restart: the position, and every open order at its worst case, before anything can be sent."""
        self.risk.set_position(instrument.index)
        for order in list(self.state.open_orders.values()):
            if order.instrument == instrument.index:
                order.reserved_lots = max(0, order.qty_lots - order.cum_qty_lots)
                order.reserved_px_ticks = order.px_ticks
                order.touched_ns = self.now_ns
                self.risk.reserve(order, instrument)
                self.book(records.OrderUnknown(order.cl_ord_id, "restart"))

    def _start_strategies(self) -> None:
        self.is_started = True
        for strategy in self.strategies:
            for index in strategy.wants():
                self.listeners.setdefault(index, []).append(strategy)
            strategy.on_start()
        self._check_executions()  # a restart arms nothing

    def _on_instrument_state(self, event: events.InstrumentStateChanged) -> None:
        if event.instrument in self.instruments:
            self.risk.gate.set_state(event.instrument, event.state)
        if event.state is not InstrumentState.TRADING:
            self.note_anomaly("instrument state", 0, f"{event.instrument}: {event.state.name}")

    def _on_fee_tier(self, event: events.FeeTier) -> None:
        self.router.taker_ppm[event.instrument] = event.taker_ppm

    def _on_channel(self, event: events.ChannelState) -> None:
        self.health[event.venue].on_channel(event.channel, event.state, self.now_ns)

    def _on_venue_ready(self, event: events.VenueReady) -> None:
        """Everything is live, for the first time or again: look before trading."""
        self.close_gate(event.venue, "reconciling after a (re)connect")
        self.reconcilers[event.venue].start(is_urgent=True)

    def _on_venue_lost(self, event: events.VenueLost) -> None:
        self.close_gate(event.venue, event.reason)

    def _on_venue_refused(self, event: events.VenueRefused) -> None:
        self.health[event.venue].refusal = event.reason
        self.close_gate(event.venue, event.reason)
        self.note_anomaly("venue refused", 0, f"{event.venue.name}: {event.category}: {event.reason}")
        if event.category in ("key", "environment"):
            self.fatal = self.fatal or f"{event.venue.name}: {event.reason}"
            self._begin_stop()

    def _on_venue_notice(self, event: events.VenueNotice) -> None:
        self.health[event.venue].on_notice(event.kind, event.until_ts_ns, self.now_ns)
        self.note_anomaly("venue notice", 0, f"{event.venue.name}: {event.kind}")

    # Orders, money.
    def on_order_report(self, report: events.OrderReport) -> None:
        self.flow.on_report(report)

    def on_fill(self, fill: events.Fill) -> None:
        self.flow.on_fill(fill)
        self._check_executions()

    def _check_executions(self) -> None:
        limit = self.config.risk.max_executions
        for strategy, count in self.state.executions.items():
            if count >= limit and strategy < len(self.strategies):
                self.stop_strategy(strategy, f"{count} executions, limit {limit}")

    def on_balance(self, balance: events.Balance) -> None:
        holding = self.state.portfolio.holdings.get((balance.venue, balance.asset))
        if holding and (holding.total_atoms, holding.available_atoms) == (balance.total_atoms, balance.available_atoms):
            return
        self.book(records.BalanceChanged(balance.venue, balance.asset, balance.total_atoms, balance.available_atoms))

    def _on_funding(self, event: events.FundingPaid) -> None:
        if not self.state.is_known_fill(event.instrument, event.exec_id):
            self.book(
                records.FundingBooked(event.venue, event.instrument, event.amount_atoms, event.asset, event.exec_id)
            )

    def _on_open_orders(self, event: events.OpenOrders) -> None:
        self.reconcilers[event.venue].on_open_orders(event)

    def _on_fills(self, event: events.Fills) -> None:
        for fill in event.fills:
            # History overlaps on purpose: what is known there is no duplicate.
            if not self.state.is_known_fill(fill.instrument, fill.exec_id):
                self.on_fill(fill)
        self.reconcilers[event.venue].on_fills(event)

    def _on_balances(self, event: events.Balances) -> None:
        self.reconcilers[event.venue].on_balances(event)

    def _on_positions(self, event: events.Positions) -> None:
        self.reconcilers[event.venue].on_positions(event)

    # Time and operators.
    def _on_timer(self, event: events.Timer) -> None:
        self.flow.on_timer()
        self.legs.on_timer()
        for reconciler in self.reconcilers.values():
            reconciler.on_timer()
            is_due = self.now_ns - reconciler.last_done_ns > self.config.engine.reconcile_ms * 1_000_000
            if is_due and reconciler.phase is Phase.IDLE and self.health[reconciler.venue].is_gate_open:
                reconciler.start(is_urgent=False)
        if self.now_ns >= self._next_loss_check_ns:
            self._next_loss_check_ns = self.now_ns + LOSS_CHECK_NS
            self.risk.gate.loss_atoms = max(0, -self.state.portfolio.pnl_atoms(self.mid_ticks()))
        for strategy in self.strategies:
            strategy.on_timer(self.now_ns)
        if self.stop_deadline_ns:
            self._continue_stop()

    def _on_command(self, event: events.Command) -> None:
        if event.name == "stop":
            self._begin_stop()
        elif event.name == "kill":
            self._kill(event.args.get("reason", "operator"), event.operator)
        elif event.name == "halt":
            self.halt(event.args.get("reason", "bug"))
        elif event.name == "resume":
            # An operator's word lifts everything but a journal that has failed: the pipeline still refuses orders then.
            self.stopped_strategies.clear()
            self.risk.gate.is_killed = False
            self.is_reduce_only = self.risk.gate.is_reduce_only = False
            self.book(records.KillSwitch(False, "resume", event.operator))
        elif event.name == "cancel_all":
            self._cancel_everything()
        elif event.name == "reduce_only":
            self.is_reduce_only = self.risk.gate.is_reduce_only = True
        else:
            self.note_anomaly("command", 0, f"unknown command {event.name!r} from {event.operator}")

    def halt(self, why: str) -> None:
        """A broken invariant or a journal that cannot be written: cancel, open nothing, stop."""
        self.fatal = self.fatal or why
        self._kill(why, "engine")
        self._begin_stop()

    def _kill(self, reason: str, operator: str) -> None:
        self.risk.gate.is_killed = True
        self.book(records.KillSwitch(True, reason, operator))
        self._cancel_everything()
        for instrument in self.instruments.values():
            self.act(CancelAll(instrument.venue, instrument.index))

    def _cancel_everything(self) -> None:
        for order in list(self.state.open_orders.values()):
            if order.instrument in self.instruments:
                self.flow.cancel(order)

    def _begin_stop(self) -> None:
        if not self.stop_deadline_ns:
            self.stop_deadline_ns = self.now_ns + self.config.engine.stop_timeout_ms * 1_000_000
            self._cancel_everything()

    def _continue_stop(self) -> None:
        """Wait for the venue's word on every order and plan, look once more, and only then be stopped."""
        if self.now_ns >= self.stop_deadline_ns:
            self.is_stopped = True
            return
        if self.state.open_orders or self.legs.plans:
            return
        live = [r for r in self.reconcilers.values() if not self.health[r.venue].refusal]
        if not self.stop_asked:
            self.stop_asked = True
            for reconciler in live:
                reconciler.confirmed_open = None
                reconciler.start(is_urgent=True)
        elif all(r.phase is Phase.IDLE and r.confirmed_open == 0 for r in live):
            self.is_stopped = True
        elif all(r.phase is Phase.IDLE for r in live):
            self.stop_asked = False
