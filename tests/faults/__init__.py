"""Servers and clients that fail, hang or attack."""
