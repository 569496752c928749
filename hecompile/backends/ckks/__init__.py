"""CKKS on SEAL: chains of linear layers and polynomials, evaluated by the server without a reply in between."""
