"""Measures this machine for a profile of its speeds, and an artifact while it runs."""
