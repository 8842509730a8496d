"""Pure functions over records: data in, data out. Nothing here reads files, the network or the environment."""
