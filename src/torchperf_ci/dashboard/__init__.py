"""Judge a run by the runs before it, and tell how every case stands in a comment."""
