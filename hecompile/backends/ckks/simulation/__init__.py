"""The backend `ckks_clear`: the slot programs of `ckks` on plain vectors, as a reference and to measure quality."""
