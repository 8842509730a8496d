"""Measure PyTorch's RNN and CNN micro-benchmark."""
