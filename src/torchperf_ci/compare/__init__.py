"""Compare base with head, live or recorded: effects, tolerances, verdicts, the report."""
