"""Share cases out over machines, and join what they uploaded."""
