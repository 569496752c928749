"""How the library's modules depend on each other, counted: `python -m tests.layers` prints it."""
