"""Targets: one client and plug-in per platform."""
