"""The pages of a history: a static site of its runs, made month by month, which needs no server."""
