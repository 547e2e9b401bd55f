"""The run directory: every file of a run, written whole or not at all."""
