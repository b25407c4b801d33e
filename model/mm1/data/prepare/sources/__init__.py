"""The formats of raw data: which reader reads a file, and what becomes a sample."""
