"""PyTorch's own: its suite runner, Scribe, its benchmark database, fastrnns."""
