"""Chooses which entries may be revealed: how important entries are, the selection within a budget, and what masks leak."""
