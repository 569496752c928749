"""The server on the network: what it takes from strangers, in which order it answers, and what it tells of itself."""
