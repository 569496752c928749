"""Replaces activations by polynomials, and norms by arithmetic that servers can do on ciphertexts.

`build.py` does all of it. `static_norms.py` and `norms.py` replace norms, `sites.py` finds activations, and `ranges.py`,
`fits.py` and `tables.py` fit their polynomials. `degrees.py` chooses degrees by `quality.py`, which predicts errors with
`adjoint.py` and measures them with `validation.py`. `allocate.py` is the optimisation behind it, `rewrite.py` writes the new
graph, and `out_of_range.py` finds values that leave a polynomial's range.
"""
