"""The backend `concrete_lookups`: convolution, activation and convolution as one circuit of Concrete with table lookups (TLUs)."""
