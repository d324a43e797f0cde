"""`tickwright book RECORDING...`: rebuild the books of a recording through the real decoders and sequence rules.

Owns nothing of the protocol: decoding, judging and applying are ext's. This module routes records to feeds, buffers
deltas until a snapshot as a connector does, and says what came out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from typing import Any

from engine.instrument import decimals_and_mantissa, plain
from engine.types import NO_PX, Market, Venue
from ext.book import Book
from ext.decode import Decoder
from ext.decode_binance import BinanceDecoder
from ext.decode_bybit import BybitDecoder
from ext.scan import REFUSALS
from ext.sequence import (
    OUT_APPLIED,
    OUT_BBO,
    OUT_CROSSED,
    OUT_GAP,
    OUT_REPEAT,
    OUT_SNAPSHOT,
    OUT_UNSYNCED,
    RULE_BINANCE_SPOT,
    RULE_BINANCE_USDM,
    RULE_BYBIT,
    Feed,
)
from tools.recording import Record, RecordingError, Session
from tools.survey import BookId, Scale, Survey, survey_of

MAX_LEVELS = 50_000  # of one message: full snapshots fit
HASH_EVERY = 1000
PROGRESS_EVERY = 50_000
EXIT_OK, EXIT_FOUND, EXIT_DATA = 0, 1, 65
TOOK_EFFECT = frozenset((OUT_APPLIED, OUT_SNAPSHOT, OUT_REPEAT, OUT_CROSSED))
RULES = {
    (Venue.BINANCE, Market.SPOT): RULE_BINANCE_SPOT,
    (Venue.BINANCE, Market.LINEAR): RULE_BINANCE_USDM,
    (Venue.BYBIT, Market.SPOT): RULE_BYBIT,
    (Venue.BYBIT, Market.LINEAR): RULE_BYBIT,
}
Bbo = tuple[int, int, int, int]


class Track:
    """One book while it is rebuilt: its feed and slot, what waits for a snapshot, and what was seen on the way."""

    def __init__(self, key: str, feed: Feed, slot: int, scale: Scale) -> None:
        self.key = key
        self.feed = feed
        self.slot = slot
        self.tick_size, self.lot_size = scale
        self.book = feed.book(slot)
        self.waiting: list[tuple[bytes, int]] = []
        self.applied = 0
        self.gap_at: list[int] = []
        self.max_levels = 0
        self.hashes: list[list[Any]] = []
        self.states: list[tuple[int, Bbo]] = []  # after each applied message: its sequence, best bid and ask
        self.tickers: list[tuple[int, Bbo]] = []  # the venue's own best bid and ask, and its sequence
        self.refused: Counter[str] = Counter()

    # --- one frame ---

    def on_outcome(self, outcome: int, payload: bytes, recv_ts_ns: int) -> None:
        if outcome in TOOK_EFFECT:
            self.on_applied()
        elif outcome == OUT_BBO:
            self.tickers.append((self.feed.decoder.last_seq, self.feed.bbo))
        elif outcome in (OUT_UNSYNCED, OUT_GAP):
            # The message that proved the loss may still be needed after the next snapshot.
            self.waiting.append((payload, recv_ts_ns))
            if outcome == OUT_GAP:
                self.gap_at.append(self.feed.decoder.last_seq)

    def on_applied(self) -> None:
        book = self.book
        self.applied += 1
        self.max_levels = max(self.max_levels, book.level_count(1) + book.level_count(-1))
        self.states.append((self.feed.decoder.last_seq, self.bbo()))
        if self.applied % HASH_EVERY == 0:
            self.hashes.append([self.applied, self.hash_of(20), self.bbo_text()])

    def on_rest_snapshot(self, payload: bytes, recv_ts_ns: int) -> None:
        outcome = self.feed.on_snapshot(self.slot, payload, recv_ts_ns)
        if outcome < 0 and outcome in REFUSALS:
            self.refused[REFUSALS[outcome]] += 1
        if outcome != OUT_SNAPSHOT:
            return
        waiting, self.waiting = self.waiting, []
        for frame, ts_ns in waiting:
            self.on_outcome(self.feed.on_frame(frame, ts_ns), frame, ts_ns)

    # --- what came out ---

    def bbo(self) -> Bbo:
        book = self.book
        return book.best_bid_px, book.best_bid_qty, book.best_ask_px, book.best_ask_qty

    def level_text(self, px_ticks: int, qty_lots: int) -> tuple[str, str]:
        return plain(self.tick_size * px_ticks), plain(self.lot_size * qty_lots)

    def bbo_text(self) -> list[str | None]:
        bid_px, bid_qty, ask_px, ask_qty = self.bbo()
        bid = self.level_text(bid_px, bid_qty) if bid_px != NO_PX else (None, None)
        ask = self.level_text(ask_px, ask_qty) if ask_px != NO_PX else (None, None)
        return [*bid, *ask]

    def hash_of(self, depth: int) -> str:
        sides = (
            ";".join(",".join(self.level_text(px, qty)) for px, qty in self.book.levels(side, depth))
            for side in (1, -1)
        )
        return hashlib.sha256("b:{}|a:{}".format(*sides).encode()).hexdigest()[:16]

    def compare_tickers(self) -> dict[str, int]:
        """Compare each state with the last ticker that is not newer, where a later ticker proves it the last."""
        seqs = [seq for seq, _ in self.tickers]
        compared = equal = 0
        for seq, bbo in self.states:
            at = bisect_right(seqs, seq) - 1
            if at >= 0 and seqs[-1] >= seq:
                compared += 1
                equal += self.tickers[at][1] == bbo
        return {"compared": compared, "equal": equal}

    def result(self, venue: Venue) -> dict[str, Any]:
        counters = self.feed.counters(self.slot)
        bid_levels, ask_levels = self.book.level_count(1), self.book.level_count(-1)
        fields: dict[str, Any] = {
            "applied": self.applied,
            "dropped_stale": counters["stale"],
            "gaps": counters["gaps"],
            "gap_at": self.gap_at,
            "snapshots": counters["snapshots"],
            "crossed_at_end": self.book.is_crossed,
            "final_bbo": self.bbo_text(),
            "final_hash20": self.hash_of(20),
            "hash20_every_1000": self.hashes,
            "final_hash_all": self.hash_of(0),
            "levels": {"bids": bid_levels, "asks": ask_levels},
            "bid_levels": bid_levels,
            "ask_levels": ask_levels,
            "max_levels": self.max_levels,
            "is_valid": self.book.is_valid,
            "unsynced": counters["unsynced"],
            "crossed": counters["crossed"],
            "refused": dict(self.refused),
        }
        if venue is Venue.BYBIT:
            fields["repeated_snapshots"] = counters["repeats"]
        else:
            fields["bbo_vs_bookTicker"] = self.compare_tickers()
        return fields


class Rebuild:
    """All books of a session. One feed a market and depth, as one symbol may be in several of them."""

    def __init__(self, session: Session, survey: Survey) -> None:
        self.session = session
        self.survey = survey
        self.tracks: dict[BookId, Track] = {}
        self.by_feed: dict[int, dict[int, Track]] = {}
        feeds: dict[tuple[Market, int], Feed] = {}
        for book_id, scale in survey.scales.items():
            feed = feeds.setdefault((book_id.market, book_id.depth), Feed(self.new_decoder()))
            tracks = self.by_feed.setdefault(id(feed), {})
            slot = len(tracks)
            tick_size, lot_size = scale
            feed.decoder.add_symbol(
                book_id.symbol, slot, *decimals_and_mantissa(tick_size), *decimals_and_mantissa(lot_size)
            )
            feed.add(slot, RULES[session.venue, book_id.market], Book(), book_id.depth)
            tracks[slot] = self.tracks[book_id] = Track(survey.key_of(book_id), feed, slot, scale)

    def new_decoder(self) -> Decoder:
        kind = BinanceDecoder if self.session.venue is Venue.BINANCE else BybitDecoder
        decoder = kind(max_levels=MAX_LEVELS)
        decoder.strict_qty = True  # a rounded quantity would be a wrong book
        return decoder

    def run(self, progress: Callable[[int], None]) -> None:
        for number, record in enumerate(self.session.records()):
            if number % PROGRESS_EVERY == 0:
                progress(number)
            self.on_record(record)

    def on_record(self, record: Record) -> None:
        book_id = self.survey.book_id_of(record)
        if book_id is None:
            return
        track = self.tracks.get(book_id) if book_id.symbol else self.only_track(record)
        if track is None:
            return
        if record.is_http or not book_id.symbol:
            track.on_rest_snapshot(record.payload, record.ts_ns)
            return
        outcome = track.feed.on_frame(record.payload, record.ts_ns)
        if outcome < 0 and outcome in REFUSALS:
            track.refused[REFUSALS[outcome]] += 1
            return
        slot = track.feed.slot
        if slot >= 0:
            self.by_feed[id(track.feed)][slot].on_outcome(outcome, record.payload, record.ts_ns)

    def only_track(self, record: Record) -> Track:
        """The book of a snapshot that names no symbol, as hftbacktest writes it between the frames."""
        if len(self.tracks) == 1:
            return next(iter(self.tracks.values()))
        raise RecordingError(f"{record.conn}: a snapshot without a symbol, in a recording of {len(self.tracks)} books")

    def results(self) -> dict[str, dict[str, Any]]:
        return {track.key: track.result(self.session.venue) for track in self.tracks.values()}

    def is_off_grid(self) -> bool:
        return any(track.refused["off_grid"] for track in self.tracks.values())


def rebuild(session: Session, progress: Callable[[int], None] = lambda number: None) -> dict[str, dict[str, Any]]:
    """Rebuild every book of a session: results by key, with the fields of the reference implementation.

    Scales come from the instrument definitions in the recording; where those do not fit its frames (they may have been
    taken at another time), from the frames themselves.
    """
    if (session.venue, Market.SPOT) not in RULES:
        raise RecordingError(f"{session.paths[0]}: books of {session.venue.name} cannot be rebuilt yet")
    for use_definitions in (True, False):
        rebuilding = Rebuild(session, survey_of(session, use_definitions=use_definitions))
        rebuilding.run(progress)
        if not rebuilding.is_off_grid():
            break
    return rebuilding.results()


# --- command line -------------------------------------------------------------------------------------------------


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "book",
        help="rebuild the order books of a recording",
        description="Rebuild the order books of a recorded session through the real decoders and sequence rules.",
        epilog="exit: 0 ok; 1 a book ended invalid or frames were refused; 65 the recording cannot be read. "
        "example: tickwright book BINANCE.0.zst BINANCE.http.0.0 BINANCE.ws.1.0 --json",
    )
    parser.add_argument("recordings", nargs="+", metavar="RECORDING", help="files of one session, in order; or folders")
    parser.add_argument("--venue", choices=[venue.name.lower() for venue in Venue], help="default: detected")
    parser.add_argument("--market", choices=[market.name.lower() for market in Market], help="default: detected")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    venue = Venue[args.venue.upper()] if args.venue else None
    market = Market[args.market.upper()] if args.market else None
    try:
        books = rebuild(Session(args.recordings, venue=venue, market=market), show_progress)
    except RecordingError as error:
        sys.stderr.write(f"tickwright book: {error}\n")
        return EXIT_DATA
    if args.json:
        sys.stdout.write(json.dumps({"books": books | short_names(books)}, indent=1) + "\n")
    else:
        print_table(books)
    is_good = bool(books) and all(book["is_valid"] and not book["refused"] for book in books.values())
    return EXIT_OK if is_good else EXIT_FOUND


def short_names(books: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same books as `linear BTCUSDT` beside `linear:orderbook.200.BTCUSDT`, where one depth only was recorded."""
    found: dict[str, list[str]] = {}
    for key in books:
        market, _, topic = key.partition(":")
        if topic:
            found.setdefault(f"{market} {topic.rpartition('.')[2]}", []).append(key)
    return {short: books[keys[0]] for short, keys in found.items() if len(keys) == 1}


def show_progress(number: int) -> None:
    if number:
        sys.stderr.write(f"tickwright book: {number} records\n")


def print_table(books: dict[str, dict[str, Any]]) -> None:
    heads = ("book", "applied", "stale", "gaps", "bids", "asks", "best bid", "size", "best ask", "size", "state")
    rows: list[tuple[str, ...]] = [heads]
    for key, book in books.items():
        bbo = ["-" if text is None else text for text in book["final_bbo"]]
        state = ("valid" if book["is_valid"] else "INVALID") + (", crossed" if book["crossed_at_end"] else "")
        if book["refused"]:
            state += ", refused " + " ".join(f"{name} {count}" for name, count in book["refused"].items())
        counts = [str(book[name]) for name in ("applied", "dropped_stale", "gaps", "bid_levels", "ask_levels")]
        rows.append((key, *counts, *bbo, state))
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [
            cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)
        ]
        sys.stdout.write("  ".join([*cells, row[-1]]) + "\n")
