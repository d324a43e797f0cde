"""The face of the extensions: Python code imports from here, Cython code cimports from the modules."""

# --- market data (decoders, books, sequences) ---

# --- journal and statistics (ring, histogram, stats page) ---

# --- trading path (sign, throttle, gate, listener) ---
