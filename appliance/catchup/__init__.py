"""Catch-up: rounds of changed blocks from a source that goes on living to its replica."""
