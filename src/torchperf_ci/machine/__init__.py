"""Watch the machine while something is measured: its load, its GPUs, their clocks."""
