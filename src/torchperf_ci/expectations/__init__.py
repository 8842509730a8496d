"""Expectation tables on disk: read, held against results, and rewritten from the runs of a commit."""
