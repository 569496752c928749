"""The same integers and packing without encryption: the oracle of the exact backends, and simulation."""
