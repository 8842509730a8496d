"""Explanations of changes: both sides profiled in turn, and what differs between them in the order of its part."""
