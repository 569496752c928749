"""What the lattice parameters are worth, by our own table, and what is known about it."""
