"""The sampler's affine step x' = f x + g e on encrypted entries, the rest in clear: what `he-diffusion` runs at the server."""
