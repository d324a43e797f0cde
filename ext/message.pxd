# The one shape that every market data decoder fills and every book consumes. No Python object in it.
from libc.stdint cimport int32_t, int64_t


cdef struct level_t:
    int64_t px_ticks
    int64_t qty_lots  # absolute; 0 deletes the level


cdef enum msg_kind_t:
    # > 0: understood. 0: valid JSON that is not market data of a known kind (control, private): the cold path's.
    # < 0: refused, a named code (REFUSED_* of ext/scan.pxd).
    MSG_OTHER = 0
    MSG_DEPTH_DELTA = 1
    MSG_DEPTH_SNAPSHOT = 2
    MSG_BBO = 3
    MSG_TRADE = 4


cdef struct trade_t:
    int64_t px_ticks
    int64_t qty_lots
    int64_t exch_ts_ns
    int32_t side  # aggressor: +1 buy, -1 sell


cdef struct md_msg_t:
    int32_t kind
    int32_t slot            # Instrument.index as registered with the decoder; -1: symbol not registered
    int64_t first_seq       # Binance U; Bybit u; bookTicker u
    int64_t last_seq        # Binance u / lastUpdateId; Bybit u
    int64_t prev_seq        # Binance USD-M pu; -1 when the venue has none
    int64_t cross_seq       # Bybit seq; -1 when the venue has none
    int64_t exch_ts_ns      # matching engine time (Binance T, Bybit cts), 0 when absent
    int64_t send_ts_ns      # gateway time (Binance E, Bybit ts), 0 when absent
    int32_t bid_count
    int32_t ask_count
    int32_t trade_count
    level_t* bids           # scratch of the decoder, valid until its next call
    level_t* asks
    trade_t* trades
