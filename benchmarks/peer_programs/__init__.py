"""Programs of `benchmarks/peers.py`, one for each peer: run as scripts, by the Python of an environment in which the peer is."""
