"""The only place that knows GitHub: its variables, files, commands and API."""
