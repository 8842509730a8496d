"""What every room may use: records, the results folder, errors, text for people, files, statistics."""
