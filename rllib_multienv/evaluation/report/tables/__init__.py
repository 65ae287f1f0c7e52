"""The tables of the report, one kind per file."""
