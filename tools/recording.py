"""Recorded sessions of exchange data: every format we know, read as one stream of frames and HTTP answers.

Owns file formats, the order of records, and what venue and market a record belongs to. Rebuilds no book: tools/book.py
and the exchange's playback consume `Session.records()`.

Formats, told by content and never by name; any of them plain, gzip, zstd or inside a zip:
- `local_ns json` lines (hftbacktest): combined streams of one connection, REST snapshots between them.
- `ts: frame` and `url -> ts: body` lines (cryptofeed): one file a connection, one for HTTP, one for instruments.
- one object a line with `t, conn, ts, data` (cryptofeed, format 2): all connections in one file.
- bare frames, one a line (the archive that Bybit publishes).
"""

from __future__ import annotations

import gzip
import heapq
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from engine.types import Market, Venue

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
GZIP_MAGIC = b"\x1f\x8b"
ZIP_MAGIC = b"PK\x03\x04"
NS_PER_S = 1_000_000_000
HTTP_CONN = "http"

VENUE_OF_HOST = {"binance": Venue.BINANCE, "bybit": Venue.BYBIT, "okx": Venue.OKX, "dydx": Venue.DYDX}
FRAME_TS = re.compile(rb'"(?:ts|E)":"?(\d{13})')
ADDRESSED = re.compile(rb"((?:wss|https?)://\S+) (<->|<-|->) (\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?:: (.*))?$", re.DOTALL)
TIMED = re.compile(rb"(\d+(?:\.\d+)?): (.*)$", re.DOTALL)
LOCAL_NS = re.compile(rb"(\d{15,20}) (\{.*)$", re.DOTALL)


class RecordingError(Exception):
    """A recording that cannot be read. The text is one line: what, where, what was expected."""


class Record(NamedTuple):
    """One thing that was received, or one connection that was opened (`payload` empty).

    `url` is the connection's address or the address that was asked; empty where the recording does not tell.
    """

    ts_ns: int  # of the recorder
    conn: str  # HTTP_CONN: an answer; else one connection
    url: str
    payload: bytes

    @property
    def is_http(self) -> bool:
        return self.conn == HTTP_CONN


class Session:
    """Files that belong together, given in order. `venue` and `market` override what would be detected."""

    def __init__(
        self, paths: Sequence[Path | str], *, venue: Venue | None = None, market: Market | None = None
    ) -> None:
        self.paths = expand([Path(path) for path in paths])
        self._market = market
        self.venue = venue if venue is not None else self.detect_venue()

    def records(self) -> Iterator[Record]:
        """All records in the order of their time; files that follow each other stay in the order given."""
        sources = [parse_file(path, lines) for path in self.paths for lines in open_lines(path)]
        return heapq.merge(*sources, key=attrgetter("ts_ns"))

    def detect_venue(self) -> Venue:
        for path in self.paths:
            for lines in open_lines(path):
                for record in parse_file(path, lines):
                    venue = venue_of(record)
                    if venue is not None:
                        return venue
        raise RecordingError(f"{self.paths[0]}: no frame of a known venue found; name it with --venue")

    def market_of(self, record: Record) -> Market | None:
        """The market of a frame, None where this record alone does not tell."""
        return self._market or market_of_url(record.url) or market_of_frame(self.venue, record.payload)


# --- files --------------------------------------------------------------------------------------------------------


def expand(paths: list[Path]) -> list[Path]:
    """Folders stand for the files in them, by name."""
    files: list[Path] = []
    for path in paths:
        files += sorted(child for child in path.iterdir() if child.is_file()) if path.is_dir() else [path]
    if not files:
        raise RecordingError("no recording given")
    return files


def open_lines(path: Path) -> Iterator[Iterator[bytes]]:
    """The lines of a file, or of each member of an archive."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == ZIP_MAGIC:
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    yield guarded(path, io.BytesIO(archive.read(name)))
        else:
            yield guarded(path, open_stream(path, magic))
    except (OSError, zipfile.BadZipFile) as error:
        raise unreadable(path, error) from error


def open_stream(path: Path, magic: bytes) -> BinaryIO:
    if magic[:2] == GZIP_MAGIC:
        return io.BufferedReader(gzip.open(path, "rb"))
    if magic == ZSTD_MAGIC:
        return io.BufferedReader(zstd_reader(path))
    return path.open("rb")


def zstd_reader(path: Path) -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise RecordingError(f"{path}: needs the package zstandard: pip install 'tickwright[tools]'") from error
    return zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True)


def guarded(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    """Lines without their ends; trouble in the middle of a file becomes one clear error."""
    try:
        with stream:
            for line in stream:
                stripped = line.strip()
                if stripped:
                    yield stripped
    except (OSError, EOFError, ValueError) as error:
        raise unreadable(path, error) from error
    except Exception as error:
        # zstandard is optional, so its error class cannot be named here.
        if type(error).__module__.partition(".")[0] not in ("zstandard", "zlib"):
            raise
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> RecordingError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return RecordingError(f"{path}: cannot be read: {reason}")


# --- lines to records ---------------------------------------------------------------------------------------------


def parse_file(path: Path, lines: Iterator[bytes]) -> Iterator[Record]:
    first = next(lines, None)
    if first is None:
        return iter(())
    for is_format, parse in FORMATS:
        if is_format(first):
            return parse(path, chain_first(first, lines))
    shown = first[:60].decode("utf-8", "replace")
    raise RecordingError(f"{path}: not a recording in a known format, it begins with {shown!r}")


def chain_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def parse_local_ns(path: Path, lines: Iterable[bytes]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        match = LOCAL_NS.match(line)
        if match is None:
            raise malformed(path, number, "`local_ns json`", line)
        yield Record(int(match[1]), str(path), "", match[2])


def parse_cryptofeed(path: Path, lines: Iterable[bytes]) -> Iterator[Record]:
    url = ""
    for number, line in enumerate(lines, 1):
        match = TIMED.match(line)
        if match is not None:
            yield Record(ns_from_seconds(match[1]), str(path), url, match[2])
            continue
        match = ADDRESSED.match(line)
        if match is not None:
            address, arrow, ts_ns = match[1].decode(), match[2], ns_from_seconds(match[3])
            if arrow == b"->":
                yield Record(ts_ns, HTTP_CONN, address, match[4] or b"")
            else:
                url = address  # `<->` opened, `<-` was sent by the recorder
            continue
        if not line.startswith(b"configuration: "):
            raise malformed(path, number, "`ts: frame`", line)


def parse_objects(path: Path, lines: Iterable[bytes]) -> Iterator[Record]:
    urls: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = orjson.loads(line)
            kind = row["t"]
            if kind in ("connect", "send") and "addr" in row:
                urls[row["conn"]] = row["addr"]
            elif kind == "http":
                yield Record(ns_from_seconds(str(row["ts"]).encode()), HTTP_CONN, row["url"], row["data"].encode())
            elif kind == "recv":
                conn = row["conn"]
                ts_ns = ns_from_seconds(str(row["ts"]).encode())
                yield Record(ts_ns, f"{path}#{conn}", urls.get(conn, ""), row["data"].encode())
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise malformed(path, number, "an object with `t, conn, ts, data`", line) from error


def parse_frames(path: Path, lines: Iterable[bytes]) -> Iterator[Record]:
    ts_ns = 0
    for number, line in enumerate(lines, 1):
        if line[:1] != b"{":
            raise malformed(path, number, "one JSON frame a line", line)
        match = FRAME_TS.search(line)
        ts_ns = int(match[1]) * 1_000_000 if match is not None else ts_ns
        yield Record(ts_ns, str(path), "", line)


FORMATS: list[tuple[Callable[[bytes], bool], Callable[[Path, Iterable[bytes]], Iterator[Record]]]] = [
    (lambda line: LOCAL_NS.match(line) is not None, parse_local_ns),
    (lambda line: TIMED.match(line) is not None or ADDRESSED.match(line) is not None, parse_cryptofeed),
    (lambda line: line.startswith((b'{"t":', b'{"t": ')), parse_objects),
    (lambda line: line.startswith((b'{"topic"', b'{"stream"', b'{"e"', b'{"lastUpdateId"', b'{"u"')), parse_frames),
]


def malformed(path: Path, number: int, expected: str, line: bytes) -> RecordingError:
    shown = line[:60].decode("utf-8", "replace")
    return RecordingError(f"{path}: line {number} should be {expected}, was {shown!r}")


def ns_from_seconds(text: bytes) -> int:
    whole, _, fraction = text.partition(b".")
    return int(whole) * NS_PER_S + int((fraction + b"000000000")[:9])


# --- venue and market ---------------------------------------------------------------------------------------------


def venue_of(record: Record) -> Venue | None:
    host = record.url.partition("://")[2].partition("/")[0]
    for name, venue in VENUE_OF_HOST.items():
        if name in host:
            return venue
    return venue_of_frame(record.payload)


def venue_of_frame(payload: bytes) -> Venue | None:
    if payload.startswith((b'{"topic":"orderbook.', b'{"topic":"publicTrade.', b'{"topic":"tickers.')):
        return Venue.BYBIT
    if payload.startswith((b'{"stream":', b'{"e":"depthUpdate"', b'{"lastUpdateId"')):
        return Venue.BINANCE
    return Venue.OKX if payload.startswith(b'{"arg":{"channel":') else None


def market_of_url(url: str) -> Market | None:
    if "fapi.binance" in url or "fstream.binance" in url or "/public/linear" in url or "category=linear" in url:
        return Market.LINEAR
    if "api.binance" in url or "stream.binance" in url or "/public/spot" in url or "category=spot" in url:
        return Market.SPOT
    return Market.SPOT if "www.binance.com/api/" in url else None


def market_of_frame(venue: Venue, payload: bytes) -> Market | None:
    """What the frame itself tells. Binance: only USD-M depth updates have `pu`. Bybit: spot books have `ts` before
    `type`, those of linear have it after; L1 has it before on both, so it tells nothing."""
    head = payload[:400]
    if venue is Venue.BYBIT:
        if not head.startswith(b'{"topic":"orderbook.') or head.startswith(b'{"topic":"orderbook.1.'):
            return None
        return Market.SPOT if head.find(b'"ts":') < head.find(b'"type":') else Market.LINEAR
    if b'"e":"depthUpdate"' in head:
        return Market.LINEAR if b'"pu":' in head else Market.SPOT
    return None
