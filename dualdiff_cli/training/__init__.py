"""Training: the batches, the loss and the loop."""
