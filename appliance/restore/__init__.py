"""Restore: a plan, the replay of a store onto volumes, and the check of what they then hold."""
