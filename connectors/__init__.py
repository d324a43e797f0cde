"""One folder a venue, the same file names in each. Connectors are state machines without I/O."""
