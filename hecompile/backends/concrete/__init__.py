"""TFHE by Concrete: linear circuits without lookups, which need no keys, and small circuits with lookups."""
