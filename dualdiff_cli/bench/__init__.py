"""Timing: one clock, the competitors, the published loops, and the tables that people read."""
