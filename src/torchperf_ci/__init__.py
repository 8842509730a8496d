"""Performance CI for PyTorch projects."""

__version__ = "0.1.0"
