"""Running an artifact: the client's executor, the transports and the server."""
