"""The `clear` backend: plain polynomials go where `bfv` sends ciphertexts. Nothing is hidden from the server."""
