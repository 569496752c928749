"""The server on the network: what it accepts, in which order it answers, and which metrics it publishes."""
