"""Compare a run with the runs before it, and tell what changed in a comment."""
