"""The command line and every process beside the engine."""
