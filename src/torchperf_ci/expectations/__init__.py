"""Compare results with expectation tables, and rewrite the tables from a commit's runs."""
