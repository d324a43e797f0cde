"""What the tests of the decoders share: recorded frames by source, and an oracle on json and Decimal."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

import pytest

Reader = Callable[[Path], Iterator[bytes]]


def hftbacktest(folder: str) -> Reader:
    """`local_ns frame` lines; the REST book is a line of its own."""

    def read(captures: Path) -> Iterator[bytes]:
        for path in sorted((captures / "hftbacktest" / folder).glob("*.gz")):
            with gzip.open(path) as lines:
                for line in lines:
                    yield line.partition(b" ")[2].strip()

    return read


def cryptofeed(pattern: str) -> Reader:
    """`ts: frame` lines, and `url -> ts: body` for HTTP; control lines have other arrows and no frame."""

    def read(captures: Path) -> Iterator[bytes]:
        for path in sorted((captures / "cryptofeed").glob(pattern)):
            for line in plain_text(path).splitlines():
                found = re.match(rb"(?:https://\S+ -> )?[0-9.]+: (\{.*\})$", line)
                if found:
                    yield found[1]

    return read


def plain_text(path: Path) -> bytes:
    if path.suffix != ".zst":
        return path.read_bytes()
    zstandard = pytest.importorskip("zstandard")
    with path.open("rb") as packed:
        return bytes(zstandard.ZstdDecompressor().stream_reader(packed).read())


def bybit_halves(connection: str) -> Reader:
    def read(captures: Path) -> Iterator[bytes]:
        for line in io.BytesIO(plain_text(captures / "bybit_halves" / "BYBIT_dev_BTC_DOGE.jsonl.zst")):
            record = json.loads(line)
            if record["t"] == "recv" and record["conn"] == connection:
                yield record["data"].encode()

    return read


def bybit_archive(captures: Path) -> Iterator[bytes]:
    for path in captures.glob("nautilus_trader/HEAD/tests/test_data/bybit/*.zip"):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield from archive.read(name).splitlines()


def adapter_files(pattern: str) -> Reader:
    def read(captures: Path) -> Iterator[bytes]:
        for path in sorted((captures / "nautilus_trader/HEAD/crates/adapters").glob(pattern)):
            yield path.read_bytes()

    return read


READERS: dict[str, Reader] = {
    "binance_spot": hftbacktest("spot"),
    "binance_usdm": hftbacktest("usdm"),
    "binance_spot_2021": cryptofeed("2021-10-11_*/BINANCE.ws.1.0"),
    "binance_spot_2021_http": cryptofeed("2021-10-11_*/BINANCE.http.0.0"),
    "binance_usdm_2021": cryptofeed("2021-07-22_*/BINANCE_FUTURES.ws.1.0.zst"),
    "binance_usdm_2021_http": cryptofeed("2021-07-22_*/BINANCE_FUTURES.http.0.0"),
    "binance_adapter": adapter_files("binance/test_data/*/*/*.json"),
    "bybit_linear": bybit_halves("BYBIT.ws.2"),
    "bybit_spot": bybit_halves("BYBIT.ws.3"),
    "bybit_l1_linear": cryptofeed("2025-08-16_*/BYBIT.ws.1.0"),
    "bybit_l1_spot": cryptofeed("2025-08-16_*/BYBIT.ws.2.0"),
    "bybit_l500": bybit_archive,
    "bybit_adapter": adapter_files("bybit/test_data/*.json"),
}


@pytest.fixture(scope="session")
def recorded(captures: Path) -> Callable[[str], list[bytes]]:
    """`recorded("binance_spot")`: every frame of a source, read once."""
    kept: dict[str, list[bytes]] = {}

    def frames(source: str) -> list[bytes]:
        if source not in kept:
            kept[source] = list(READERS[source](captures))
            assert kept[source], f"no frame found in {source}"
        return kept[source]

    return frames


class Grids:
    """Symbols of one decoder: name -> (slot, tick, lot)."""

    def __init__(self, **sizes: tuple[str, str]) -> None:
        self.of = {name: (slot, Decimal(tick), Decimal(lot)) for slot, (name, (tick, lot)) in enumerate(sizes.items())}

    def register(self, decoder: Any) -> Any:
        for name, (slot, tick, lot) in self.of.items():
            scales = []
            for size in (tick, lot):
                decimals = max(0, -int(size.normalize().as_tuple().exponent))
                scales += [decimals, int(size.scaleb(decimals))]
            decoder.add_symbol(name, slot, *scales)
        return decoder


OTHER, DELTA, SNAPSHOT, BBO, TRADE = range(5)
NS = 10**6


class Oracle:
    """What a decoder must say about a message that it understands, from json and Decimal."""

    def __init__(self, grids: Grids) -> None:
        self.grids = grids

    def px(self, text: str, symbol: str) -> int:
        ticks = Decimal(text) / self.grids.of[symbol][1]
        assert ticks == int(ticks), f"{text} is off the grid of {symbol} and was not refused"
        return int(ticks)

    def qty(self, text: str, symbol: str) -> int:
        return int((Decimal(text) / self.grids.of[symbol][2]).to_integral_value(ROUND_FLOOR))

    def side(self, levels: Any, symbol: str) -> list[tuple[int, int]]:
        return [(self.px(px, symbol), self.qty(qty, symbol)) for px, qty in levels]

    def message(self, kind: int, symbol: str, **said: Any) -> dict[str, Any]:
        known = symbol in self.grids.of
        told = {"first_seq": -1, "last_seq": -1, "prev_seq": -1, "cross_seq": -1, "exch_ts_ns": 0, "send_ts_ns": 0}
        told |= {"kind": kind, "slot": self.grids.of[symbol][0] if known else -1, "bids": [], "asks": [], "trades": []}
        for name, value in said.items():
            told[name] = value() if callable(value) and known else [] if callable(value) else value
        return told

    def binance(self, payload: bytes, symbol: str | None = None) -> dict[str, Any] | None:
        """`symbol` for an answer to a REST request; None: the message is not market data."""
        body = json.loads(payload)
        stream = ""
        if isinstance(body, dict) and "stream" in body and isinstance(body.get("data"), dict):
            stream, body = body["stream"], body["data"]
        if not isinstance(body, dict) or body.get("st", 1) != 1:
            return None
        name = body.get("e")
        times = {"exch_ts_ns": body.get("T", 0), "send_ts_ns": body.get("E", 0)}
        times = {key: value * NS for key, value in times.items() if isinstance(value, int)}
        if name == "depthUpdate":
            form = re.match(r"[^@]*@depth(?:$|@|(\d))", stream) if stream else None
            if stream and not form:
                return None
            s = body["s"]
            return self.message(
                SNAPSHOT if form and form[1] else DELTA, s, first_seq=body["U"], last_seq=body["u"],
                prev_seq=body.get("pu", -1), **times,
                bids=lambda: self.side(body["b"], s), asks=lambda: self.side(body["a"], s),
            )  # fmt: skip
        if name in ("trade", "aggTrade"):
            s, side = body["s"], -1 if body["m"] else 1
            return self.message(
                TRADE, s, **times,
                trades=lambda: [(side, self.px(body["p"], s), self.qty(body["q"], s), body["T"] * NS)],
            )  # fmt: skip
        if name is None and {"lastUpdateId", "bids", "asks"} <= body.keys():
            s = symbol or stream.partition("@")[0].upper()
            return self.message(
                SNAPSHOT, s, first_seq=body["lastUpdateId"], last_seq=body["lastUpdateId"], **times,
                bids=lambda: self.side(body["bids"], s), asks=lambda: self.side(body["asks"], s),
            )  # fmt: skip
        if name == "bookTicker" or (name is None and {"u", "s", "b", "B", "a", "A"} <= body.keys()):
            s = body["s"]
            return self.message(
                BBO, s, first_seq=body["u"], last_seq=body["u"], **times,
                bids=lambda: self.side([(body["b"], body["B"])], s),
                asks=lambda: self.side([(body["a"], body["A"])], s),
            )  # fmt: skip
        return None

    def bybit(self, payload: bytes, symbol: str | None = None) -> dict[str, Any] | None:
        body = json.loads(payload)
        if not isinstance(body, dict):
            return None
        topic = body.get("topic")
        found = re.fullmatch(r"(orderbook\.\d+|publicTrade)\.(.+)", topic, re.S) if isinstance(topic, str) else None
        if symbol is not None:
            if body.get("retCode") != 0 or "result" not in body:
                return None
            book, outer, kind = body["result"], body["result"], SNAPSHOT
        elif not found:
            return None
        elif found[1] == "publicTrade":
            return self.bybit_trades(body, found[2])
        else:
            book, outer, kind = body["data"], body, DELTA if body["type"] == "delta" else SNAPSHOT
        s = symbol or (found[2] if found else "")
        assert book["s"] == s, f"{book['s']} in a message about {s} was not refused"
        return self.message(
            kind, s, first_seq=book["u"], last_seq=book["u"], cross_seq=book.get("seq", -1),
            exch_ts_ns=outer.get("cts", 0) * NS, send_ts_ns=outer.get("ts", 0) * NS,
            bids=lambda: self.side(book["b"], s), asks=lambda: self.side(book["a"], s),
        )  # fmt: skip

    def bybit_trades(self, body: dict[str, Any], s: str) -> dict[str, Any]:
        sides = {"Buy": 1, "Sell": -1}
        trades = body["data"]
        told = self.message(
            TRADE, s, send_ts_ns=body.get("ts", 0) * NS,
            trades=lambda: [(sides[t["S"]], self.px(t["p"], s), self.qty(t["v"], s), t["T"] * NS) for t in trades],
        )  # fmt: skip
        if told["slot"] >= 0:
            assert {t["s"] for t in trades} <= {s}
            told["exch_ts_ns"] = told["trades"][-1][3] if trades else 0
            told["cross_seq"] = next((t["seq"] for t in reversed(trades) if "seq" in t), -1)
        return told


def told_by(decoder: Any) -> dict[str, Any]:
    names = "kind slot first_seq last_seq prev_seq cross_seq exch_ts_ns send_ts_ns bids asks trades"
    return {name: getattr(decoder, name) for name in names.split()}


@pytest.fixture(scope="session")
def grids() -> type[Grids]:
    return Grids


@pytest.fixture(scope="session")
def oracle() -> type[Oracle]:
    return Oracle


@pytest.fixture(scope="session")
def told() -> Callable[[Any], dict[str, Any]]:
    """Everything a decoder says about its last message."""
    return told_by
