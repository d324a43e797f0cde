"""The first pass over a recording: which books are in it, on which market, and with which tick and lot.

Reads JSON with orjson, once, so that the second pass can run through the strict decoders. Knows no sequence rule.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

from engine.types import Market, Venue
from tools.recording import Record, Session

Scale = tuple[Decimal, Decimal]  # tick size, lot size
BYBIT_BOOK = re.compile(rb'\{"topic":"orderbook\.(\d+)\.([A-Za-z0-9-]+)"')
BINANCE_STREAM = re.compile(rb'\{"stream":"([a-z0-9_]+)@(depth|bookTicker)')
BINANCE_SYMBOL = re.compile(rb'"s":"([^"]+)"')
URL_SYMBOL = re.compile(r"/depth\?(?:.*&)?symbol=([A-Z0-9_]+)")


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
        self.definitions: dict[tuple[Market, str], Scale] = {}

    def market_of(self, record: Record) -> Market:
        """The market of a record's connection. A connection that never told is taken as spot."""
        known = self.conn_markets.get(record.conn) if not record.is_http else None
        return known or self.session.market_of(record) or Market.SPOT

    def key_of(self, book_id: BookId) -> str:
        """Names as the venues give them: Bybit's topic with its market; Binance's symbol, with the market where the
        recording has both."""
        if self.session.venue is Venue.BYBIT:
            return f"{book_id.market.name.lower()}:orderbook.{book_id.depth}.{book_id.symbol}"
        is_alone = len({other.market for other in self.scales}) == 1
        return book_id.symbol if is_alone else f"{book_id.market.name.lower()} {book_id.symbol}"


def survey_of(session: Session, *, use_definitions: bool) -> Survey:
    """Read the session once. Raises RecordingError when there is no book in it."""
    survey = Survey(session)
    decimals: dict[BookId, list[int]] = {}  # of price, of quantity
    has_depth: set[BookId] = set()
    conns: list[tuple[str, Record]] = []
    for record in session.records():
        if record.is_http:
            note_definitions(survey, record)
        elif record.conn not in survey.conn_markets:
            market = session.market_of(record)
            if market is not None:
                survey.conn_markets[record.conn] = market
            else:
                conns.append((record.conn, record))
    return survey
