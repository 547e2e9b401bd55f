"""Training: batches, loss, loop, reflow."""
