"""Ingest: sources, what guards them, and the loop that reads them into a sink."""
