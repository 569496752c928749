"""The model zoo: small trained networks and builders, by name. One line each in `_ZOO`."""
