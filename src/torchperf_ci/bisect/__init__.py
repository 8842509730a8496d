"""Bisection: of the commits (or versions of a package) between a good and a bad one, which made the change."""
