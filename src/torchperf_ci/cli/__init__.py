"""The commands. Each file parses, calls one function, prints and exits; nothing imports this package."""
