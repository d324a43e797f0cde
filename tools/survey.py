"""The first pass over a recording: which books are in it, on which market, and with which tick and lot.

Reads JSON with orjson, once, so that the second pass can run through the strict decoders. Knows no sequence rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from engine.types import Market, Venue
from tools.recording import Record, RecordingError, Session

Scale = tuple[Decimal, Decimal]  # tick size, lot size
BYBIT_BOOK = re.compile(rb'\{"topic":"orderbook\.(\d+)\.([A-Za-z0-9-]+)"')
BINANCE_BOOK = re.compile(rb'"(?:e":"depthUpdate"|u":\d+,"s":|lastUpdateId":)')
BINANCE_SYMBOL = re.compile(rb'"s":"([^"]+)"')
URL_SYMBOL = re.compile(r"/depth\?(?:.*&)?symbol=([A-Z0-9_]+)")
DEFAULT_MARKET = {Venue.BINANCE: Market.SPOT, Venue.BYBIT: Market.LINEAR}


class BookId(NamedTuple):
    market: Market
    symbol: str
    depth: int  # levels a side that the feed keeps; 0: all


class Survey:
    """What the first pass found. `scales` is in the order of first appearance."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.scales: dict[BookId, Scale] = {}
        self.conn_markets: dict[str, Market] = {}

    def market_of(self, record: Record) -> Market:
        """The market of a record's connection, the venue's default where nothing tells."""
        known = None if record.is_http else self.conn_markets.get(record.conn)
        return known or self.session.market_of(record) or DEFAULT_MARKET[self.session.venue]

    def book_id_of(self, record: Record) -> BookId | None:
        """The book that a record belongs to. None: to none; an empty symbol: to the only one on its connection."""
        name = book_name_of(self.session.venue, record)
        return None if name is None else BookId(self.market_of(record), *name)

    def key_of(self, book_id: BookId) -> str:
        """Names as the venues give them: Bybit's topic with its market; Binance's symbol, with the market where the
        recording has both."""
        if self.session.venue is Venue.BYBIT:
            return f"{book_id.market.name.lower()}:orderbook.{book_id.depth}.{book_id.symbol}"
        is_alone = len({other.market for other in self.scales}) == 1
        return book_id.symbol if is_alone else f"{book_id.market.name.lower()} {book_id.symbol}"


def book_name_of(venue: Venue, record: Record) -> tuple[str, int] | None:
    """(symbol, depth) of a book message, a best bid and ask, or a snapshot; None for anything else."""
    if record.is_http:
        url_match = URL_SYMBOL.search(record.url)
        return None if url_match is None else (url_match[1], 0)
    if venue is Venue.BYBIT:
        match = BYBIT_BOOK.match(record.payload)
        return None if match is None else (match[2].decode(), int(match[1]))
    if BINANCE_BOOK.search(record.payload, 0, 200) is None:
        return None
    match = BINANCE_SYMBOL.search(record.payload, 0, 300)
    return ("", 0) if match is None else (match[1].decode(), 0)


class Decimals:
    """How many decimals the prices and quantities of one book use, and whether it has any depth at all."""

    def __init__(self) -> None:
        self.px = 0
        self.qty = 0
        self.has_depth = False

    def note(self, levels: Iterable[Sequence[str]]) -> None:
        px, qty = self.px, self.qty
        for px_text, qty_text, *_ in levels:
            px = max(px, len(px_text.partition(".")[2].rstrip("0")))
            qty = max(qty, len(qty_text.partition(".")[2].rstrip("0")))
        self.px, self.qty = px, qty

    def note_message(self, message: Any) -> None:
        body = message.get("data", message)
        bids, asks = body.get("bids", body.get("b", ())), body.get("asks", body.get("a", ()))
        if isinstance(bids, str):
            self.note(((bids, body["B"]), (asks, body["A"])))
        else:
            self.has_depth = True
            self.note(bids)
            self.note(asks)

    @property
    def scale(self) -> Scale:
        return Decimal(1).scaleb(-self.px), Decimal(1).scaleb(-self.qty)


def survey_of(session: Session, *, use_definitions: bool) -> Survey:
    """Read the session once: markets of its connections, books, scales."""
    survey = Survey(session)
    definitions: dict[tuple[Market, str], Scale] = {}
    seen: dict[tuple[str, str, int, Market | None], Decimals] = {}  # by connection, as its market may be told later
    for record in session.records():
        market = session.market_of(record)
        if record.is_http:
            definitions.update(definitions_of(session.venue, market, record))
        elif market is not None:
            survey.conn_markets.setdefault(record.conn, market)
        name = book_name_of(session.venue, record)
        if name is None:
            continue
        try:
            decimals = seen.setdefault((record.conn, *name, market if record.is_http else None), Decimals())
            decimals.note_message(orjson.loads(record.payload))
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
            continue  # the strict decoder will refuse it and count it
    found = merge(survey, seen)
    for book_id, decimals in found.items():
        definition = definitions.get(book_id[:2]) if use_definitions else None
        survey.scales[book_id] = definition or decimals.scale
    return survey


def merge(survey: Survey, seen: dict[tuple[str, str, int, Market | None], Decimals]) -> dict[BookId, Decimals]:
    """One entry a book, from all connections; a message without a symbol counts for every book of its connection."""
    found: dict[BookId, Decimals] = {}
    nameless: list[Decimals] = []
    for (conn, symbol, depth, told), decimals in seen.items():
        if not symbol:
            nameless.append(decimals)
            continue
        market = told or survey.conn_markets.get(conn) or DEFAULT_MARKET[survey.session.venue]
        book_id = BookId(market, symbol, depth)
        widen(found.setdefault(book_id, Decimals()), decimals)
    books = {book_id: decimals for book_id, decimals in found.items() if decimals.has_depth}
    for decimals in books.values():
        for other in nameless:
            widen(decimals, other)
    return books


def widen(decimals: Decimals, other: Decimals) -> None:
    decimals.px = max(decimals.px, other.px)
    decimals.qty = max(decimals.qty, other.qty)
    decimals.has_depth |= other.has_depth


def definitions_of(venue: Venue, market: Market | None, record: Record) -> dict[tuple[Market, str], Scale]:
    """Tick and lot sizes from an instrument list; nothing for any other answer."""
    if market is None or not ("exchangeInfo" in record.url or "instruments-info" in record.url):
        return {}
    try:
        body = orjson.loads(record.payload)
        rows = body["symbols"] if venue is Venue.BINANCE else body["result"]["list"]
        return {(market, row["symbol"]): scale_of_definition(venue, row) for row in rows}
    except (orjson.JSONDecodeError, KeyError, TypeError, ArithmeticError) as error:
        raise RecordingError(f"{record.url}: instrument list cannot be read: {error!r}") from error


def scale_of_definition(venue: Venue, row: dict[str, Any]) -> Scale:
    if venue is Venue.BINANCE:
        filters = {entry["filterType"]: entry for entry in row["filters"]}
        return Decimal(filters["PRICE_FILTER"]["tickSize"]), Decimal(filters["LOT_SIZE"]["stepSize"])
    lot = row["lotSizeFilter"]
    return Decimal(row["priceFilter"]["tickSize"]), Decimal(lot.get("qtyStep") or lot["basePrecision"])
