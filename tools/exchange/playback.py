"""Playback: a recording's books and trades, put into the matching engine as the house's own orders.

Depth messages become house levels, recorded trades become house takers, so users' orders rest and trade among them and
the fronts make the frames, with their own sequence numbers. Time is the recorder's, scaled by the speed; the first
record of a session plays at the first step. Knows no clock. Formats and markets: tools/recording.py, tools/survey.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import orjson

from engine.errors import ConfigError
from engine.instrument import plain
from engine.types import Market, Side, Venue
from tools.exchange.market import HouseCore
from tools.exchange.model import Listing
from tools.exchange.settings import ListingSettings
from tools.recording import Record, RecordingError, Session
from tools.survey import BookId, Survey, survey_of

SERVED: Final = {Venue.BINANCE: "binance", Venue.BYBIT: "bybit"}
MARKET_NAMES: Final = {Market.SPOT: "spot", Market.LINEAR: "linear"}
QUOTES: Final = ("USDT", "USDC", "BUSD", "USD", "EUR", "BTC", "ETH")
SAME_TIME_NS: Final = 3_600 * 10**9
"""Sessions that begin within this of each other were recorded together and keep their distance in time."""
LONGEST_GAP_NS: Final = 5 * 10**9
MARK_EVERY_NS: Final = 10**9
RECORDS_PER_STEP: Final = 20_000
Levels = Iterable[Sequence[str]]


@dataclass(slots=True, eq=False)
class Recording:
    """One session with what its first pass found: books, ticks, lots, markets of its connections."""

    session: Session
    survey: Survey
    first_ns: int

    def listing_settings(self) -> list[ListingSettings]:
        """A listing for each book, with ticks and lots as recorded and filters that let everything through."""
        venue = SERVED[self.session.venue]
        rows: dict[tuple[Market, str], ListingSettings] = {}
        for book_id, (tick, lot) in self.survey.scales.items():
            base, quote = split_symbol(book_id.symbol)
            # The finest scale of several depths of one symbol serves all.
            known = rows.get((book_id.market, book_id.symbol))
            if known is not None:
                tick, lot = min(tick, Decimal(known.tick_size)), min(lot, Decimal(known.lot_size))
            rows[book_id.market, book_id.symbol] = ListingSettings(
                venue=venue,
                market=MARKET_NAMES[book_id.market],
                symbol=book_id.symbol,
                base=base,
                quote=quote,
                tick_size=plain(tick),
                lot_size=plain(lot),
                min_qty=plain(lot),
                max_qty=plain(lot * 10**9),
                max_market_qty=plain(lot * 10**9),
                min_notional="0",
                min_px=plain(tick),
                max_px=plain(tick * 10**9),
                maker_fee="0.0001",
                taker_fee="0.0002",
                band_e4=0,
                max_open_orders=500,
            )
        return list(rows.values())

    def deepest(self) -> dict[tuple[Market, str], int]:
        """The depth that makes the book of each symbol, where several were recorded (0: all levels)."""
        depths: dict[tuple[Market, str], int] = {}
        for book_id in self.survey.scales:
            key = book_id.market, book_id.symbol
            depths[key] = max(depths.get(key, 0), book_id.depth)
        return depths


def open_recordings(texts: Iterable[str]) -> list[Recording]:
    """One session a text; its files are separated by commas, a folder stands for the files in it."""
    recordings = []
    for text in texts:
        try:
            session = Session([part for part in text.split(",") if part])
            if session.venue not in SERVED:
                raise ConfigError([f"{text}: recordings of {session.venue.name} cannot be played back yet"])
            first = next(iter(session.records()), None)
            if first is None:
                raise ConfigError([f"{text}: is empty"])
            survey = survey_of(session, use_definitions=False)
        except (RecordingError, OSError) as error:
            raise ConfigError([str(error)]) from error
        recordings.append(Recording(session, survey, first.ts_ns))
    return recordings


def split_symbol(symbol: str) -> tuple[str, str]:
    name = symbol.replace("-", "").replace("_", "")
    for quote in QUOTES:
        if name.endswith(quote) and len(name) > len(quote):
            return name.removesuffix(quote), quote
    return name, "USDT"


@dataclass(slots=True, eq=False)
class PlayedBook:
    """One book of the recording. `levels` is what it last said, per side."""

    core: HouseCore
    listing: Listing
    depth: int
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    is_synced: bool = False
    last_id: int = 0
    waiting: list[dict[str, Any]] = field(default_factory=list)
    trade_kind: str = ""
    mark_due_ns: int = 0

    def levels(self, side: Side) -> dict[int, int]:
        return self.bids if side is Side.BUY else self.asks


class Playback:
    """A `Source`: `step(now_ns)` plays what is due. `is_done` when every recording is at its end."""

    interval_ns = 5_000_000

    def __init__(
        self, recordings: Sequence[Recording], cores: Mapping[str, Any], speed: float = 1.0, *, trades: bool = True
    ) -> None:
        self.is_paused = False
        self.is_done = False
        self.speed = speed
        self._plays_trades = trades
        self.counts: Counter[str] = Counter()
        self._cores: list[HouseCore] = list(cores.values())
        self._books: dict[tuple[Venue, Market, str], PlayedBook] = {}
        for recording in recordings:
            core = cores[SERVED[recording.session.venue]]
            for (market, symbol), depth in recording.deepest().items():
                listing = core.listing(market, symbol)
                assert listing is not None, f"{market.name} {symbol} was recorded but is not listed"
                key = recording.session.venue, market, symbol
                known = self._books.setdefault(key, PlayedBook(core, listing, depth))
                known.depth = max(known.depth, depth)
        self._records = merged(recordings)
        self._next = next(self._records, None)
        self._elapsed_ns = 0
        self._last_ns = 0

    def step(self, now_ns: int) -> None:
        """Play the records that are due."""
        if self._last_ns and not self.is_paused:
            self._elapsed_ns += int((now_ns - self._last_ns) * self.speed)
        self._last_ns = now_ns
        for core in self._cores:
            core.begin(now_ns)
        budget = RECORDS_PER_STEP
        while self._next is not None and self._next[0] <= self._elapsed_ns and budget and not self.is_paused:
            _, recording, record = self._next
            self._play(recording, record, now_ns)
            self._next = next(self._records, None)
            budget -= 1
        for book in self._books.values():
            self._set_mark(book, now_ns)
        for core in self._cores:
            core.commit()
        self.is_done = self._next is None

    def counters(self) -> Mapping[str, int]:
        return dict(self.counts) | {"is_done": int(self.is_done), "played_ms": self._elapsed_ns // 1_000_000}

    # --- records ----------------------------------------------------------------------------------------------------

    def _play(self, recording: Recording, record: Record, now_ns: int) -> None:
        self.counts["records"] += 1
        try:
            message = orjson.loads(record.payload)
        except orjson.JSONDecodeError:
            self.counts["not_json"] += 1
            return
        if not isinstance(message, dict):
            return
        if recording.session.venue is Venue.BYBIT:
            self._play_bybit(recording, record, message, now_ns)
        else:
            self._play_binance(recording, record, message, now_ns)

    def _book(self, recording: Recording, market: Market, symbol: str) -> PlayedBook | None:
        return self._books.get((recording.session.venue, market, symbol))

    def _play_binance(self, recording: Recording, record: Record, message: dict[str, Any], now_ns: int) -> None:
        body = message.get("data", message)
        market = recording.survey.market_of(record)
        if not isinstance(body, dict):
            return
        if "lastUpdateId" in body:
            book_id = recording.survey.book_id_of(record)
            book = self._named(recording, market, book_id)
            if book is not None:
                self._snapshot(book, body["bids"], body["asks"], now_ns)
                self._resume(book, int(body["lastUpdateId"]), now_ns)
            return
        book = self._book(recording, market, str(body.get("s", "")))
        if book is None:
            return
        kind = body.get("e")
        if kind == "depthUpdate":
            self._binance_diff(book, body, now_ns)
        elif kind in ("trade", "aggTrade"):
            book.trade_kind = book.trade_kind or kind
            if kind == book.trade_kind and self._plays_trades:
                self._trade(book, Side.SELL if body["m"] else Side.BUY, body["p"], body["q"], now_ns)

    def _named(self, recording: Recording, market: Market, book_id: BookId | None) -> PlayedBook | None:
        """The book of a snapshot; one that names no symbol belongs to the only book of its session."""
        if book_id is not None and book_id.symbol:
            return self._book(recording, market, book_id.symbol)
        symbols = list(recording.deepest())
        return self._book(recording, *symbols[0]) if len(symbols) == 1 else None

    def _binance_diff(self, book: PlayedBook, body: dict[str, Any], now_ns: int) -> None:
        if not book.is_synced:
            book.waiting.append(body)
            return
        if int(body["u"]) <= book.last_id:
            self.counts["stale"] += 1
            return
        book.last_id = int(body["u"])
        self._diff(book, body["b"], body["a"], now_ns)

    def _resume(self, book: PlayedBook, last_id: int, now_ns: int) -> None:
        book.is_synced, book.last_id = True, last_id
        waiting, book.waiting = book.waiting, []
        for body in waiting:
            self._binance_diff(book, body, now_ns)

    def _play_bybit(self, recording: Recording, record: Record, message: dict[str, Any], now_ns: int) -> None:
        topic = str(message.get("topic", ""))
        kind, _, rest = topic.partition(".")
        market = recording.survey.market_of(record)
        if kind == "publicTrade" and self._plays_trades:
            book = self._book(recording, market, rest)
            for row in message["data"] if book is not None else ():
                self._trade(book, Side.BUY if row["S"] == "Buy" else Side.SELL, row["p"], row["v"], now_ns)
        elif kind == "orderbook":
            depth, _, symbol = rest.partition(".")
            book = self._book(recording, market, symbol)
            if book is None or int(depth) != book.depth:
                return
            rows = message["data"]
            if message["type"] == "snapshot":
                book.is_synced = True
                self._snapshot(book, rows["b"], rows["a"], now_ns)
            elif book.is_synced:
                self._diff(book, rows["b"], rows["a"], now_ns)

    # --- into the core ----------------------------------------------------------------------------------------------

    def _snapshot(self, book: PlayedBook, bids: Levels, asks: Levels, now_ns: int) -> None:
        self.counts["snapshots"] += 1
        for side, rows in ((Side.BUY, bids), (Side.SELL, asks)):
            stated = dict(self._units(book.listing, rows))
            for px in [px for px in book.levels(side) if px not in stated]:
                self._set(book, side, px, 0, now_ns)
            for px, qty in stated.items():
                self._set(book, side, px, qty, now_ns)

    def _diff(self, book: PlayedBook, bids: Levels, asks: Levels, now_ns: int) -> None:
        self.counts["diffs"] += 1
        changed = [(Side.BUY, *each) for each in self._units(book.listing, bids)]
        changed += [(Side.SELL, *each) for each in self._units(book.listing, asks)]
        # What goes, goes first: a book must never cross itself on the way.
        for side, px, qty in sorted(changed, key=lambda each: each[2] != 0):
            self._set(book, side, px, qty, now_ns)

    def _units(self, listing: Listing, rows: Levels) -> Iterator[tuple[int, int]]:
        for px, qty, *_ in rows:
            try:
                yield listing.ticks(px), listing.lots(qty)
            except ValueError:
                self.counts["off_grid"] += 1

    def _set(self, book: PlayedBook, side: Side, px: int, qty: int, now_ns: int) -> None:
        levels = book.levels(side)
        if qty:
            levels[px] = qty
        elif px in levels:
            del levels[px]
        else:
            return
        book.core.house_level(book.listing, side, px, qty, now_ns)

    def _trade(self, book: PlayedBook | None, side: Side, px_text: str, qty_text: str, now_ns: int) -> None:
        assert book is not None
        try:
            px, qty = book.listing.ticks(px_text), book.listing.lots(qty_text)
        except ValueError:
            self.counts["off_grid"] += 1
            return
        traded = book.core.house_trade(book.listing, side, qty, now_ns, px_ticks=px)
        # The recorded book lags its trades: what is not there to be taken is not printed.
        self.counts["trades" if traded else "trades_without_book"] += 1

    def _set_mark(self, book: PlayedBook, now_ns: int) -> None:
        if now_ns >= book.mark_due_ns:
            bid, _, ask, _ = book.core.best(book.listing)
            if bid and ask:
                book.mark_due_ns = now_ns + MARK_EVERY_NS
                book.core.set_mark(book.listing, (bid + ask) // 2, now_ns)


def merged(recordings: Sequence[Recording]) -> Iterator[tuple[int, Recording, Record]]:
    """All records in the order in which they play, with the time since the beginning; long silences are shortened."""
    skipped_ns = last_ns = 0
    for at_ns, recording, record in aligned(recordings):
        skipped_ns += max(0, at_ns - skipped_ns - last_ns - LONGEST_GAP_NS)
        last_ns = at_ns - skipped_ns
        yield last_ns, recording, record


def aligned(recordings: Sequence[Recording]) -> Iterator[tuple[int, Recording, Record]]:
    earliest = min((recording.first_ns for recording in recordings), default=0)
    streams = []
    for recording in recordings:
        together = recording.first_ns - earliest <= SAME_TIME_NS
        origin = earliest if together else recording.first_ns
        streams.append((origin, recording, recording.session.records()))
    heads = [(next(records, None), origin, recording, records) for origin, recording, records in streams]
    while True:
        live = [(head.ts_ns - origin, number) for number, (head, origin, _, _) in enumerate(heads) if head is not None]
        if not live:
            return
        at_ns, number = min(live)
        head, origin, recording, records = heads[number]
        assert head is not None
        yield at_ns, recording, head
        heads[number] = next(records, None), origin, recording, records
