"""Models: whatever can be fitted, sampled, saved and loaded."""
