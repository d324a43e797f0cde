"""The face of the extensions: Python code imports from here, Cython code cimports from the modules."""

# --- market data (decoders, books, sequences) ---

# --- journal and statistics (ring, histogram, stats page) ---
from ext.ring import Ring as Ring
from ext.ring import RingReader as RingReader

# --- trading path (sign, throttle, gate, listener) ---
