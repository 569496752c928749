"""Polynomials in place of activations: fits, error budget, norms without statistics, and what leaves its range."""
