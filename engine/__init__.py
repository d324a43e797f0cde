"""The deterministic core and its shell. Outside `loop`, `http`, `journal`, `control` and `metrics` nothing here
reads a clock, a socket, a file or a random source."""
