"""Compare what we believe with what the venue says, and let the venue be right.

One reconciliation of a venue: ask for open orders, fills since the last known one with overlap, balances and
positions; fold the fills; settle every order; compare positions and spot holdings. A difference is asked again a few
times, because answers lag the engine and each other; what stays different is adopted as a Correction with its
evidence. Only then does the venue's gate open. The same runs after each reconnect and at a low rate for ever.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from engine.actions import QueryBalances, QueryFills, QueryOpenOrders, QueryPositions
from engine.events import Balances, Fills, OpenOrders, Positions
from engine.ledger import Correction
from engine.types import InstrumentKind, Venue

if TYPE_CHECKING:
    from engine.core import Core

RETRY_NS = 300_000_000
MAX_TRIES = 4
ANSWER_TIMEOUT_NS = 10_000_000_000
FILL_OVERLAP_NS = 60_000_000_000


class Phase(Enum):
    IDLE = "idle"
    ASKING = "asking"
    WAITING = "waiting"  # for the next try, or for orders whose outcome is being queried


class Reconciler:
    """One venue. `is_urgent`: its gate is closed until this one ends well."""

    def __init__(self, core: Core, venue: Venue) -> None:
        self.core = core
        self.venue = venue
        self.phase = Phase.IDLE
        self.is_urgent = False
        self.tries = 0
        self.deadline_ns = 0
        self.last_done_ns = 0
        self.done_count = 0
        self.correction_count = 0
        self.pending: dict[int, str] = {}
        self.open_ids: set[int] = set()
        self.foreign_open = 0
        self.positions: dict[int, int] = {}
        self.confirmed_open: int | None = None

    def start(self, *, is_urgent: bool) -> None:
        if self.phase is not Phase.IDLE and not is_urgent:
            return
        self.is_urgent = self.is_urgent or is_urgent
        self.tries = 0
        self._ask()

    def _ask(self) -> None:
        core, venue = self.core, self.venue
        self.phase = Phase.ASKING
        self.tries += 1
        self.deadline_ns = core.now_ns + ANSWER_TIMEOUT_NS
        self.pending.clear()
        mine = [i for i, x in core.instruments.items() if x.venue is venue]
        # Positions and balances first, fills after them: a fill between the two is then seen by the later question.
        for what, build in (("positions", QueryPositions), ("balances", QueryBalances), ("orders", QueryOpenOrders)):
            request_id = core.next_request_id()
            self.pending[request_id] = what
            core.send_query(build(venue, request_id), what, request_id, -1)
        for index in mine:
            request_id = core.next_request_id()
            self.pending[request_id] = "fills"
            since = max(0, core.state.last_fill_exch_ns.get(index, 0) - FILL_OVERLAP_NS) or core.history_start_ns
            core.send_query(QueryFills(venue, request_id, index, since), "fills", request_id, index)

    def on_open_orders(self, event: OpenOrders) -> None:
        if self.pending.pop(event.request_id, None) is None:
            return
        if not event.is_ok:
            self._again("open orders not answered")
            return
        self.open_ids = set()
        self.foreign_open = 0
        for report in event.orders:
            if self.core.is_ours(report.cl_ord_id):
                self.open_ids.add(report.cl_ord_id)
            else:
                self.foreign_open += 1
            self.core.on_order_report(report)
        self.confirmed_open = len(self.open_ids)
        self._when_complete()

    def on_fills(self, event: Fills) -> None:
        """The core has folded them already."""
        if self.pending.pop(event.request_id, None) is None:
            return
        if not event.is_ok:
            self._again("fills not answered")
            return
        self._when_complete()

    def on_balances(self, event: Balances) -> None:
        if self.pending.pop(event.request_id, None) is None:
            return
        if not event.is_ok:
            self._again("balances not answered")
            return
        for balance in event.balances:
            self.core.on_balance(balance)
        self._when_complete()

    def on_positions(self, event: Positions) -> None:
        if self.pending.pop(event.request_id, None) is None:
            return
        if not event.is_ok:
            self._again("positions not answered")
            return
        self.positions = {report.instrument: report.qty_lots for report in event.positions}
        self._when_complete()

    def on_timer(self) -> None:
        now = self.core.now_ns
        if self.phase is Phase.ASKING and now >= self.deadline_ns:
            self._again("no answer in time")
        elif self.phase is Phase.WAITING and now >= self.deadline_ns:
            self._ask()

    def _again(self, why: str) -> None:
        """Ask once more after a pause; an urgent one never gives up, because its gate stays closed."""
        if self.tries >= MAX_TRIES and not self.is_urgent:
            self.core.note_anomaly("reconcile", 0, f"{self.venue.name}: {why}")
            self.phase = Phase.IDLE
            return
        self.pending.clear()
        self.phase = Phase.WAITING
        self.deadline_ns = self.core.now_ns + RETRY_NS * min(self.tries, 10)

    def _when_complete(self) -> None:
        if self.pending or self.phase is not Phase.ASKING:
            return
        core = self.core
        for order in list(core.state.open_orders.values()):
            if order.venue is self.venue and order.cl_ord_id not in self.open_ids:
                core.query_order(order, "not among open orders")
        differences = self._differences()
        if differences and self.tries < MAX_TRIES:
            self._again("; ".join(text for _, text in differences))
            return
        if differences and not self.is_urgent:
            # While orders may fill, answers and stream cannot agree: close the gate and look at a quiet venue.
            core.close_gate(self.venue, "differences: " + "; ".join(text for _, text in differences))
            self.start(is_urgent=True)
            return
        for record, _ in differences:
            self.correction_count += 1
            core.book_correction(record)
        self._done()

    def _done(self) -> None:
        self.phase = Phase.IDLE
        self.done_count += 1
        self.last_done_ns = self.core.now_ns
        was_urgent, self.is_urgent = self.is_urgent, False
        if was_urgent:
            self.core.open_gate(self.venue)

    def _differences(self) -> list[tuple[Correction, str]]:
        found: list[tuple[Correction, str]] = []
        portfolio = self.core.state.portfolio
        for index, instrument in self.core.instruments.items():
            if instrument.venue is not self.venue:
                continue
            if instrument.kind is InstrumentKind.SPOT:
                holding = portfolio.holdings.get((self.venue, instrument.base))
                if holding is None or (holding.is_agreed and holding.expected_atoms == holding.total_atoms):
                    continue
                if not holding.is_agreed:
                    portfolio_start = Correction(
                        self.venue, "holding", index, 0, holding.total_atoms, "first balance, taken as the start"
                    )
                    self.core.book_correction(portfolio_start)
                    continue
                ours, theirs, what = holding.expected_atoms, holding.total_atoms, "holding"
            else:
                ours, theirs, what = portfolio.position_lots(index), self.positions.get(index, 0), "position"
                if ours == theirs:
                    continue
            evidence = f"{what} answered {theirs}, fills explain {ours}, after {self.tries} questions"
            text = f"{instrument.name} {what} {ours} against {theirs}"
            found.append((Correction(self.venue, what, index, ours, theirs, evidence), text))
        return found
