"""Backends: how a region runs at a server that must not see its values. One package each, one line in `registry`."""
