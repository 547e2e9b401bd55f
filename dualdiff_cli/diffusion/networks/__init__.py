"""The networks: embeddings, layers, and residual MLPs alone or as experts."""
