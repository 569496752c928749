"""Processes that `benchmarks/load.py` lets loose on a server: honest clients and hostile ones."""
