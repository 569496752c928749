"""`ckks` without encryption: the same slot programs on plain vectors. The oracle, and what quality is measured with."""
