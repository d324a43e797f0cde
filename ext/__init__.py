"""The face of the extensions: Python code imports from here, Cython code cimports from the modules."""

# --- market data (decoders, books, sequences) ---
from ext.book import Book as Book
from ext.decode_binance import BinanceDecoder as BinanceDecoder
from ext.decode_bybit import BybitDecoder as BybitDecoder
from ext.gate import Gate as Gate
from ext.sequence import Feed as Feed
from ext.sequence import SequencedBook as SequencedBook

# --- journal and statistics (ring, histogram, stats page) ---
from ext.histogram import Histogram as Histogram
from ext.ring import Ring as Ring
from ext.ring import RingReader as RingReader
from ext.stats import StageClock as StageClock
from ext.stats import StatsPage as StatsPage
from ext.stats import StatsReader as StatsReader

# --- trading path (encode, sign, throttle, gate, listener) ---
from ext.encode import OrderTemplate as OrderTemplate
from ext.sign import HmacSha256 as HmacSha256
from ext.strategy import Strategy as Strategy
from ext.throttle import Throttle as Throttle
from ext.throttle import acquire_all as acquire_all
