from typing import Final, final

from ext.book import Book
from ext.decode import Decoder

RULE_BINANCE_SPOT: Final[int]
RULE_BINANCE_USDM: Final[int]
RULE_BYBIT: Final[int]
RULES: Final[dict[int, str]]
OUT_OTHER: Final[int]
OUT_APPLIED: Final[int]
OUT_SNAPSHOT: Final[int]
OUT_STALE: Final[int]
OUT_BBO: Final[int]
OUT_TRADE: Final[int]
OUT_REPEAT: Final[int]
OUT_UNSYNCED: Final[int]
OUT_GAP: Final[int]
OUT_CROSSED: Final[int]
OUT_NO_MEMORY: Final[int]
OUTCOMES: Final[dict[int, str]]

@final
class SequencedBook:
    def __init__(self, rule: int, book: Book, max_depth: int = 0) -> None: ...
    @property
    def book(self) -> Book: ...
    @property
    def counters(self) -> dict[str, int]: ...
    def on_message(
        self,
        first_seq: int,
        last_seq: int,
        bids: list[tuple[int, int]],
        asks: list[tuple[int, int]],
        prev_seq: int = -1,
        is_snapshot: bool = False,
        is_rest: bool = False,
        exch_ts_ns: int = 0,
        recv_ts_ns: int = 0,
    ) -> int: ...

@final
class Feed:
    def __init__(self, decoder: Decoder) -> None: ...
    @property
    def decoder(self) -> Decoder: ...
    @property
    def slot(self) -> int: ...
    @property
    def unknown_count(self) -> int: ...
    @property
    def bbo(self) -> tuple[int, int, int, int]: ...
    @property
    def trades(self) -> list[tuple[int, int, int, int]]: ...
    def add(self, slot: int, rule: int, book: Book, max_depth: int = 0) -> None: ...
    def on_frame(self, payload: bytes, recv_ts_ns: int) -> int: ...
    def on_frames(self, payloads: list[bytes], recv_ts_ns: int) -> dict[int, int]: ...
    def on_snapshot(self, slot: int, payload: bytes, recv_ts_ns: int) -> int: ...
    def sequenced(self, slot: int) -> SequencedBook | None: ...
    def book(self, slot: int) -> Book: ...
    def counters(self, slot: int) -> dict[str, int]: ...
