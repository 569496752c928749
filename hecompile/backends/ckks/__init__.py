"""The `ckks` backend: the server evaluates several linear layers and the polynomials between them in one request, by SEAL."""
