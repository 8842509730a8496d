"""Shared by every room: records, the results folder, errors, text for people, files, statistics."""
