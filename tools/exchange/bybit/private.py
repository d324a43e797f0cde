"""Bybit's private stream: what happened to an account's orders, executions, positions and wallet.

Rows of one core call are folded as the venue does: one execution frame, one order frame with where each order stands,
position and wallet after them. The topics have no order among themselves: the seed draws it anew each time, and draws
whether the frames leave before or after the answer of the request that caused them.
Source: bybit-exchange/docs, "Private", snapshot 2026-07-24.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from engine.types import Market, OrdStatus
from tools.exchange.bybit.rows import (
    execution_row,
    fast_execution_row,
    funding_row,
    order_row,
    position_row,
    wallet_row,
)
from tools.exchange.core import VenueCore
from tools.exchange.model import BalanceChange, Event, Fill, Listing, Order, OrderChange, OrderEvent, Reason

MS: Final = 1_000_000
TOPICS: Final = ("order", "execution", "position", "wallet", "execution.fast", "greeks")
CATEGORIES: Final = ("spot", "linear", "inverse", "option")
DCP_TOPICS: Final = {"dcp.future": Market.LINEAR, "dcp.spot": Market.SPOT, "dcp.option": None}

Send = Callable[[int, bytes, int], None]
"""conn_id, payload, delay_ns."""


@dataclass(slots=True, eq=False)
class PrivateConn:
    conn_id: int
    account_id: int = -1  # until it has logged in
    topics: dict[str, None] = field(default_factory=dict)
    seen_ns: int = 0


@dataclass(slots=True)
class _Batch:
    """Rows of one account from one core call."""

    events: list[OrderEvent] = field(default_factory=list)
    fills: list[tuple[Fill, int]] = field(default_factory=list)
    funding: list[dict[str, Any]] = field(default_factory=list)
    listings: dict[int, Listing] = field(default_factory=dict)
    coins: dict[str, None] = field(default_factory=dict)


class PrivateStreams:
    def __init__(self, core: VenueCore, send: Send, seed: int, double_filled: float) -> None:
        self.core = core
        self._send = send
        self._rng = random.Random(seed ^ 0xB1B17)
        self._double_filled = double_filled
        self.conns: dict[int, PrivateConn] = {}
        self._held: list[tuple[int, str, list[dict[str, Any]], int]] | None = None
        self._frame_no = 0
        self._executions: dict[int, list[tuple[Fill, int]]] = {}
        self.funding: dict[int, list[dict[str, Any]]] = {}

    # --- subscriptions ----------------------------------------------------------------------------------------------

    def problem(self, topics: list[str]) -> str:
        """Why these topics cannot be subscribed together, empty when they can."""
        for topic in topics:
            base, tail = split_topic(topic)
            if topic in DCP_TOPICS:
                continue
            if base not in TOPICS or (tail and tail not in CATEGORIES) or (base == "wallet" and tail):
                return f"error:handler not found,topic:{topic}"
            if tail and base in topics:
                return f"error:topic {base} and {topic} cannot be subscribed in one request"
        return ""

    # --- requests ---------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """A request begins: keep the frames it causes until `release`."""
        self._held = []

    def draw_events_first(self) -> bool:
        """Whether the frames that are held leave before the answer."""
        return self.core.hooks.events_first or self._rng.random() < 0.5

    def release(self) -> None:
        held, self._held = self._held, None
        for account_id, topic, rows, now_ns in held or ():
            self._emit(account_id, topic, rows, now_ns)

    # --- events of the core -----------------------------------------------------------------------------------------

    def on_events(self, events: list[Event]) -> None:
        batches: dict[int, _Batch] = {}
        now_ns = 0
        for event in events:
            if isinstance(event, OrderEvent):
                now_ns = event.ts_ns
                self._collect_order(batches.setdefault(event.order.account_id, _Batch()), event)
            elif isinstance(event, BalanceChange):
                now_ns = event.ts_ns
                batch = batches.setdefault(event.account_id, _Batch())
                batch.coins[event.asset] = None
                if event.cause == "FUNDING" and event.listing is not None:
                    self._collect_funding(batch, event, event.listing)
        for account_id, batch in batches.items():
            self._emit_batch(account_id, batch, now_ns)

    def _collect_order(self, batch: _Batch, event: OrderEvent) -> None:
        order, fill = event.order, event.fill
        batch.events.append(event)
        batch.listings[order.listing.index] = order.listing
        if not order.listing.is_spot:
            batch.coins[order.listing.instrument.settle] = None
        if fill is not None:
            fees = order.wire.setdefault("fees", {})
            fees[fill.fee_asset] = fees.get(fill.fee_asset, 0) + fill.fee_atoms
            order.wire["pnl"] = order.wire.get("pnl", 0) + fill.realized_atoms
            entry = (fill, event.qty_lots - event.cum_lots)
            batch.fills.append(entry)
            self._executions.setdefault(fill.account_id, []).append(entry)

    def _collect_funding(self, batch: _Batch, event: BalanceChange, listing: Listing) -> None:
        position = self.core.accounts[event.account_id].positions.get(listing.index)
        if position is None:
            return
        row = funding_row(listing, position.qty_lots, -event.delta, event.ts_ns)
        batch.funding.append(row)
        batch.listings[listing.index] = listing
        self.funding.setdefault(event.account_id, []).append(row)

    def executions(self, account_id: int) -> list[tuple[Fill, int]]:
        """Every fill of an account with what its order had left, oldest first."""
        return self._executions.get(account_id, [])

    def _emit_batch(self, account_id: int, batch: _Batch, now_ns: int) -> None:
        account = self.core.accounts[account_id]
        frames: list[tuple[str, list[dict[str, Any]]]] = []
        if batch.fills:
            rows = [execution_row(fill, left) for fill, left in batch.fills]
            frames.append(("execution", rows))
            frames.append(("execution.fast", [fast_execution_row(fill) for fill, _ in batch.fills]))
        if batch.funding:
            frames.append(("execution", batch.funding))
        for rows in self._order_frames(batch.events):
            frames.append(("order", rows))
        positions = [
            position_row(account, account.position(listing), "entryPrice")
            for listing in batch.listings.values()
            if not listing.is_spot
        ]
        if positions:
            frames.append(("position", positions))
        if batch.coins:
            frames.append(("wallet", [wallet_row(self.core, account, set(batch.coins))]))
        for topic, rows in self._shuffled(frames):
            self._put(account_id, topic, rows, now_ns)

    def _shuffled(self, frames: list[tuple[str, list[dict[str, Any]]]]) -> list[tuple[str, list[dict[str, Any]]]]:
        # Frames of one topic keep their order; which topic comes next is drawn.
        queues: dict[str, list[list[dict[str, Any]]]] = {}
        for topic, rows in frames:
            queues.setdefault(topic, []).append(rows)
        slots = [topic for topic, _ in frames]
        self._rng.shuffle(slots)
        return [(topic, queues[topic].pop(0)) for topic in slots]

    def _order_frames(self, events: list[OrderEvent]) -> list[list[dict[str, Any]]]:
        """Fold: an order that trades several times in one call is told of once, `New` often not at all."""
        last: dict[int, OrderEvent] = {}
        news: list[OrderEvent] = []
        for event in events:
            if event.change is OrderChange.NEW:
                news.append(event)
            last[event.order.order_id] = event
        frames = []
        first = [order_row(event) for event in news if self._says_new(event, last[event.order.order_id])]
        if first:
            frames.append(first)
        rest = [order_row(event) for event in last.values() if event.change is not OrderChange.NEW]
        if rest:
            frames.append(rest)
        doubled = [row for event in last.values() if (row := self._double_row(event))]
        return [*frames, doubled] if doubled else frames

    def _says_new(self, event: OrderEvent, final: OrderEvent) -> bool:
        if final is event:
            return True
        # An order that never rested and never traded (post-only, fill-or-kill) is only told of as canceled.
        if final.reason in (Reason.POST_ONLY, Reason.FOK) and final.cum_lots == 0:
            return False
        return self._rng.random() < 0.5

    def _double_row(self, event: OrderEvent) -> dict[str, Any] | None:
        """The documented second `Filled` of a cancel that raced a fill."""
        if event.status is not OrdStatus.FILLED or self._rng.random() >= self._double_filled:
            return None
        return order_row(event) | {"cancelType": "CancelByUser", "rejectReason": "EC_OrigClOrdIDDoesNotExist"}

    def late_cancel(self, order: Order, now_ns: int) -> bool:
        """A cancel came after the fill of a contract: sometimes accepted, and its `Filled` then said a second time."""
        if order.listing.is_spot or order.status is not OrdStatus.FILLED or self._rng.random() >= self._double_filled:
            return False
        row = order_row(order) | {"cancelType": "CancelByUser", "rejectReason": "EC_OrigClOrdIDDoesNotExist"}
        self._put(order.account_id, "order", [row], now_ns)
        return True

    def _put(self, account_id: int, topic: str, rows: list[dict[str, Any]], now_ns: int) -> None:
        if self._held is not None:
            self._held.append((account_id, topic, rows, now_ns))
        else:
            self._emit(account_id, topic, rows, now_ns)

    # --- frames -----------------------------------------------------------------------------------------------------

    def _emit(self, account_id: int, topic: str, rows: list[dict[str, Any]], now_ns: int) -> None:
        hooks = self.core.hooks
        if hooks.private_stalled:
            return
        is_fill = topic.startswith("execution")
        delay_ns = hooks.event_delay_ns + (hooks.late_fill_ns if is_fill else 0)
        for conn in list(self.conns.values()):
            if conn.account_id != account_id:
                continue
            for name in conn.topics:
                wanted = rows_for(name, topic, rows)
                if not wanted:
                    continue
                if hooks.drop_private:
                    hooks.drop_private -= 1
                    continue
                frame = self._frame(account_id, name, wanted, now_ns)
                self._send(conn.conn_id, frame, delay_ns)
                if is_fill and hooks.duplicate_fills:
                    hooks.duplicate_fills -= 1
                    self._send(conn.conn_id, frame, delay_ns)

    def _frame(self, account_id: int, topic: str, rows: list[dict[str, Any]], now_ns: int) -> bytes:
        self._frame_no += 1
        frame: dict[str, Any] = {"id": f"{account_id}_{self._frame_no:09d}", "topic": topic}
        if topic.startswith("execution.fast"):
            del frame["id"]
        return orjson.dumps(frame | {"creationTime": now_ns // MS, "data": rows})


def split_topic(topic: str) -> tuple[str, str]:
    """`execution.fast.linear` is (execution.fast, linear); `order` is (order, "")."""
    base, _, tail = topic.rpartition(".")
    return (base, tail) if tail in CATEGORIES else (topic, "")


def rows_for(subscribed: str, topic: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    base, tail = split_topic(subscribed)
    if base != topic:
        return []
    return [row for row in rows if row.get("category") == tail] if tail else rows
