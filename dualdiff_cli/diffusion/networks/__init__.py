"""The networks: embeddings, layers, and residual MLPs, one alone or several as experts."""
