"""Loads and runs compiled models: the client's executor, the ways to reach a server, and the server itself."""
